/* cli/child.c: see child.h. */
#include "cli/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

/* How often a program that is watched is looked after, and what it has between SIGTERM and SIGKILL. */
#define WATCH_MS 100
#define GRACE_NS (2 * NS_PER_S)

/* Faults of our own are not the program's business; blocked, they would kill without a word anyway. */
static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGABRT};

int child_prepare(struct child *c, struct hearth_error *err) {
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++)
        sigdelset(&all, synchronous[i]);
    c->signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (c->signals < 0)
        return error_errno(err, errno, "cannot wait for signals");
    sigprocmask(SIG_SETMASK, &all, &c->former);
    /* Who started us may have left SIGCHLD ignored: then the kernel would not keep the program's status for us. */
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &c->former_sigchld);
    return 0;
}

void child_deinit(struct child *c) {
    if (c->signals >= 0) {
        sigaction(SIGCHLD, &c->former_sigchld, NULL);
        sigprocmask(SIG_SETMASK, &c->former, NULL);
    }
    c->signals = close_fd(c->signals);
}

/* What the child could not do before it became the program. */
struct failure {
    enum { AT_TRIAL, AT_EXEC } step;
    int sys_errno;
};

static _Noreturn void become(const struct child *c, const struct child_program *p, pid_t parent, int report) {
    struct failure failure = {.step = AT_TRIAL};
    /* Files that it waits for would come to it unverified, were both this process and the daemon gone. */
    prctl(PR_SET_PDEATHSIG, p->watch ? SIGKILL : SIGTERM);
    if (getppid() != parent) /* it died before we asked to be told */
        _exit(125);
    struct rlimit limit;
    if (p->fd_limit && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = p->fd_limit;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    /* Only the way there: opening it could wait, for a file that is still loading. */
    int fd = p->trial ? open(p->trial, O_PATH | O_CLOEXEC) : -1;
    if (p->trial && fd < 0) {
        failure.sys_errno = errno;
    } else {
        close_fd(fd);
        failure.step = AT_EXEC;
        sigaction(SIGCHLD, &c->former_sigchld, NULL);
        sigprocmask(SIG_SETMASK, &c->former, NULL);
        execvp(p->argv[0], p->argv);
        failure.sys_errno = errno;
    }
    while (write(report, &failure, sizeof(failure)) < 0 && errno == EINTR)
        ;
    _exit(125);
}

static int explain(const struct child_program *p, const struct failure *f, int *status, struct hearth_error *err) {
    if (f->step == AT_TRIAL) {
        *status = 125;
        error_errno(err, f->sys_errno, "the program could not follow the links to the artifact's files");
        error_at(err, p->trial, HEARTH_NO_OFFSET);
        error_hint(err, "/proc must be mounted, and hearth and the program have the same uid and gid");
        return err ? (int)err->code : HEARTH_E_SYSTEM;
    }
    *status = f->sys_errno == ENOENT ? 127 : 126;
    error_errno(err, f->sys_errno, "cannot run '%s'", p->argv[0]);
    return err ? (int)err->code : HEARTH_E_SYSTEM;
}

static int start(struct child *c, const struct child_program *p, int *status, struct hearth_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_errno(err, errno, "cannot make a pipe");
    _cleanup_close_ int reader = ends[0];
    _cleanup_close_ int writer = ends[1];
    prctl(PR_SET_DUMPABLE, 1); /* or nobody may look at /proc/PID/fd: a program that cannot be read has it at 0 */
    pid_t parent = getpid();
    c->pid = fork();
    if (c->pid < 0)
        return error_errno(err, errno, "cannot start a process");
    if (c->pid == 0)
        become(c, p, parent, writer);
    writer = close_fd(writer);
    struct failure failure;
    ssize_t n;
    do
        n = read(reader, &failure, sizeof(failure));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(failure))
        return 0; /* the pipe closed at exec */
    waitpid(c->pid, NULL, 0);
    return explain(p, &failure, status, err);
}

