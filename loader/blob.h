/* loader/blob.h: the memory of one file while it is filled.
 *
 * A blob is a memfd of its final size, mapped writable once, by this process only, and sealed FUTURE_WRITE|SHRINK|GROW
 * before anybody else can see it. blob_populate() supplies its pages, storage writes into them, blob_seal() takes the
 * mapping away and seals what is there for good. It has one O_RDONLY description from the start: that is what the
 * parser reads and what is published.
 *
 * Huge pages: decided once an engine (struct backing), by what the system allows. The first `huge` bytes of a blob, a
 * whole number of huge pages, are on them where they can be had; its tail, and files that are smaller than a huge page,
 * are on small ones, so that a file keeps its exact size. Only hugetlb rounds the size up.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "loader/loader.h"

enum pages {
    PAGES_SMALL,    /* none of them huge */
    PAGES_HUGE,     /* shared memory; the kernel supplies huge pages at the first touch */
    PAGES_COLLAPSE, /* shared memory; huge pages only by MADV_COLLAPSE */
    PAGES_HUGETLB,  /* from the hugetlb pool; else what AUTO would give */
};

/* What blobs are made of in an engine, and why. */
struct backing {
    enum pages pages;
    enum pages otherwise; /* with PAGES_HUGETLB: where the pool has no room, and for files that it does not suit */
    uint64_t huge_page;   /* bytes of a huge page of shared memory; 0 when there are none */
    uint64_t small_page;
    char why[160]; /* for people */
};

/* Reads what the system allows from ROOT/sys; never fails: what cannot be read is not there. */
void backing_choose(const char *root, enum backing_choice choice, struct backing *out);

struct blob_memory {
    int fd;             /* O_RDWR; -1 once sealed */
    int readonly;       /* the O_RDONLY description */
    uint8_t *at;        /* NULL once sealed */
    uint64_t mapped;    /* bytes of the mapping: `bytes` rounded up to pages */
    uint64_t bytes;     /* the file's size */
    uint64_t huge;      /* the first bytes, which shall be on huge pages */
    uint64_t huge_page; /* their size; 0 when huge is 0 */
    uint64_t huge_got;  /* what blob_measure() found */
    enum pages pages;
    atomic_bool no_collapse; /* it was refused once: do not ask again */
};
#define BLOB_MEMORY_NULL \
    { .fd = -1, .readonly = -1 }

/* `name` shows in /proc/PID/maps. bytes > 0. Errors: NO_MEMORY, NO_FDS, SYSTEM. */
int blob_make(const struct backing *backing, const char *name, uint64_t bytes, struct blob_memory *out,
              struct hearth_error *err);
/* Supplies the pages of [offset, offset + length), which begins and ends at multiples of huge_page where it lies inside
 * of `huge`. Any thread; several at once for different ranges. 0 or -errno: never a signal. */
int blob_populate(struct blob_memory *m, uint64_t offset, uint64_t length);
/* Finds out how much of each mapped blob is on huge pages, in one pass over /proc/self/smaps. */
void blob_measure(struct blob_memory *const *blobs, size_t n);
/* Unmaps and seals: afterwards nobody, root included, can change a byte. Errors: SYSTEM. */
int blob_seal(struct blob_memory *m, struct hearth_error *err);
/* Gives everything back that it holds. May run twice. */
void blob_memory_deinit(struct blob_memory *m);

/* Maps it shared, at an address that is a multiple of `align` (of pages at least), so that huge pages can be mapped as
 * such. NULL with errno. */
uint8_t *map_aligned(int fd, uint64_t bytes, uint64_t align, int protection);

/* Bytes of memory that a memfd holds. */
uint64_t memfd_resident(int fd);
