/* bench/process.c: processes that a benchmark looks at. See machine.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/bench.h"
#include "util/cleanup.h"
#include "util/clock.h"

extern char **environ;

static FILE *open_proc(pid_t pid, const char *file) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return fopen(path, "re");
}

uint64_t cpu_ns_of(pid_t pid) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
        return 0;
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t cpu_ticks_of(pid_t pid) {
    _cleanup_fclose_ FILE *f = open_proc(pid, "stat");
    char line[1024];
    if (!f || !fgets(line, sizeof(line), f))
        return 0;
    char *rest = strrchr(line, ')'); /* the program's name may hold anything */
    uint64_t user = 0, system = 0;
    if (!rest ||
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user, &system) != 2)
        return 0;
    return user + system;
}

uint64_t smaps_rollup(pid_t pid, const char *field) {
    _cleanup_fclose_ FILE *f = open_proc(pid, "smaps_rollup");
    char line[256];
    size_t length = strlen(field);
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            return strtoull(line + length + 1, NULL, 10) * 1024;
    return 0;
}

int place(pid_t pid, int cpu) {
    static cpu_set_t all;
    static bool known;
    if (!known) {
        if (sched_getaffinity(0, sizeof(all), &all) < 0)
            return -errno;
        known = true;
    }
    cpu_set_t set = all;
    if (cpu >= 0) {
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", pid ? (int)pid : (int)getpid());
    _cleanup_closedir_ DIR *d = opendir(path);
    struct dirent *e;
    if (!d)
        return -errno;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.' && sched_setaffinity(atoi(e->d_name), sizeof(set), &set) < 0)
            return -errno;
    return 0;
}

/* Of a reserve, which comes in whole chunks and feeds small files too. */
#define ROUNDING (UINT64_C(32) << 20)

int daemon_start(struct bench_daemon *d, const char *bin_dir, const char *home, uint64_t reserve, const char *option) {
    char program[4096], log[4096], held[48];
    snprintf(held, sizeof(held), "--reserve=%" PRIu64, reserve ? reserve + ROUNDING : 0);
    snprintf(program, sizeof(program), "%s/hearthd", bin_dir);
    snprintf(log, sizeof(log), "%s/hearthd.log", home);
    snprintf(d->socket, sizeof(d->socket), "%s/hearth.sock", home);
    /* Without a state directory it remembers as well, for as long as it lives, and leaves nothing behind. */
    char *const argv[] = {program, (char *)"--socket",        d->socket, (char *)"--state-dir", (char *)"none",
                          held,    (char *)(uintptr_t)option, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int r = posix_spawn(&d->pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0) {
        fprintf(stderr, "hearth-bench: %s: %s\n", program, strerror(r));
        return -1;
    }
    struct hearth_error err;
    for (uint64_t end = clock_now() + 10 * NS_PER_S; clock_now() < end; usleep(10000)) {
        struct hearth *h = NULL;
        if (hearth_connect(d->socket, hearth_deadline_in(1000), &h, &err) == 0) {
            hearth_close(h);
            return 0;
        }
        if (waitpid(d->pid, NULL, WNOHANG) == d->pid)
            break;
    }
    fprintf(stderr, "hearth-bench: hearthd does not answer: %s (see %s)\n", err.message, log);
    kill(d->pid, SIGKILL);
    return -1;
}

int daemon_prime(struct hearth *client) {
    struct hearth_status s;
    struct hearth_error err;
    for (uint64_t end = clock_now() + 300 * NS_PER_S; clock_now() < end; usleep(20000)) {
        if (hearth_get_status(client, hearth_deadline_in(5000), &s, &err))
            return bench_fail("hearthd", err.message);
        if (s.reserve_held_bytes == s.reserve_bytes)
            return 0;
    }
    return bench_fail("the reserve", "it was not filled: memory is too short, or under pressure");
}

void daemon_stop(struct bench_daemon *d) {
    if (d->pid <= 0)
        return;
    kill(d->pid, SIGTERM);
    while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    d->pid = 0;
}