/* Whether a signal that came to us has to be passed on, or has reached the program already. */
static bool is_ours_to_pass(const struct child *c, const struct signalfd_siginfo *s) {
    if ((pid_t)s->ssi_pid == c->pid && s->ssi_code <= 0)
        return false; /* it signals its whole group */
    switch (s->ssi_signo) {
    case SIGPIPE: /* from our own writing */
        return false;
    case SIGINT:
    case SIGQUIT:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGWINCH:
        return s->ssi_code != SI_KERNEL; /* the terminal's go to the whole group */
    case SIGHUP:                         /* the same, but a session's leader may get it alone */
        return s->ssi_code != SI_KERNEL || getsid(0) == getpid();
    default:
        return true;
    }
}

/* Collects what happened to the program. True when it has ended. */
static bool collect(const struct child *c, int *status) {
    int w;
    for (;;) {
        pid_t pid = waitpid(-1, &w, WNOHANG | WUNTRACED);
        if ((pid < 0 && errno == EINTR) || (pid > 0 && pid != c->pid))
            continue; /* another: process 1 of a container gets all that lose their parent */
        if (pid <= 0)
            return false;
        if (WIFEXITED(w)) {
            *status = WEXITSTATUS(w);
            return true;
        }
        if (WIFSIGNALED(w)) {
            *status = 128 + WTERMSIG(w);
            return true;
        }
        /* Stopped. By job control: stop with it. By SIGSTOP: somebody means the program alone, and will continue it
         * alone, which we could not notice if we were stopped. */
        if (WSTOPSIG(w) != SIGSTOP)
            raise(SIGSTOP);
    }
}

/* ---- ending the program and whatever it started ---- */

static void signal_descendants(pid_t of, int signal);

/* The children that one thread of a process made. */
static void signal_children(pid_t of, const char *thread, int signal) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", (int)of, thread);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    int pid;
    while (f && fscanf(f, "%d", &pid) == 1) {
        signal_descendants(pid, signal);
        kill(pid, signal);
    }
}

static void signal_descendants(pid_t of, int signal) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)of);
    _cleanup_closedir_ DIR *tasks = opendir(path);
    for (struct dirent *d; tasks && (d = readdir(tasks));)
        if (d->d_name[0] != '.')
            signal_children(of, d->d_name, signal);
}

/* True when nobody is left: orphans have become our children. */
static bool reap_all(void) {
    pid_t pid;
    do
        pid = waitpid(-1, NULL, WNOHANG);
    while (pid > 0 || (pid < 0 && errno == EINTR));
    return pid < 0;
}

static void end_all(void) {
    uint64_t kill_at = clock_now() + GRACE_NS;
    signal_descendants(getpid(), SIGTERM);
    signal_descendants(getpid(), SIGCONT); /* who is stopped hears of it only then */
    while (!reap_all()) {
        if (clock_now() >= kill_at)
            signal_descendants(getpid(), SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)NS_PER_MS}, NULL);
    }
}

/* ---- the whole ---- */

static int look_after(const struct child_program *program, bool *over, struct hearth_error *err) {
    int r = program->watch(program->user, over, err);
    if (r != 0)
        end_all();
    else if (*over)
        prctl(PR_SET_CHILD_SUBREAPER, 0);
    return r;
}

int child_run(struct child *c, const struct child_program *program, int *status, struct hearth_error *err) {
    *status = 125;
    bool over = !program->watch;
    if (!over)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    int r = start(c, program, status, err);
    while (r == 0) {
        struct signalfd_siginfo s;
        struct pollfd p = {.fd = c->signals, .events = POLLIN};
        int ready = over ? 1 : poll(&p, 1, WATCH_MS);
        if (!over && (r = look_after(program, &over, err)) != 0)
            break;
        ssize_t n = ready > 0 ? read(c->signals, &s, sizeof(s)) : 0;
        if (n == 0 || (n < 0 && errno == EINTR))
            continue;
        if (n != (ssize_t)sizeof(s))
            return error_errno(err, n < 0 ? errno : EIO, "cannot wait for signals");
        if (s.ssi_signo == SIGCHLD) {
            if (collect(c, status)) {
                if (!over) /* what it leaves behind may wait for files that nobody would look after */
                    end_all();
                return 0;
            }
        } else if (is_ours_to_pass(c, &s)) {
            kill(c->pid, (int)s.ssi_signo);
        }
    }
    return r;
}
