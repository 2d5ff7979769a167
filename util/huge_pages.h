/* util/huge_pages.h: whether shared memory gets huge pages here.
 *
 * Since 6.10 each size of huge page has its own switch, whose "inherit" refers to the older one for all of shared
 * memory; "deny" and "force" in the older one beat both. `never` forbids huge pages at a fault, but MADV_COLLAPSE is an
 * explicit wish and is granted all the same.
 *
 * Thread rule: any thread; reads a few small files of the kernel's.
 */
#pragma once

#include <stdint.h>

enum shmem_huge {
    SHMEM_HUGE_NONE,     /* this kernel, or machine, has none for shared memory */
    SHMEM_HUGE_DENIED,   /* shmem_enabled is deny */
    SHMEM_HUGE_COLLAPSE, /* it is never: only by MADV_COLLAPSE */
    SHMEM_HUGE_GIVEN,    /* at the first touch */
};

struct huge_pages {
    enum shmem_huge shmem;
    uint64_t bytes; /* of one; 0 when there are none */
    char word[32];  /* the setting that decides, as the kernel spells it */
};

#define HUGE_PAGES_FOLDER "/sys/kernel/mm/transparent_hugepage"

/* `root` goes before every path ("" for the running system; a recorded tree in tests). `small_page`: bytes of an
 * ordinary page. Never fails: what cannot be read is not there. */
void huge_pages_read(const char *root, uint64_t small_page, struct huge_pages *out);
