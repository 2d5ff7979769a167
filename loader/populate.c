/* loader/populate.c: populator threads: they supply memory ahead of the reads, so that the kernel's zeroing of fresh
 * pages, the largest cost left, overlaps with the disk; when no load wants any, they give back what was retired; and
 * when there is nothing of that, they see to what is held in advance (hold.c). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/memfd.h"
#include "util/memory_limit.h"

uint64_t memory_needed(const struct engine *e, uint64_t more) {
    uint64_t needed;
    if (__builtin_add_overflow(e->reserved, more, &needed))
        return UINT64_MAX;
    return needed > e->hold.held ? needed - e->hold.held : 0;
}

/* Limits may be lowered while a load runs, and what is over one then is killed. So they are looked at again and again,
 * each time for room for some more than there will be before the next look. A look takes 0.2 ms: where there is much
 * room, they are fewer. */
#define LOOK_BYTES (UINT64_C(16) << 20)
#define LOOK_SELDOM_BYTES (8 * LOOK_BYTES)
#define MUCH_ROOM (16 * LOOK_SELDOM_BYTES)

/* With the lock held, which it gives up meanwhile. */
static bool still_fits(struct engine *e, struct load *l, uint64_t length) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    e->unlooked += length;
    if (e->unlooked < LOOK_BYTES || e->unlooked < e->look_bytes)
        return true;
    e->unlooked = 0;
    pthread_mutex_unlock(&e->lock);
    bool much = memory_limit_check(e->limits_root, MUCH_ROOM, 0, &err) == 0;
    int r = much ? 0 : memory_still_fits(e, 2 * LOOK_BYTES, &err);
    pthread_mutex_lock(&e->lock);
    e->look_bytes = much ? LOOK_SELDOM_BYTES : LOOK_BYTES;
    if (r != HEARTH_E_TOO_LARGE) /* it fits, or nobody can tell: it was admitted */
        return true;
    error_at(&err, l->request.artifact->ref, HEARTH_NO_OFFSET);
    load_fail(l, &err);
    return false;
}

void supply(struct engine *e, struct stream *s, uint64_t offset, uint64_t length) {
    struct load *l = s->load;
    if (!still_fits(e, l, length))
        return;
    uint64_t start = clock_now();
    if (s->memory.pages != PAGES_HUGETLB) /* a pool's pages are there, whatever happens */
        hold_give(e, length);
    pthread_mutex_unlock(&e->lock);
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
}

void resident_retire(struct engine *e, struct retirement *r) {
    pthread_mutex_lock(&e->lock);
    r->next = e->retired;
    e->retired = r;
    pthread_cond_signal(&e->populate_wanted);
    pthread_cond_signal(&e->populate_help); /* the first may be busy with a load */
    pthread_mutex_unlock(&e->lock);
}

/* Of a file that its load left half filled, clients may have the one description that was shared, and its lease
 * (share.c): only without that can it be opened for memfd_is_held(). */
static bool is_held(int *fd) {
    if ((fcntl(*fd, F_GETFL) & O_ACCMODE) != O_RDONLY) {
        int own = memfd_reopen_unleased(*fd);
        if (own < 0)
            return own == -EWOULDBLOCK;
        close_fd(*fd);
        *fd = own;
    }
    return memfd_is_held(*fd);
}

/* One blob of one: then loads are asked for again. */
static void retire_one(struct engine *e) {
    struct retirement *r = e->retired;
    e->retired = r->next;
    pthread_mutex_unlock(&e->lock);
    struct resident *old = r->resident;
    bool over = r->next_blob == old->n_blobs; /* but for the index */
    int *fd = over ? &old->index_fd : &old->blobs[r->next_blob].fd;
    if (over)
        unlock_index(old);
    else
        unlock_blob(&old->blobs[r->next_blob]);
    if (*fd >= 0 && is_held(fd)) {
        r->held_bytes += memfd_resident(*fd);
        r->held_fds++;
    } else {
        *fd = close_fd(*fd);
    }
    r->next_blob++;
    if (over) {
        old->artifact = artifact_free(old->artifact);
        if (r->held_fds == 0)
            r->resident = resident_free(old);
        r->done(r->user);
    }
    pthread_mutex_lock(&e->lock);
    if (over)
        return;
    r->next = e->retired;
    e->retired = r;
}

static void wait_for_work(struct engine *e, pthread_cond_t *work, uint64_t until) {
    const struct timespec t = {.tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S)};
    if (until == UINT64_MAX)
        pthread_cond_wait(work, &e->lock);
    else
        pthread_cond_timedwait(work, &e->lock, &t);
}

void *populate_main(void *engine) {
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    bool first = !e->has_populator;
    e->has_populator = true;
    /* A step of it takes a while, in which the first had better be there for a load that begins. */
    bool holds = !first || e->options.populators == 1;
    for (;;) {
        struct stream *s;
        uint64_t offset, length, again = UINT64_MAX;
        if (!e->stopping && schedule_populate(e, first, &s, &offset, &length)) {
            supply(e, s, offset, length);
            work_ended(s->load);
        } else if (e->retired)
            retire_one(e);
        else if (e->stopping)
            break;
        else if (!holds || !hold_turn(e, &again))
            wait_for_work(e, first ? &e->populate_wanted : &e->populate_help, again);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
