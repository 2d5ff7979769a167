/* artifact/parse.h: turning files into an index, in a process of its own.
 *
 * parse_isolated() starts the helper (hearth-parse), which is exec'd, drops everything but a few system calls, bounds
 * its memory and CPU time, and only then looks at what it was given. It holds read-only descriptors of the files it
 * asks for, one socket to its parent, and the memfd it writes the index into. The parent serves its requests for
 * ranges, waits for it to end, and checks every field of the index before it believes one.
 *
 * Thread rule: blocks; call it from a thread that may (never an event loop). Several may run at once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "artifact/artifact.h"

struct parse_request {
    const struct artifact *artifact;
    /* A read-only descriptor of file i's bytes (borrowed), or -1 with err set. */
    int (*file_fd)(void *user, size_t i, struct hearth_error *err);
    /* Returns when bytes [offset, offset + length) of file i can be read, or with an error (a load that failed or was
     * cancelled). The range lies inside the file. */
    int (*wait_range)(void *user, size_t i, uint64_t offset, uint64_t length, struct hearth_error *err);
    void *user;
    int stop_fd;           /* once it is readable, whatever the helper does is given up: CANCELLED; 0: there is none */
    uint64_t memory_limit; /* bytes of address space for the helper; 0: 256 MiB */
    uint64_t time_limit;   /* ns of wall time, waiting for ranges not counted; 0: 10 s */
    const char *helper;    /* path of hearth-parse; NULL: beside this program, else where it was installed */
};

/* On success *index_fd is a memfd with the checked index, writable (not yet sealed), owned by the caller: the daemon
 * completes it (id, digests, verified), then seals it. Errors: MALFORMED, UNSAFE (the file's fault, named with its
 * offset); PARSER (the helper died, hung or wrote nonsense); those of wait_range; CANCELLED; NO_MEMORY, NO_FDS, SYSTEM.
 */
int parse_isolated(const struct parse_request *request, int *index_fd, struct hearth_error *err);

/* artifact/index_check.c: every rule an index must keep, on `bytes` bytes that nobody else can change. Errors: PARSER.
 */
int index_check(const void *index, size_t bytes, struct hearth_error *err);
