/* cli/child: a program that runs as if its parent were not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/child.h"
#include "util/error.h"

/* Runs a shell command; returns its status. `before` is a signal that comes before the program starts, or 0. */
static int shell(const char *command, int before) {
    struct child c = CHILD_NULL;
    struct hearth_error err;
    char *argv[] = {"sh", "-c", (char *)command, NULL};
    struct child_program program = {.argv = argv};
    int status = -1;
    assert_int_equal(child_prepare(&c, &err), 0);
    if (before)
        kill(getpid(), before);
    assert_int_equal(child_run(&c, &program, &status, &err), 0);
    child_deinit(&c);
    return status;
}

static void a_status_is_passed_through(void **state) {
    (void)state;
    assert_int_equal(shell("exit 0", 0), 0);
    assert_int_equal(shell("exit 42", 0), 42);
    assert_int_equal(shell("exit 255", 0), 255);
}

static void death_by_a_signal_is_128_and_the_signal(void **state) {
    (void)state;
    assert_int_equal(shell("kill -KILL $$", 0), 128 + SIGKILL);
    assert_int_equal(shell("kill -TERM $$", 0), 128 + SIGTERM);
}

static int start_failure(char *name, const char *trial, struct hearth_error *err) {
    struct child c = CHILD_NULL;
    char *argv[] = {name, NULL};
    struct child_program program = {.argv = argv, .trial = trial};
    int status = -1;
    assert_int_equal(child_prepare(&c, err), 0);
    int r = child_run(&c, &program, &status, err);
    assert_true(r != 0);
    assert_int_equal(r, err->code);
    child_deinit(&c);
    return status;
}

static void what_cannot_start_has_the_statuses_of_env(void **state) {
    (void)state;
    struct hearth_error err;
    assert_int_equal(start_failure("no-such-program-at-all", NULL, &err), 127);
    assert_non_null(strstr(err.message, "no-such-program-at-all"));
    assert_int_equal(start_failure("/", NULL, &err), 126);
    assert_int_equal(start_failure("/etc/passwd/x", NULL, &err), 126); /* not a directory: it is not just absent */
}

static void a_link_that_cannot_be_followed_stops_the_start(void **state) {
    (void)state;
    struct hearth_error err;
    assert_int_equal(start_failure("true", "/proc/self/no-such-link", &err), 125);
    assert_string_equal(err.file, "/proc/self/no-such-link");
    assert_true(err.hint[0] != '\0');
}

static void a_signal_to_the_parent_reaches_the_program(void **state) {
    (void)state;
    assert_int_equal(shell("exec sleep 1000", SIGTERM), 128 + SIGTERM);
    assert_int_equal(shell("exec sleep 1000", SIGINT), 128 + SIGINT);
    assert_int_equal(shell("exec sleep 1000", SIGUSR2), 128 + SIGUSR2);
    assert_int_equal(shell("exec sleep 1000", SIGRTMIN + 3), 128 + SIGRTMIN + 3);
}

static void the_program_gets_the_mask_that_we_had(void **state) {
    (void)state;
    sigset_t one, former, now;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    sigprocmask(SIG_BLOCK, &one, &former);
    assert_int_equal(shell("test $(awk '/SigBlk/ {print $2}' /proc/$$/status) = 0000000000000200", 0), 0);
    sigprocmask(SIG_SETMASK, NULL, &now);
    assert_int_equal(sigismember(&now, SIGUSR1), 1);
    assert_int_equal(sigismember(&now, SIGTERM), 0);
    sigprocmask(SIG_SETMASK, &former, NULL);
}

static void an_ignored_sigchld_loses_no_status(void **state) {
    (void)state;
    signal(SIGCHLD, SIG_IGN);
    assert_int_equal(shell("exit 3", 0), 3);
    assert_true(signal(SIGCHLD, SIG_DFL) == SIG_IGN); /* as we had it */
}

/* Runs shell(command) in a process group of its own, as a shell would run a job. */
static pid_t job(const char *command) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setpgid(0, 0);
        _exit(shell(command, 0));
    }
    return pid;
}

