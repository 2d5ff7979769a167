/* cli/child.h: running a program as if its parent were not there.
 *
 * The parent stays in the program's process group. What a terminal sends (Ctrl-C, Ctrl-\, Ctrl-Z, a hang-up) reaches
 * the program by itself; what others send to the parent alone is passed on. When the program is stopped by job
 * control the parent stops too, so that a shell sees its job stopped, and continuing the parent continues the program.
 * If the parent is killed outright the program gets SIGTERM: what it was given would no longer be there.
 *
 * Call child_prepare() before anything is made that must be removed afterwards: from there on no signal that can be
 * caught ends this process, until child_run() has passed it on. Single-threaded.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <hearth/error.h>

struct child {
    sigset_t former; /* what the program gets back, and the next too */
    struct sigaction former_sigchld;
    int signals; /* signalfd, or -1 */
    pid_t pid;
};

#define CHILD_NULL \
    { .signals = -1 }

/* Errors: NO_FDS, SYSTEM. */
int child_prepare(struct child *c, struct hearth_error *err);

struct child_program {
    char *const *argv; /* ends with NULL; looked up in PATH */
    const char *trial; /* a link that the program must be able to open; may be NULL */
    uint64_t fd_limit; /* soft limit of open files that it gets; 0: ours */
    /* Asked ten times a second until *over; may be NULL. With an error the program, and all processes that it has
     * started, are ended, by SIGTERM and two seconds later by SIGKILL; so are those that it leaves behind before it is
     * over. If the parent dies before, the program gets SIGKILL. */
    int (*watch)(void *user, bool *over, struct hearth_error *err);
    void *user;
};

/* Runs the program to its end. *status is its exit status, or 128 + the signal that ended it; when it could not be
 * started, 127 (not found), 126 (cannot be executed) or 125 (all else), with an error; likewise 125 with the error of
 * `watch`. */
int child_run(struct child *c, const struct child_program *program, int *status, struct hearth_error *err);
void child_deinit(struct child *c);
