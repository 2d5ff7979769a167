/* loader/load.c: one load, as straight code on a thread of its own. See loader.h and internal.h.
 *
 * Large files are opened first and handed to the engine's threads; while those read, this thread takes the small files,
 * lets the parser at it all, and then waits, checks and seals.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "artifact/parse.h"
#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/memory_limit.h"
#include "util/text.h"

void load_fail(struct load *l, const struct hearth_error *err) {
    if (l->failed || l->over)
        return;
    l->failed = true;
    l->error = *err;
    progress_failed(l, err);
    pthread_cond_broadcast(&l->changed);
    if (l->parser_stop >= 0)
        (void)eventfd_write(l->parser_stop, 1);
}

void load_asks(struct load *l, size_t file) {
    pthread_mutex_lock(&l->engine->lock);
    l->asks_file = file;
    l->asks_since = clock_now();
    pthread_mutex_unlock(&l->engine->lock);
}

void load_answered(struct load *l) {
    pthread_mutex_lock(&l->engine->lock);
    l->asks_since = 0;
    pthread_mutex_unlock(&l->engine->lock);
}

void load_phase(struct load *l, enum hearth_phase phase, uint64_t start, uint64_t end) {
    struct hearth_span *p = &l->resident->phases[phase];
    if (p->start_ns == 0 || start < p->start_ns)
        p->start_ns = start;
    if (end > p->end_ns)
        p->end_ns = end;
}

/* ---- memory ---- */

/* What a load needs beside its blobs: 0.5 % for the kernel's tables of small pages, and the parser, the index, threads,
 * file cache. Were it not there at the end, that would be a kill under a control group; a load that is admitted may use
 * it up. */
#define BESIDE_BYTES (UINT64_C(16) << 20)
#define BESIDE_SHARE 128

static uint64_t pages_of(const struct engine *e, uint64_t bytes) {
    return (bytes + e->backing.small_page - 1) / e->backing.small_page * e->backing.small_page;
}

/* What a pool of huge pages will not supply. Small files do not go there, but are small. */
static uint64_t beyond_pool(const struct engine *e, uint64_t needed) {
    uint64_t page, pool = e->backing.pages == PAGES_HUGETLB ? memory_pool_free(e->limits_root, &page) : 0;
    return needed > pool ? needed - pool : 0;
}

static int reserve(struct load *l, struct hearth_error *err) {
    struct engine *e = l->engine;
    const struct artifact *a = l->request.artifact;
    uint64_t need = 0;
    for (size_t i = 0; i < a->n_files; i++)
        if (__builtin_add_overflow(need, pages_of(e, a->files[i].identity.bytes), &need))
            need = UINT64_MAX; /* sparse files may claim anything */
    /* One after the other: of two that fit each alone, the first shall have it. */
    pthread_mutex_lock(&e->admission);
    pthread_mutex_lock(&e->lock);
    uint64_t more = beyond_pool(e, memory_needed(e, need));
    pthread_mutex_unlock(&e->lock);
    int r = memory_limit_check(e->limits_root, more, BESIDE_BYTES + more / BESIDE_SHARE, err);
    if (!r) {
        pthread_mutex_lock(&e->lock);
        e->reserved += need;
        l->reserved = need;
        pthread_mutex_unlock(&e->lock);
    }
    pthread_mutex_unlock(&e->admission);
    if (!r)
        return 0;
    error_at(err, a->ref, HEARTH_NO_OFFSET);
    char others[16];
    if (more > need)
        error_hint(err, "other loads under way are yet to take %s of that: load it again when they have ended",
                   format_size(more - need, others, sizeof(others)));
    return r;
}

void load_unreserve(struct load *l, uint64_t bytes) {
    if (bytes > l->reserved) /* hugetlb's rounding */
        bytes = l->reserved;
    l->reserved -= bytes;
    l->engine->reserved -= bytes;
}