static void a_job_that_stops_is_seen_as_stopped_and_goes_on(void **state) {
    (void)state;
    int status;
    pid_t pid = job("kill -TSTP $$; exit 4");
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    kill(pid, SIGCONT); /* to the parent alone: it continues the program */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 4);
}

static void a_program_stopped_by_sigstop_may_be_continued_alone(void **state) {
    (void)state;
    int status;
    pid_t pid = job("self=$$; (sleep 0.2; kill -CONT $self) & kill -STOP $$; exit 5");
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 5);
}

static void a_program_does_not_outlive_a_killed_parent(void **state) {
    (void)state;
    int ends[2], status;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(shell("echo; exec sleep 1000", 0));
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1); /* it runs */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(read(ends[0], &byte, 1), 0); /* its stdout has closed: it is gone */
    close(ends[0]);
}

/* A watch that fails when the program has said that it runs, or is over then. */
struct watched {
    int out; /* the program's stdout */
    bool fails;
};

static int watch(void *user, bool *over, struct hearth_error *err) {
    struct watched *w = user;
    char byte;
    if (read(w->out, &byte, 1) != 1)
        return 0;
    *over = !w->fails;
    return w->fails ? error_set(err, HEARTH_E_INTEGRITY, "the load failed") : 0;
}

static int run_watched(const char *command, bool fails, int *code) {
    struct child c = CHILD_NULL;
    struct hearth_error err;
    struct watched w = {.fails = fails};
    int ends[2], former = dup(STDOUT_FILENO), status = -1;
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    w.out = ends[0];
    dup2(ends[1], STDOUT_FILENO);
    close(ends[1]);
    char *argv[] = {"sh", "-c", (char *)command, NULL};
    struct child_program program = {.argv = argv, .watch = watch, .user = &w};
    int prepared = child_prepare(&c, &err);
    *code = prepared ? prepared : child_run(&c, &program, &status, &err);
    child_deinit(&c);
    dup2(former, STDOUT_FILENO);
    close(former);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 0); /* nobody who could write to it is left */
    close(ends[0]);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    return status;
}

static void a_program_whose_watch_fails_is_ended_with_all_it_has_started(void **state) {
    (void)state;
    int code;
    assert_int_equal(run_watched("echo; exec sleep 1000", true, &code), 125);
    assert_int_equal(code, HEARTH_E_INTEGRITY);
    /* One that ignores the signal, in a session of its own, whose parent has gone. */
    assert_int_equal(run_watched("(trap '' TERM; setsid sh -c 'echo; sleep 1000' &); exec sleep 1000", true, &code),
                     125);
    assert_int_equal(code, HEARTH_E_INTEGRITY);
}

static void a_program_is_left_alone_once_its_watch_is_over(void **state) {
    (void)state;
    int code;
    assert_int_equal(run_watched("echo; sleep 0.3; exit 3", false, &code), 3);
    assert_int_equal(code, 0);
}

static void what_a_watched_program_leaves_behind_is_ended(void **state) {
    (void)state;
    int code;
    assert_int_equal(run_watched("(sleep 1000 &); exit 4", false, &code), 4);
    assert_int_equal(code, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_status_is_passed_through),
        cmocka_unit_test(death_by_a_signal_is_128_and_the_signal),
        cmocka_unit_test(what_cannot_start_has_the_statuses_of_env),
        cmocka_unit_test(a_link_that_cannot_be_followed_stops_the_start),
        cmocka_unit_test(a_signal_to_the_parent_reaches_the_program),
        cmocka_unit_test(the_program_gets_the_mask_that_we_had),
        cmocka_unit_test(an_ignored_sigchld_loses_no_status),
        cmocka_unit_test(a_job_that_stops_is_seen_as_stopped_and_goes_on),
        cmocka_unit_test(a_program_stopped_by_sigstop_may_be_continued_alone),
        cmocka_unit_test(a_program_does_not_outlive_a_killed_parent),
        cmocka_unit_test(a_program_whose_watch_fails_is_ended_with_all_it_has_started),
        cmocka_unit_test(a_program_is_left_alone_once_its_watch_is_over),
        cmocka_unit_test(what_a_watched_program_leaves_behind_is_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
