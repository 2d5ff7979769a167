/* artifact/parse_process.h: the parser helper as a process: started, watched, and always reaped.
 *
 * Thread rule: one thread at a time; it must be the thread that started it (the helper dies with that thread).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <hearth/error.h>

struct parse_process {
    pid_t pid;  /* 0: none */
    int pidfd;  /* readable when it has ended */
    int socket; /* SOCK_SEQPACKET to it */
};

#define PARSE_PROCESS_NULL \
    { .pidfd = -1, .socket = -1 }

/* path: NULL: "hearth-parse" beside this program, else where it was installed. `output` is the index's memfd, borrowed.
 * Errors: SYSTEM (the helper is not there), NO_MEMORY, NO_FDS. */
int parse_process_start(struct parse_process *p, const char *path, int output, struct hearth_error *err);

/* Waits until it has ended, reaps it. 0 when it exited with status 0. Errors: PARSER, with what happened to it: a
 * crash, a forbidden system call, a limit; or that it still ran at `deadline`, in which case it is not reaped. */
int parse_process_wait(struct parse_process *p, uint64_t deadline, struct hearth_error *err);

/* "PARSER: it took too long". */
int parse_process_timeout(struct hearth_error *err);

/* Kills and reaps it if it is still there; closes what is open. May run twice. */
void parse_process_deinit(struct parse_process *p);