int memory_still_fits(struct engine *e, uint64_t most, struct hearth_error *err) {
    pthread_mutex_lock(&e->lock);
    uint64_t needed = beyond_pool(e, memory_needed(e, 0));
    pthread_mutex_unlock(&e->lock);
    struct hearth_error why = HEARTH_ERROR_INIT;
    int r = memory_limit_check(e->limits_root, needed < most ? needed : most, 0, &why);
    if (r == 0 || r == HEARTH_E_NO_FDS) /* it did fit; whatever else uses descriptors up meanwhile */
        return 0;
    *err = why;
    return r;
}

/* ---- streams ---- */

/* With the lock held: the load's error, if it has one. */
static int failure(struct load *l, struct hearth_error *err) {
    if (!l->failed)
        return 0;
    if (err)
        *err = l->error;
    return (int)l->error.code;
}

/* All of it has been read and hashed: is it what it was, and what it should be? */
static int settle(struct stream *s, struct hearth_error *err) {
    const struct artifact *a = s->load->request.artifact;
    struct file_identity now;
    load_asks(s->load, s->file);
    int e = file_identity_of(s->source, &now);
    load_answered(s->load);
    if (e < 0) {
        char path[sizeof(err->file)];
        e = error_errno(err, -e, "cannot examine %s", a->files[s->file].path);
        error_at(err, artifact_path(a, s->file, path, sizeof(path)), HEARTH_NO_OFFSET);
        return e;
    }
    if (!file_identity_equal(&now, &a->files[s->file].identity))
        return artifact_changed(a, s->file, &now, err);
    s->settled = true;
    e = judge(s->load, s->file, s->record, &s->result, err);
    return e ? e : share_settle(s, err);
}

/* Waits until at most `left` streams are not settled, and settles each as it completes, so that a bad file is known at
 * its end and not at the end of all. */
static int settle_streams(struct load *l, unsigned left, struct hearth_error *err) {
    struct engine *e = l->engine;
    for (;;) {
        unsigned unsettled = 0;
        struct stream *complete = NULL;
        pthread_mutex_lock(&e->lock);
        for (;;) {
            unsettled = 0;
            for (unsigned i = 0; i < l->n_open; i++) {
                unsettled += !l->open[i]->settled;
                if (!l->open[i]->settled && stream_complete(l->open[i]))
                    complete = l->open[i];
            }
            if (complete || unsettled <= left || l->failed)
                break;
            pthread_cond_wait(&l->changed, &e->lock);
        }
        int r = failure(l, err);
        pthread_mutex_unlock(&e->lock);
        if (!r && complete)
            r = settle(complete, err);
        if (r || (!complete && unsettled <= left))
            return r;
    }
}

/* What is on huge pages is decided when all is populated, which is before the last bytes are read: looking at it then
 * costs no time. */
static void measure_streams(struct load *l) {
    struct engine *e = l->engine;
    struct blob_memory *memories[STREAMS_OPEN_MAX];
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < l->n_open; i++) {
        while (!l->failed && l->open[i]->blocks_done < l->open[i]->n_blocks)
            pthread_cond_wait(&l->changed, &e->lock);
        memories[i] = &l->open[i]->memory;
    }
    pthread_mutex_unlock(&e->lock);
    if (l->n_open > 0)
        blob_measure(memories, l->n_open);
}

static void describe_blob(struct stream *s) {
    struct blob_memory *m = &s->memory;
    struct blob *b = &s->load->resident->blobs[s->file];
    *b = s->result;
    s->result.chunks = NULL;
    b->bytes = s->bytes;
    b->fd = steal_fd(&m->readonly);
    b->resident_bytes = memfd_resident(b->fd);
    b->huge_bytes = m->huge_got < b->resident_bytes ? m->huge_got : b->resident_bytes;
    b->backing = HEARTH_BACKING_SHMEM;
    if (b->huge_bytes * 2 > b->resident_bytes)
        b->backing = m->pages == PAGES_HUGETLB ? HEARTH_BACKING_HUGETLB : HEARTH_BACKING_SHMEM_HUGE;
}

