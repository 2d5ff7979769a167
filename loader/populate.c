/* loader/populate.c: populator threads: they supply memory ahead of the reads, so that the kernel's zeroing of fresh
 * pages, the largest cost left, overlaps with the disk; and when no load wants any, they give back what was retired.
 *
 * What an engine holds in advance is anonymous memory of no use in itself: just before a blob's pages are populated, as
 * much of it is given back, and the kernel hands out the same physical pages again, which the host still backs. It
 * needs no matching of sizes, and costs less than spare blobs would. */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/kernel.h"

#include "util/memory_limit.h"

uint64_t memory_needed(const struct engine *e, uint64_t more) {
    uint64_t needed;
    if (__builtin_add_overflow(e->reserved, more, &needed))
        return UINT64_MAX;
    return needed > e->hold_left ? needed - e->hold_left : 0;
}

void hold_release(struct engine *e) {
    if (e->hold)
        munmap(e->hold, e->hold_bytes);
    e->hold = NULL;
    e->hold_bytes = e->hold_left = 0;
}

int engine_hold(struct engine *e, uint64_t bytes, struct hearth_error *err) {
    pthread_mutex_lock(&e->lock);
    bool busy = e->loads != NULL;
    if (!busy)
        hold_release(e);
    pthread_mutex_unlock(&e->lock);
    if (busy)
        return error_set(err, HEARTH_E_BUSY, "memory cannot be held in advance while a load runs");
    uint64_t unit = e->backing.huge_page > 0 ? e->backing.huge_page : e->backing.small_page;
    bytes = bytes / unit * unit;
    int r = bytes > 0 ? memory_limit_check(e->limits_root, bytes, 0, err) : 0;
    if (r || bytes == 0)
        return r;
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return error_errno(err, errno, "cannot hold %" PRIu64 " bytes of memory", bytes);
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    if (madvise(at, bytes, MADV_POPULATE_WRITE) < 0) {
        r = error_errno(err, errno, "cannot hold %" PRIu64 " bytes of memory", bytes);
        munmap(at, bytes);
        return r;
    }
    pthread_mutex_lock(&e->lock);
    e->hold = at;
    e->hold_bytes = e->hold_left = bytes;
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static void populate_one(struct engine *e, struct stream *s, uint64_t offset, uint64_t length) {
    struct load *l = s->load;
    uint64_t swap = length < e->hold_left ? length : e->hold_left;
    e->hold_left -= swap;
    uint8_t *held = swap > 0 ? e->hold + e->hold_left : NULL; /* stays mapped while a load runs */
    pthread_mutex_unlock(&e->lock);
    uint64_t start = clock_now();
    if (swap > 0)
        (void)madvise(held, swap, MADV_DONTNEED);
    int r = blob_populate(&s->memory, offset, length);
    uint64_t end = clock_now();
    pthread_mutex_lock(&e->lock);
    if (r < 0) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        error_errno(&err, -r, "cannot get memory for bytes %" PRIu64 " to %" PRIu64 " of a file", offset,
                    offset + length < s->bytes ? offset + length : s->bytes);
        char path[sizeof(err.file)];
        error_at(&err, artifact_path(l->request.artifact, s->file, path, sizeof(path)), offset);
        error_hint(&err, "free memory, or evict artifacts that are not needed");
        load_fail(l, &err);
    } else {
        populated(s, offset, length);
        load_phase(l, HEARTH_PHASE_POPULATE, start, end);
        uint64_t stop = offset + length < s->memory.mapped ? offset + length : s->memory.mapped;
        load_unreserve(l, stop - offset);
        if (e->reader_starving)
            e->reader->wake(e->reader);
    }
    work_ended(l);
}

void resident_retire(struct engine *e, struct retirement *r) {
    pthread_mutex_lock(&e->lock);
    r->next = e->retired;
    e->retired = r;
    pthread_cond_signal(&e->populate_wanted);
    pthread_cond_signal(&e->populate_help); /* the first may be busy with a load */
    pthread_mutex_unlock(&e->lock);
}

/* One blob of one: then loads are asked for again. */
static void retire_one(struct engine *e) {
    struct retirement *r = e->retired;
    e->retired = r->next;
    pthread_mutex_unlock(&e->lock);
    struct resident *old = r->resident;
    if (r->next_blob < old->n_blobs)
        old->blobs[r->next_blob].fd = close_fd(old->blobs[r->next_blob].fd);
    bool over = ++r->next_blob >= old->n_blobs;
    if (over) {
        resident_free(old);
        r->done(r->user);
    }
    pthread_mutex_lock(&e->lock);
    if (over)
        return;
    r->next = e->retired;
    e->retired = r;
}

void *populate_main(void *engine) {
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    bool first = !e->has_populator;
    e->has_populator = true;
    for (;;) {
        struct stream *s;
        uint64_t offset, length;
        if (!e->stopping && schedule_populate(e, first, &s, &offset, &length))
            populate_one(e, s, offset, length);
        else if (e->retired)
            retire_one(e);
        else if (e->stopping)
            break;
        else
            pthread_cond_wait(first ? &e->populate_wanted : &e->populate_help, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
