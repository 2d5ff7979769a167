/* daemon/detach.c: see detach.h. */
#include "daemon/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"
#include "util/text.h"

#define LOG_BYTES_MAX (1 << 20)

void print_failure(const struct hearth_error *err) {
    const struct {
        const char *before, *text;
    } facts[] = {{"", err->message},
                 {": ", err->file},
                 {"; expected ", err->expected},
                 {", found ", err->found},
                 {"; hint: ", err->hint}};
    fputs("hearthd: ", stderr);
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        char text[2048];
        if (facts[i].text[0])
            fprintf(stderr, "%s%s", facts[i].before,
                    format_printable(facts[i].text, strlen(facts[i].text), text, sizeof(text)));
    }
    fputc('\n', stderr);
}

/* What the daemon reports travels as the value itself: both ends are one program. */
_Noreturn static void wait_for_report(int pipe_fd) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    size_t got = 0;
    ssize_t n;
    while (got < sizeof(err) &&
           ((n = read(pipe_fd, (char *)&err + got, sizeof(err) - got)) > 0 || (n < 0 && errno == EINTR)))
        got += n > 0 ? (size_t)n : 0;
    if (got < sizeof(err)) {
        error_clear(&err);
        error_set(&err, HEARTH_E_SYSTEM, "the daemon died while it started");
        error_hint(&err, "run hearthd without --detach to see why");
    }
    if (err.code)
        print_failure(&err);
    _exit(err.code ? EXIT_FAILURE : EXIT_SUCCESS);
}

int detach_begin(int *out, struct hearth_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "no pipe to the background");
    _cleanup_close_ int reader = ends[0];
    _cleanup_close_ int writer = ends[1];
    pid_t child = fork();
    if (child < 0)
        return error_errno(err, errno, "the background process cannot be made");
    if (child > 0) {
        writer = close_fd(writer);
        waitpid(child, NULL, 0);
        wait_for_report(reader);
    }
    /* A session leader could get a terminal by opening one; its child cannot. */
    if (setsid() < 0 || (child = fork()) < 0) {
        error_errno(err, errno, "the background process cannot be made");
        detach_report(steal_fd(&writer), err);
        _exit(EXIT_FAILURE);
    }
    if (child > 0)
        _exit(EXIT_SUCCESS);
    if (chdir("/") < 0)
        return error_errno(err, errno, "the background process cannot leave its directory");
    int report = steal_fd(&writer);
    if (report > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)report - 1, 0);
    close_range((unsigned)report + 1, ~0U, 0);
    reader = -1; /* closed with the others */
    *out = report;
    return 0;
}

int detach_log(const char *socket, struct hearth_error *err) {
    char path[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(socket, '/');
    snprintf(path, sizeof(path), "%.*s/hearthd.log", (int)(slash ? slash - socket : 0), socket);
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    _cleanup_close_ int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (null < 0 || log < 0) {
        int code = error_errno(err, errno, "the log cannot be opened");
        error_at(err, log < 0 ? path : "/dev/null", HEARTH_NO_OFFSET);
        return code;
    }
    /* The socket may be in a directory like /tmp, where somebody else could have made a file or fifo of this name. */
    if (fstat(log, &st) < 0)
        return error_errno(err, errno, "the log cannot be looked at");
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) {
        error_set(err, HEARTH_E_DENIED, "the log could be somebody else's");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_expected(err, "a file of uid %u with one name", (unsigned)geteuid());
        error_found(err, "%s of uid %u with %u names", S_ISREG(st.st_mode) ? "a file" : "no file", (unsigned)st.st_uid,
                    (unsigned)st.st_nlink);
        error_hint(err, "remove it, or choose another place with --socket");
        return HEARTH_E_DENIED;
    }
    /* Neither many starts nor many lines must fill a runtime directory, which is memory. */
    if (st.st_size > LOG_BYTES_MAX && ftruncate(log, 0) < 0)
        return error_errno(err, errno, "the log cannot be emptied");
    log_bound(LOG_BYTES_MAX);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        return error_errno(err, errno, "the log cannot take stderr's place");
    return 0;
}

void detach_report(int report, const struct hearth_error *err) {
    static const struct hearth_error well = HEARTH_ERROR_INIT;
    if (report < 0)
        return;
    const char *from = (const char *)(err ? err : &well);
    size_t left = sizeof(*err);
    for (ssize_t n; left > 0 && ((n = write(report, from, left)) > 0 || (n < 0 && errno == EINTR));) {
        from += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    close(report);
}