/* Turns all settled streams into blobs. */
static int seal_settled(struct load *l, struct hearth_error *err) {
    uint64_t start = clock_now();
    unsigned kept = 0;
    int r = 0;
    for (unsigned i = 0; i < l->n_open; i++) {
        struct stream *s = l->open[i];
        if (r || !s->settled)
            continue;
        pthread_mutex_lock(&l->engine->lock);
        stream_unschedule(s);
        l->resident->direct_io &= s->direct;
        if (!s->direct)
            memcpy(l->resident->not_direct, s->not_direct, sizeof(s->not_direct));
        pthread_mutex_unlock(&l->engine->lock);
        r = blob_seal(&s->memory, err);
        if (!r)
            r = share_seal(s, err);
        pthread_mutex_lock(&l->engine->lock);
        if (!r)
            describe_blob(s);
        l->open[i] = NULL;
        pthread_mutex_unlock(&l->engine->lock);
        stream_free(s);
    }
    pthread_mutex_lock(&l->engine->lock);
    for (unsigned i = 0; i < l->n_open; i++)
        if (l->open[i])
            l->open[kept++] = l->open[i];
    if (kept < l->n_open)
        load_phase(l, HEARTH_PHASE_SEAL, start, clock_now());
    l->n_open = kept;
    pthread_mutex_unlock(&l->engine->lock);
    return r;
}

static int open_stream(struct load *l, size_t file, struct hearth_error *err) {
    int r = 0;
    if (l->n_open == STREAMS_OPEN_MAX) {
        measure_streams(l);
        r = settle_streams(l, STREAMS_OPEN_MAX / 2, err);
        if (!r)
            r = seal_settled(l, err);
    }
    struct stream *s = NULL;
    if (!r)
        r = memory_still_fits(l->engine, UINT64_MAX, err);
    if (!r) {
        load_asks(l, file);
        r = stream_open(l, file, &s, err);
        load_answered(l);
    }
    if (r)
        return r;
    pthread_mutex_lock(&l->engine->lock);
    stream_schedule(s);
    r = failure(l, err);
    pthread_mutex_unlock(&l->engine->lock);
    l->open[l->n_open++] = s;
    return r;
}

static int open_streams(struct load *l, struct hearth_error *err) {
    const struct artifact *a = l->request.artifact;
    uint64_t start = clock_now();
    bool any = false;
    int r = 0;
    for (size_t i = 0; !r && i < a->n_files; i++)
        if (a->files[i].identity.bytes > SMALL_FILE_MAX) {
            l->resident->direct_io = l->resident->direct_io || !any;
            any = true;
            r = open_stream(l, i, err);
        }
    if (any) {
        pthread_mutex_lock(&l->engine->lock);
        load_phase(l, HEARTH_PHASE_OPEN, start, clock_now());
        pthread_mutex_unlock(&l->engine->lock);
    }
    return r;
}

/* ---- parsing, while the rest is read ---- */

struct stream *open_stream_of(const struct load *l, size_t file) {
    for (unsigned i = 0; i < l->n_open; i++)
        if (l->open[i] && l->open[i]->file == file)
            return l->open[i];
    return NULL;
}

static int parser_fd(void *user, size_t i, struct hearth_error *err) {
    struct load *l = user;
    (void)err;
    struct stream *s = open_stream_of(l, i);
    return s ? s->memory.readonly : l->resident->blobs[i].fd;
}

static int parser_wait(void *user, size_t i, uint64_t offset, uint64_t length, struct hearth_error *err) {
    struct load *l = user;
    struct engine *e = l->engine;
    struct stream *s = open_stream_of(l, i);
    pthread_mutex_lock(&e->lock);
    if (s && length > 0) {
        want(l, 0, s, (uint32_t)(offset / s->piece_bytes), (uint32_t)((offset + length - 1) / s->piece_bytes));
        while (!l->failed && l->wanted[0].stream)
            pthread_cond_wait(&l->changed, &e->lock);
    }
    int r = failure(l, err);
    pthread_mutex_unlock(&e->lock);
    return r;
}

