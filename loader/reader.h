/* loader/reader.h: what brings bytes from a file into memory.
 *
 * The I/O thread owns one reader and alone calls queue() and wait(); wake() is for everybody else. Reads are
 * independent of each other and may end in any order. What is read into must stay mapped until the read has been handed
 * back by wait(): there is no other way to know that nothing is written there any more.
 *
 * There is one on an io_uring, and one on threads that call pread(2) for where io_uring is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

/* One read; embedded in what the caller keeps about it. */
struct read_op {
    int fd;
    bool copies;    /* from the page cache: costs CPU time, and may be better off in a thread */
    bool may_block; /* whoever starts it: so it must have a thread of its own */
    uint8_t *to;
    uint32_t length;
    uint64_t offset;
    int result;           /* bytes, or -errno */
    struct read_op *next; /* the reader's, until it hands the read back */
};

struct reader {
    const char *name;
    unsigned depth; /* the most reads that may be under way */
    /* Takes a read on; it starts with the next wait() at the latest. */
    void (*queue)(struct reader *r, struct read_op *op);
    /* Blocks until reads have ended or wake() was called; returns how many are in `done`, or -errno. */
    int (*wait)(struct reader *r, struct read_op **done, unsigned max);
    /* Makes wait() return. Any thread. */
    void (*wake)(struct reader *r);
    void (*free)(struct reader *r);
};

/* loader/uring.c. Call it from the thread that will own it. Errors: UNSUPPORTED (with what refuses io_uring),
 * NO_MEMORY, NO_FDS, SYSTEM. */
int uring_new(unsigned depth, struct reader **out, struct hearth_error *err);

/* loader/pread.c. Errors: NO_MEMORY. */
int pread_new(unsigned depth, struct reader **out, struct hearth_error *err);
