/* bench/machine.h: the machine and the processes a benchmark looks at: memory that the host has already supplied, raw
 * reads, CPU time, placement, a daemon of the benchmark's own.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- memory ---- */

/* Populated anonymous memory, so that the host (of a VM with free page reporting) or the kernel has it at hand. Given
 * up piece by piece just before somebody else populates the same amount: touch-and-free would hand it back to the host.
 */
struct hold {
    char *at;
    uint64_t bytes, released;
};
int hold_prime(struct hold *h, uint64_t bytes); /* fills up to `bytes` again; 0 or -errno */
void hold_release(struct hold *h, uint64_t upto);
void hold_drop(struct hold *h);
/* Gives up held memory just ahead of the shared memory that a process maps, or that raw reads have filled, on a thread,
 * until told to stop. */
struct follower {
    struct hold *hold;
    pid_t pid; /* 0: raw reads */
    uint64_t baseline;
    _Atomic uint64_t raw_bytes;
    atomic_bool stop;
    pthread_t thread;
};
#define FOLLOWER_LEAD (UINT64_C(512) << 20)                           /* how far ahead; hold so much more */
int follower_start(struct follower *f, struct hold *hold, pid_t pid); /* 0 or -errno */
void follower_stop(struct follower *f);

/* A sealed-size memfd mapped at an aligned address and populated: the same kind of memory the daemon's blobs are made
 * of (huge pages on shmem by MADV_HUGEPAGE where the system allows, else by MADV_COLLAPSE, else small). */
struct memory {
    int fd;
    char *at;
    uint64_t bytes;
    bool huge, advised; /* by MADV_HUGEPAGE, else by MADV_COLLAPSE */
};
int memory_new(struct memory *m, uint64_t bytes, bool huge, struct hold *from); /* 0 or -errno */
/* The same in steps: not populated yet; and a part of it. `offset` and `bytes` are multiples of a huge page. */
int memory_map(struct memory *m, uint64_t bytes, bool huge);
int memory_populate(struct memory *m, uint64_t offset, uint64_t bytes);
void memory_drop(struct memory *m);
uint64_t huge_page_bytes(void); /* 0 when the kernel has none */

/* ---- raw reads ---- */

/* Reads files [0, n) one after another with O_DIRECT io_uring reads of `block` bytes, `depth` in flight, into memory;
 * no hashing, no allocation, nothing else. *progress: bytes so far. Returns the bytes read, or -errno. */
int64_t raw_read(const int *fds, const uint64_t *bytes, size_t n, char *into, uint64_t block, unsigned depth,
                 _Atomic uint64_t *progress);

/* ---- processes ---- */

uint64_t cpu_ns_of(pid_t pid);       /* user + system CPU time of a process, all threads */
uint64_t cpu_ticks_of(pid_t pid);    /* the same in clock ticks, as /proc/PID/stat has it */
uint64_t shared_bytes_of(pid_t pid); /* resident file and shmem pages it maps */
/* A field of /proc/PID/smaps_rollup, e.g. "Pss_Anon", in bytes; 0 when it cannot be read. */
uint64_t smaps_rollup(pid_t pid, const char *field);
/* Binds every thread of a process (0: this one) to one CPU; cpu < 0: to all it had at the start. */
int place(pid_t pid, int cpu);

struct bench_daemon {
    pid_t pid;
    char socket[256];
};
/* Starts hearthd from `bin_dir` on a socket in `home`, waits until it answers; stderr goes to home/hearthd.log.
 * `option` is one more argument ("--reader=pread"), or NULL. 0 or -1 with the reason printed. */
int daemon_start(struct bench_daemon *d, const char *bin_dir, const char *home, const char *option);
/* SIGTERM, waits. */
void daemon_stop(struct bench_daemon *d);
