/* loader/lock.c: keeps what is resident out of swap.
 *
 * Shared memory is swapped like any other, unless a mapping of it is locked: so each blob may get one, for reading, of
 * the description that is kept anyway (a second one would be in the way of leases). On huge pages that costs next to
 * nothing, and is done wherever the limit on locked memory allows it. On small pages it takes 0.2 s a GiB, and is done
 * only while there is swap. A pool of huge pages is never swapped, and a control group with memory.swap.max = 0 does
 * for all of it what locks would.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "loader/internal.h"
#include "util/memory_limit.h"

/* A process may have some 65,000 mappings, and needs others for what loads. */
#define LOCKS_MAX 16384u

static atomic_uint locks;

/* NULL where it is not allowed, or there would be too many. */
static void *lock(int fd, uint64_t bytes, uint64_t align) {
    if (atomic_fetch_add(&locks, 1) < LOCKS_MAX) {
        uint8_t *at = map_aligned(fd, bytes, align, PROT_READ);
        if (at && mlock(at, bytes) == 0)
            return at;
        if (at)
            munmap(at, bytes);
    }
    atomic_fetch_sub(&locks, 1);
    return NULL;
}

static void unlock(void **at, uint64_t bytes) {
    if (!*at)
        return;
    munmap(*at, bytes);
    atomic_fetch_sub(&locks, 1);
    *at = NULL;
}

void lock_resident(const struct engine *e, struct resident *r) {
    uint64_t small = e->backing.small_page;
    if (e->swap_forbidden)
        return;
    bool swap = memory_swap_is_on(e->limits_root);
    for (size_t i = 0; i < r->n_blobs; i++) {
        struct blob *b = &r->blobs[i];
        bool huge = b->backing == HEARTH_BACKING_SHMEM_HUGE;
        if (b->bytes == 0 || b->backing == HEARTH_BACKING_HUGETLB)
            continue;
        if (huge || swap)
            b->locked = lock(b->fd, b->bytes, huge ? e->backing.huge_page : small);
        if (!b->locked)
            r->swappable_bytes += b->resident_bytes;
    }
    if (swap)
        r->index_locked = lock(r->index_fd, r->index_bytes, small);
    if (!r->index_locked)
        r->swappable_bytes += r->index_bytes;
}

void unlock_blob(struct blob *b) {
    unlock(&b->locked, b->bytes);
}

void unlock_index(struct resident *r) {
    unlock(&r->index_locked, r->index_bytes);
}
