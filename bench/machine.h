/* bench/machine.h: the machine and the processes a benchmark looks at: memory that the host has already supplied, raw
 * reads, CPU time, placement, a daemon of the benchmark's own.
 *
 * On a virtual machine with free page reporting, memory that nobody has used for two seconds belongs to the host again,
 * and the next allocation waits for it: seconds per GiB, which would drown what is measured. So memory is primed in the
 * process that will need it, whose own threads let go of each piece just before they populate as much: in a daemon that
 * is its reserve; here, a hold. (Given up by another process a little ahead, half of it went elsewhere: what populating
 * took varied fivefold.)
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct hearth;

/* ---- memory ---- */

/* Populated anonymous memory. */
struct hold {
    char *at;
    uint64_t bytes;
    atomic_uint_least64_t given;
};
int hold_prime(struct hold *h, uint64_t bytes); /* fills up to `bytes` again; 0 or -errno */
/* Just before the caller populates as much. Any thread. */
void hold_give(struct hold *h, uint64_t bytes);
void hold_drop(struct hold *h);

/* A sealed-size memfd mapped at an aligned address and populated: the same kind of memory the daemon's blobs are made
 * of (huge pages on shmem by MADV_HUGEPAGE where the system allows, else by MADV_COLLAPSE, else small). */
struct memory {
    int fd;
    char *at;
    uint64_t bytes;
    bool huge, advised; /* by MADV_HUGEPAGE, else by MADV_COLLAPSE */
};
int memory_new(struct memory *m, uint64_t bytes, bool huge, struct hold *from); /* 0 or -errno */
/* The same in steps: not populated yet; and a part of it. `offset` and `bytes` are multiples of a huge page. `from`,
 * which gives up as much, may be NULL. */
int memory_map(struct memory *m, uint64_t bytes, bool huge);
int memory_populate(struct memory *m, uint64_t offset, uint64_t bytes, struct hold *from);
void memory_drop(struct memory *m);
uint64_t huge_page_bytes(void); /* 0 when the kernel has none */

/* ---- raw reads ---- */

/* Reads files [0, n) one after another with O_DIRECT io_uring reads of `block` bytes, `depth` in flight, into memory;
 * no hashing, no allocation, nothing else. Returns the bytes read, or -errno. */
int64_t raw_read(const int *fds, const uint64_t *bytes, size_t n, char *into, uint64_t block, unsigned depth);

/* ---- processes ---- */

uint64_t cpu_ns_of(pid_t pid);    /* user + system CPU time of a process, all threads */
uint64_t cpu_ticks_of(pid_t pid); /* the same in clock ticks, as /proc/PID/stat has it */
/* A field of /proc/PID/smaps_rollup, e.g. "Pss_Anon", in bytes; 0 when it cannot be read. */
uint64_t smaps_rollup(pid_t pid, const char *field);
/* Binds every thread of a process (0: this one) to one CPU; cpu < 0: to all it had at the start. */
int place(pid_t pid, int cpu);

struct bench_daemon {
    pid_t pid;
    char socket[256];
};
/* Starts hearthd from `bin_dir` on a socket in `home`, waits until it answers; stderr goes to home/hearthd.log. It
 * holds memory in reserve for loads of `reserve` bytes; 0: none. `option` is one more argument ("--reader=pread"), or
 * NULL. 0 or -1 with the reason printed. */
int daemon_start(struct bench_daemon *d, const char *bin_dir, const char *home, uint64_t reserve, const char *option);
/* Waits until the daemon holds all of its reserve again. 0 or -1 with the reason printed. */
int daemon_prime(struct hearth *client);
/* SIGTERM, waits. */
void daemon_stop(struct bench_daemon *d);
