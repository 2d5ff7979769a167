/* daemon/init.c: see init.h. */
#include "daemon/init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/error.h"

/* Those that somebody may send to a service. All others stay without effect: to process 1 the kernel delivers nothing
 * that it has no handler for. */
static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* Ends with the daemon, with its exit status. */
static void collect(pid_t daemon) {
    int status;
    for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
        if (ended == daemon)
            _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

_Noreturn static void stay(pid_t daemon, const sigset_t *set) {
    for (;;) {
        int sig = sigwaitinfo(set, NULL);
        if (sig == SIGCHLD)
            collect(daemon);
        else if (sig > 0)
            kill(daemon, sig);
    }
}

/* Who starts process 1 of a container names it in the variables that tell a service its sockets and its watchdog. */
static void inherit(const char *variable) {
    char pid[16];
    const char *whose = getenv(variable);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (whose && strcmp(whose, "1") == 0)
        setenv(variable, pid, 1);
}

int init_stay_behind(struct hearth_error *err) {
    sigset_t set, former;
    if (getpid() != 1)
        return 0;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
        sigaddset(&set, passed_on[i]);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set, &former); /* what comes before the child is there waits for it */
    pid_t child = fork();
    if (child > 0)
        stay(child, &set);
    int failed = errno;
    sigprocmask(SIG_SETMASK, &former, NULL);
    if (child < 0)
        return error_errno(err, failed, "as process 1 it cannot start the daemon proper");
    inherit("LISTEN_PID");
    inherit("WATCHDOG_PID");
    return 0;
}