static int parse(struct load *l, int *index_fd, struct hearth_error *err) {
    _cleanup_close_ int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop < 0)
        return error_errno(err, errno, "cannot start the parser");
    const struct parse_request request = {
        .artifact = l->request.artifact,
        .file_fd = parser_fd,
        .wait_range = parser_wait,
        .user = l,
        .stop_fd = stop,
        .helper = l->engine->parser_helper,
    };
    uint64_t start = clock_now();
    pthread_mutex_lock(&l->engine->lock);
    int r = failure(l, err);
    l->parser_stop = stop;
    pthread_mutex_unlock(&l->engine->lock);
    if (!r)
        r = parse_isolated(&request, index_fd, err);
    pthread_mutex_lock(&l->engine->lock);
    l->parser_stop = -1;
    l->parsed = true;
    load_phase(l, HEARTH_PHASE_PARSE, start, clock_now());
    pthread_mutex_unlock(&l->engine->lock);
    return r;
}

/* ---- the whole ---- */

static int run(struct load *l, struct hearth_error *err) {
    _cleanup_close_ int index_fd = -1;
    int r = reserve(l, err);
    if (!r)
        r = progress_make(l, err);
    if (!r)
        r = open_streams(l, err);
    if (!r)
        r = small_files(l, err);
    if (!r)
        r = parse(l, &index_fd, err);
    if (!r)
        r = share_index(l, index_fd, err);
    if (!r) {
        measure_streams(l);
        r = settle_streams(l, 0, err);
    }
    if (!r)
        r = seal_settled(l, err);
    if (!r)
        r = publish(l, index_fd, err);
    if (!r)
        lock_resident(l->engine, l->resident);
    return r;
}

/* Spans were kept as points in time: make them relative, and take in what the caller knows. */
static void finish_phases(struct load *l) {
    struct hearth_span *p = l->resident->phases;
    uint64_t sealed = p[HEARTH_PHASE_SEAL].end_ns, now = clock_now(), start = l->request.start_ns;
    p[HEARTH_PHASE_PUBLISH] = (struct hearth_span){sealed ? sealed : now, now};
    for (unsigned i = 0; i < HEARTH_PHASES; i++)
        if (p[i].end_ns > 0) {
            p[i].start_ns = p[i].start_ns > start ? p[i].start_ns - start : 0;
            p[i].end_ns = p[i].end_ns > start ? p[i].end_ns - start : 0;
        }
    p[HEARTH_PHASE_RESOLVE] = l->request.resolve;
}

/* Waits until no thread is at work on it any more, and gives back what streams are left after a failure, but for what
 * clients share. They have dups of one description: the one to write is kept in its stead, so that theirs can be told
 * from ours. */
static void release_streams(struct load *l) {
    struct engine *e = l->engine;
    pthread_mutex_lock(&e->lock);
    while (l->users > 0)
        pthread_cond_wait(&l->changed, &e->lock);
    for (unsigned i = 0; i < l->n_open; i++)
        stream_unschedule(l->open[i]);
    load_unreserve(l, l->reserved);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < l->n_open; i++) {
        struct stream *s = l->open[i];
        if (s->shared)
            l->resident->blobs[s->file].fd = steal_fd(&s->memory.fd);
        stream_free(s);
    }
    l->n_open = 0;
}

void *load_main(void *load) {
    struct load *l = load;
    struct engine *e = l->engine;
    struct hearth_error err = HEARTH_ERROR_INIT;
    int r = run(l, &err);
    pthread_mutex_lock(&e->lock);
    if (r)
        load_fail(l, &err);
    pthread_mutex_unlock(&e->lock);
    release_streams(l);
    share_index_end(l);
    pthread_mutex_lock(&e->lock);
    finish_phases(l);
    l->over = true;
    if (!l->failed)
        progress_resident(l);
    struct resident *unfinished = l->failed && !l->page.shared ? steal_ptr(&l->resident) : NULL;
    pthread_mutex_unlock(&e->lock);
    resident_free(unfinished); /* here, where it holds nobody up */
    l->request.done(l->request.user, l);

    pthread_mutex_lock(&e->lock);
    for (struct load **at = &e->loads; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    hold_rest(e);
    pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
