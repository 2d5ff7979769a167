/* util/memory_limit.h: how much memory this process may still use.
 *
 * A page fault beyond a control group's limit is not an error but a kill, so the question is asked before memory is
 * made. Every limit that applies is read: memory.max and memory.high of each cgroup2 ancestor, beyond the second of
 * which a process is not killed but slowed down to nothing; memory.limit_in_bytes and memory.memsw.limit_in_bytes of
 * each ancestor in a v1 memory hierarchy; and MemAvailable of the machine. File cache on the inactive list can be given
 * back and does not count as used. Swap is no room for artifacts, and is not counted as any.
 *
 * Thread rule: any thread; reads a handful of small files of the kernel's (about 100 us).
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

/* The tightest limit. */
struct memory_limit {
    uint64_t available;    /* bytes: limit - used */
    uint64_t limit, used;  /* bytes; used without what the kernel can take back at once */
    char source[PATH_MAX]; /* the file that states it */
    bool of_machine;       /* it is no limit, but all that is there */
};

/* `root` goes before every path ("" for the running system; a recorded tree in tests). Errors: SYSTEM. */
int memory_limit_read(const char *root, struct memory_limit *out, struct hearth_error *err);

/* Calls call() for the machine's memory and for every limit above, in no order that matters. Errors: as above. */
typedef void (*memory_limit_call)(void *user, const struct memory_limit *m);
int memory_limit_each(const char *root, memory_limit_call call, void *user, struct hearth_error *err);

/* The path of a file of this process's own control group, of version 2. False when there is no such group. */
bool memory_group_file(const char *root, const char *name, char *out, size_t size);

/* Whether the machine has swap. What this process holds in memory is kept out of it where a control group of version 2
 * above it forbids it (memory.swap.max = 0: MemorySwapMax=0 of its unit). */
bool memory_swap_is_on(const char *root);
bool memory_swap_is_forbidden(const char *root);

/* The pool of huge pages (of the default size; *page: its bytes, 0 without a pool): bytes that are free in it, what
 * others have reserved included. They are no part of what memory_limit_read() finds available, and no control group of
 * memory counts them. */
uint64_t memory_pool_free(const char *root, uint64_t *page);

/* 0 when `needed` more bytes fit, and `beside` stay free. Errors: TOO_LARGE, with the figures and the file that states
 * the limit; SYSTEM. */
int memory_limit_check(const char *root, uint64_t needed, uint64_t beside, struct hearth_error *err);
