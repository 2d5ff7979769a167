/* cli/doctor.h: what `hearth doctor` looks at, and what it finds.
 *
 * A check looks at one thing and adds findings: what is so, what that costs, and the command that mends it. What it
 * reads of the kernel's lies under `root`, and what it can only try is tried by a probe of its own, so that the
 * judgement can be tested on recorded systems.
 *
 * It is the one verb that starts threads: while it measures storage, and joined before it goes on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

enum level {
    LEVEL_OK,      /* as it should be */
    LEVEL_NOTE,    /* worth knowing; hearth does without */
    LEVEL_WARNING, /* costs time or memory, or will be in the way one day */
    LEVEL_PROBLEM, /* hearth does not work like this */
};

struct finding {
    const char *check; /* static */
    enum level level;
    char *found; /* one sentence; never NULL */
    char *cost;  /* what it costs, or NULL */
    char *mend;  /* a command, or a line of configuration, or NULL */
    /* Of storage, bytes a second: O_DIRECT, and through a page cache that did not hold it. 0: not measured. */
    double direct, buffered;
};

/* Bytes a second; 0: not measured. */
struct doctor_rates {
    double fresh;  /* anonymous memory as it comes */
    double again;  /* the same memory, right after it was freed */
    double small;  /* shared memory on small pages */
    double huge;   /* on huge pages, got in the way that hearthd would */
    double sha256; /* one thread */
};

struct doctor {
    const char *root; /* goes before /proc and /sys: "" but in tests */
    struct finding *findings;
    size_t n_findings;
    struct doctor_rates rates;
    uint64_t reserve;   /* what the daemon reached is to hold; 0 without one */
    bool reached;       /* a daemon, which says itself how its state directory is */
    const char *socket; /* --socket, or NULL */
};

/* ---- doctor_finding.c ---- */

/* Valid until the next one is added. Aborts when there is no memory, as tables do. */
struct finding *finding_add(struct doctor *d, const char *check, enum level level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void finding_cost(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void finding_mend(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void doctor_deinit(struct doctor *d);

/* ---- doctor_kernel.c ---- */

/* Calls that are newer than the oldest kernel, or that a sandbox may refuse. */
struct kernel_calls {
    bool memfd, noexec_seal, populate_write, collapse, cachestat;
};
void probe_calls(struct kernel_calls *out);
void check_kernel(struct doctor *d, const char *release, const struct kernel_calls *calls);
/* 0, or the errno with which io_uring_setup(2) refuses a ring. */
int probe_uring(void);
void check_uring(struct doctor *d, int sys_errno);

/* ---- doctor_memory.c ---- */

void check_huge_pages(struct doctor *d);
void check_memory_limits(struct doctor *d);
/* Whether this process may lock as much memory as it likes. */
bool probe_locking(void);
void check_swap(struct doctor *d, bool may_lock);
void check_page_reporting(struct doctor *d);

/* ---- doctor_limits.c ---- */

/* UINT64_MAX: no limit. */
void check_descriptors(struct doctor *d, uint64_t soft, uint64_t hard);
void check_locking(struct doctor *d, uint64_t memlock);
/* Where a daemon of this user's keeps what is to survive it, where none is reached that could tell. */
#define CHECK_STATE "state directory"
void check_state_directory(struct doctor *d);

/* ---- doctor_path.c ---- */

#define CHECK_STORAGE "storage"

/* The file system of a file, or of the largest one below a directory; reads some of it for a second at most. */
void check_path(struct doctor *d, const char *path);

/* ---- doctor_daemon.c ---- */

void check_socket(struct doctor *d);
void check_daemon(struct doctor *d, uint64_t deadline);

/* ---- doctor_measure.c ---- */

/* Fills in d->rates of memory and hashing; in two seconds or so, where a quarter of the memory that is available
 * suffices. */
void measure_memory(struct doctor *d);
/* Reads an open file from `from` on, `bytes` or half a second of it, several reads at once. Bytes a second; *read: how
 * far it came. 0 where it fails. */
double measure_reads(int fd, uint64_t from, uint64_t bytes, uint64_t *read);
