/* cli/autostart.c: starting the user's own hearthd.
 *
 * `hearthd --detach` returns 0 once the daemon answers on its socket, or says why not on stderr and fails. Its stderr
 * is a pipe that is read until the program we started has ended, not until end of file: the daemon proper may hold the
 * other end for as long as it lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

#define PATH_BYTES 4096
#define IDLE_EXIT "30m"

extern char **environ;

struct words {
    size_t used;
    char text[sizeof(((struct hearth_error *)0)->message)];
};

/* hearthd beside this program, else the one of that name in PATH. */
static void find_daemon(char path[PATH_BYTES]) {
    ssize_t n = readlink("/proc/self/exe", path, PATH_BYTES - sizeof("/hearthd"));
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (slash) {
        strcpy(slash, "/hearthd");
        if (access(path, X_OK) == 0)
            return;
    }
    strcpy(path, "hearthd");
}

/* Reads what is there into `w`; keeps the beginning of what does not fit. */
static void drain(int fd, struct words *w) {
    char buffer[512];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        size_t take = sizeof(w->text) - 1 - w->used;
        take = take < (size_t)n ? take : (size_t)n;
        memcpy(w->text + w->used, buffer, take);
        w->used += take;
    }
    w->text[w->used] = '\0';
}

static int spawn(const char *program, const char *socket, int err_fd, pid_t *pid) {
    const char *const argv[] = {"hearthd", "--detach", "--idle-exit", IDLE_EXIT, "--socket", socket, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    int r = posix_spawnp(pid, program, &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return r;
}

/* Waits for the program we started. Returns its wait status, or -1 when the deadline came first. */
static int wait_for(pid_t pid, int err_fd, uint64_t deadline, struct words *w) {
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = err_fd, .events = POLLIN}};
    while (pidfd >= 0) {
        int ready = poll(fds, 2, clock_poll_ms(deadline));
        if (ready < 0 && errno == EINTR)
            continue;
        drain(err_fd, w);
        if (fds[1].revents & POLLHUP)
            fds[1].fd = -1;
        if (ready == 0) {
            kill(pid, SIGTERM);
            waitpid(pid, NULL, 0);
            return -1;
        }
        if (fds[0].revents)
            break;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    drain(err_fd, w);
    return status;
}

/* The last line that is not empty, without "hearthd: ": the daemon's reason. */
static const char *reason(struct words *w) {
    while (w->used > 0 && w->text[w->used - 1] == '\n')
        w->text[--w->used] = '\0';
    char *line = strrchr(w->text, '\n');
    line = line ? line + 1 : w->text;
    line += strncmp(line, "hearthd: ", 9) == 0 ? 9 : 0;
    return line[0] ? line : "it gave no reason";
}

static int start(const char *socket, uint64_t deadline, struct hearth_error *err) {
    char program[PATH_BYTES];
    find_daemon(program);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, errno, "cannot make a pipe");
    _cleanup_close_ int reader = ends[0];
    _cleanup_close_ int writer = ends[1];
    pid_t pid;
    int r = spawn(program, socket, writer, &pid);
    writer = close_fd(writer);
    if (r != 0) {
        error_errno(err, r, "cannot start %s", program);
        error_hint(err, "install hearthd beside hearth or in PATH, or name a running daemon with --socket");
        return err ? (int)err->code : HEARTH_E_SYSTEM;
    }
    struct words words = {0};
    int status = wait_for(pid, reader, deadline, &words);
    if (status == 0)
        return 0;
    if (status == -1)
        error_set(err, HEARTH_E_TIMEOUT, "hearthd did not get ready in time: %s", reason(&words));
    else
        error_set(err, HEARTH_E_SYSTEM, "hearthd could not be started: %s", reason(&words));
    error_at(err, socket, HEARTH_NO_OFFSET);
    return status == -1 ? HEARTH_E_TIMEOUT : HEARTH_E_SYSTEM;
}

int autostart(const char *socket, uint64_t deadline, struct hearth_error *err) {
    /* Who started us may have left SIGCHLD ignored: then the kernel would not keep hearthd's status for us. */
    struct sigaction former;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &former);
    int r = start(socket, deadline, err);
    sigaction(SIGCHLD, &former, NULL);
    return r;
}
