/* loader/populate.c: populator threads: they supply memory ahead of the reads, so that the kernel's zeroing of fresh
 * pages, the largest cost left, overlaps with the disk. */
#include <inttypes.h>

#include "loader/internal.h"
#include "util/clock.h"
#include "util/error.h"

static void populate_one(struct engine *e, struct stream *s, uint64_t offset, uint64_t length) {
    struct load *l = s->load;
    pthread_mutex_unlock(&e->lock);
    uint64_t start = clock_now();
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

void *populate_main(void *engine) {
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    while (!e->stopping) {
        struct stream *s;
        uint64_t offset, length;
        if (schedule_populate(e, &s, &offset, &length))
            populate_one(e, s, offset, length);
        else
            pthread_cond_wait(&e->populate_wanted, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
