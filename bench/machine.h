/* bench/machine.h: the machine and the processes a benchmark looks at: memory that the host has already supplied, raw
 * reads, CPU time, placement, a daemon of the benchmark's own.
 */
#pragma once

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

/* A sealed-size memfd mapped at an aligned address and populated: the same kind of memory the daemon's blobs are made
 * of (huge pages on shmem by MADV_HUGEPAGE where the system allows, else by MADV_COLLAPSE, else small). */
struct memory {
    int fd;
    char *at;
    uint64_t bytes;
    bool huge;
};
int memory_new(struct memory *m, uint64_t bytes, bool huge, struct hold *from); /* 0 or -errno */
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
/* Starts hearthd from `bin_dir` on a socket in `home`, waits until it answers; stderr goes to home/hearthd.log. 0 or -1
 * with the reason printed. */
int daemon_start(struct bench_daemon *d, const char *bin_dir, const char *home);
/* SIGTERM, waits. */
void daemon_stop(struct bench_daemon *d);
