/* artifact/parse_process.c: see parse_process.h.
 *
 * posix_spawn(3), not fork: the daemon has threads, and a forked child would keep its writable mappings alive, which
 * keeps memfds from being sealed. A pidfd names the helper for as long as we hold it, so nothing here can hit another
 * process, nor reap another's child.
 */
#include "artifact/parse_process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "artifact/parse_channel.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

#define HELPER "hearth-parse"

/* The helper is there, or should be, and cannot be used. */
static int unusable(const char *helper, int sys_errno, const char *what, struct hearth_error *err) {
    error_set(err, HEARTH_E_SYSTEM, "the parser helper cannot be %s: %s", what, strerrordesc_np(sys_errno));
    if (err)
        err->sys_errno = sys_errno;
    error_at(err, helper, HEARTH_NO_OFFSET);
    error_hint(err, "install hearth again; the helper belongs beside the program or in " HEARTH_LIBEXECDIR);
    return HEARTH_E_SYSTEM;
}

/* Beside the program, as it is built; else where it lies from the program once installed, wherever that was moved to;
 * else where it was to be installed. */
static int find_helper(const char *path, char *buffer, size_t size, struct hearth_error *err) {
    static const char *const places[] = {HELPER, HEARTH_LIBEXEC_FROM_BIN "/" HELPER};
    if (path) {
        snprintf(buffer, size, "%s", path);
        return access(buffer, X_OK) == 0 ? 0 : unusable(buffer, errno, "executed", err);
    }
    ssize_t n = readlink("/proc/self/exe", buffer, size - 1);
    buffer[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(buffer, '/');
    size_t used = slash ? (size_t)(slash + 1 - buffer) : 0;
    for (size_t i = 0; used > 0 && i < sizeof(places) / sizeof(places[0]); i++)
        if ((size_t)snprintf(buffer + used, size - used, "%s", places[i]) < size - used && access(buffer, X_OK) == 0)
            return 0;
    snprintf(buffer, size, "%s", HEARTH_LIBEXECDIR "/" HELPER);
    return access(buffer, X_OK) == 0 ? 0 : unusable(buffer, errno, "executed", err);
}

/* A duplicate above the numbers that the helper's descriptors get, so that placing one cannot close another. */
static int lift(int fd) {
    return fcntl(fd, F_DUPFD_CLOEXEC, PARSE_OUTPUT_FD + 1);
}

static int place_fds(posix_spawn_file_actions_t *actions, int socket, int output) {
    int r = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    r = r ? r : posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
#ifndef HEARTH_SANITIZED /* whose reports are wanted */
    r = r ? r : posix_spawn_file_actions_adddup2(actions, 1, 2);
#endif
    r = r ? r : posix_spawn_file_actions_adddup2(actions, socket, PARSE_SOCKET_FD);
    return r ? r : posix_spawn_file_actions_adddup2(actions, output, PARSE_OUTPUT_FD);
}

/* Our threads block signals and ignore SIGPIPE; the helper starts with neither. */
static int set_signals(posix_spawnattr_t *attributes) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawnattr_setsigmask(attributes, &none);
    r = r ? r : posix_spawnattr_setsigdefault(attributes, &all);
    return r ? r : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* 0 or an errno. */
static int spawn(const char *path, int socket, int output, pid_t *pid) {
    char *argv[] = {(char *)path, NULL};
#ifdef HEARTH_SANITIZED
    char **environment = environ; /* options for the run-times */
#else
    char *environment[] = {NULL}; /* nothing that could steer the loader */
#endif
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return r;
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        r = place_fds(&actions, socket, output);
        r = r ? r : set_signals(&attributes);
        r = r ? r : posix_spawn(pid, path, &actions, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return r;
}

int parse_process_start(struct parse_process *p, const char *path, int output, struct hearth_error *err) {
    char program[PATH_MAX];
    int r = find_helper(path, program, sizeof(program), err);
    if (r != 0)
        return r;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "no socket for the parser helper");
    p->socket = pair[0];
    _cleanup_close_ int theirs = pair[1];
    _cleanup_close_ int socket = lift(theirs);
    _cleanup_close_ int index = lift(output);
    if (socket < 0 || index < 0)
        return error_errno(err, errno, "no descriptor for the parser helper");
    r = spawn(program, socket, index, &p->pid);
    if (r != 0) {
        p->pid = 0;
        if (r == EAGAIN || r == ENOMEM)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory, or no process left, to start the parser helper");
        if (r == EMFILE || r == ENFILE)
            return error_errno(err, r, "the parser helper cannot be started");
        return unusable(program, r, "started", err);
    }
    p->pidfd = pidfd_open(p->pid, 0);
    return p->pidfd < 0 ? error_errno(err, errno, "the parser helper cannot be watched") : 0;
}

int parse_process_timeout(struct hearth_error *err) {
    error_set(err, HEARTH_E_PARSER, "the parser took too long and was ended");
    error_hint(err, "a file that is made to be slow is refused; if this one is sound, please report it");
    return HEARTH_E_PARSER;
}

static int describe_signal(int sig, struct hearth_error *err) {
    switch (sig) {
    case SIGSYS:
        return error_set(err, HEARTH_E_PARSER, "the parser made a system call that it may not make and was killed");
    case SIGXCPU:
        return error_set(err, HEARTH_E_PARSER, "the parser used up its CPU time and was killed");
    case SIGXFSZ:
        return error_set(err, HEARTH_E_PARSER, "the parser wrote more than its memory limit allows and was killed");
    case SIGKILL:
        return error_set(err, HEARTH_E_PARSER, "the parser was killed, most likely for want of memory");
    default:
        return error_set(err, HEARTH_E_PARSER, "the parser crashed: SIG%s",
                         sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
    }
}

int parse_process_wait(struct parse_process *p, uint64_t deadline, struct hearth_error *err) {
    struct pollfd poll_exit = {.fd = p->pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&poll_exit, 1, clock_poll_ms(deadline));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return parse_process_timeout(err);
    siginfo_t info = {0};
    int r;
    do
        r = waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
    while (r < 0 && errno == EINTR);
    p->pid = 0;
    if (r < 0) /* the program ignores SIGCHLD, so the kernel reaped it; how it ended is lost */
        return errno == ECHILD ? 0 : error_errno(err, errno, "the parser helper cannot be waited for");
    if (info.si_code != CLD_EXITED)
        return describe_signal(info.si_status, err);
    if (info.si_status != 0)
        return error_set(err, HEARTH_E_PARSER, "the parser ended with status %d", info.si_status);
    return 0;
}

void parse_process_deinit(struct parse_process *p) {
    if (p->pid > 0) {
        if (p->pidfd >= 0)
            pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
        else
            kill(p->pid, SIGKILL); /* nobody has reaped it, so the number is still its own */
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        p->pid = 0;
    }
    p->pidfd = close_fd(p->pidfd);
    p->socket = close_fd(p->socket);
}
