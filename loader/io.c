/* loader/io.c: the I/O thread: one reader, every read of every load.
 *
 * A piece is read O_DIRECT straight into its place in the blob, or, where the page cache holds all of it, from there.
 * A short read is continued; direct reads that a file system refuses go on through the page cache. The bytes behind the
 * end of a file, up to where a direct read must end, are zeros whatever the file system leaves there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "loader/internal.h"
#include "util/clock.h"
#include "util/error.h"

struct read {
    struct read_op op; /* first: the reader hands this back */
    struct stream *stream;
    uint32_t piece;
    uint64_t done;     /* bytes of the piece that have landed */
    uint64_t since_ns; /* when it was started, or went on; 0: nothing is under way */
};

struct io {
    struct engine *engine;
    struct read reads[READ_DEPTH];
    struct read *free[READ_DEPTH];
    unsigned n_free;
};

/* Fills in the read of what is left of a piece, and queues it. */
static void start(struct io *io, struct read *r) {
    struct stream *s = r->stream;
    uint64_t offset = r->piece * s->piece_bytes + r->done;
    uint64_t length = stream_piece_length(s, r->piece) - r->done;
    bool cached = s->direct && s->cached >= 0 && cached_bytes(s->cached, offset, length) == length;
    r->op.fd = cached ? s->cached : s->source;
    r->op.copies = cached || !s->direct;
    r->op.may_block = s->may_block;
    r->op.to = s->memory.at + offset;
    r->op.offset = offset;
    if (!r->op.copies)
        length = (length + s->align - 1) / s->align * s->align; /* stays inside of the mapping: align <= a page */
    r->op.length = (uint32_t)length;
    io->engine->reader->queue(io->engine->reader, &r->op);
}

static void fail_read(struct read *r, int result) {
    struct stream *s = r->stream;
    const struct artifact *a = s->load->request.artifact;
    struct hearth_error err = HEARTH_ERROR_INIT;
    char path[sizeof(err.file)];
    uint64_t offset = r->piece * s->piece_bytes + r->done;
    if (result < 0) {
        error_errno(&err, -result, "cannot read %s", a->files[s->file].path);
    } else {
        error_set(&err, HEARTH_E_CHANGED, "%s became shorter while it was read", a->files[s->file].path);
        error_expected(&err, "%" PRIu64 " bytes", s->bytes);
        error_found(&err, "the end of the file at %" PRIu64, offset);
        error_hint(&err, "load it again when nothing writes to it any more");
    }
    error_at(&err, artifact_path(a, s->file, path, sizeof(path)), offset);
    load_fail(s->load, &err);
}

/* A read has ended; with the lock held. True when the piece needs another one. */
static bool ended(struct read *r, uint64_t now) {
    struct stream *s = r->stream;
    struct load *l = s->load;
    int result = r->op.result;
    if (l->failed)
        return false;
    if (result == -EINTR || result == -EAGAIN)
        return true;
    if ((result == -EINVAL || result == -EOPNOTSUPP) && !r->op.copies) {
        if (s->direct)
            stream_go_buffered(s, "refuses direct reads");
        return true;
    }
    if (result <= 0) {
        fail_read(r, result);
        return false;
    }
    uint64_t length = stream_piece_length(s, r->piece), landed = (uint64_t)result;
    if (landed > length - r->done)
        landed = length - r->done; /* past the size the file had: it grew, as will be seen in the end */
    r->done += landed;
    uint64_t cached = r->op.copies ? landed : 0;
    if (r->op.copies && r->op.fd == s->source) {
        cached = s->cached_before < landed ? s->cached_before : landed;
        s->cached_before -= cached;
    }
    l->resident->from_page_cache += cached;
    l->resident->from_disk += landed - cached;
    if (r->done < length) {
        if (s->direct && r->done % s->align != 0)
            stream_go_buffered(s, "ends direct reads anywhere");
        return true;
    }
    uint64_t end = r->piece * s->piece_bytes + length;
    if (end == s->bytes && s->align > 0) {
        uint64_t rounded = (end + s->align - 1) / s->align * s->align;
        memset(s->memory.at + end, 0, rounded - end);
    }
    struct hearth_span *first = &l->resident->phases[HEARTH_PHASE_FIRST_BYTE];
    if (first->end_ns == 0)
        first->end_ns = now;
    load_phase(l, HEARTH_PHASE_READ, now, now);
    piece_landed(s, r->piece, false);
    return false;
}

/* Takes up as many pieces as there is room for. Returns how many are in `batch`. */
static unsigned take_up(struct io *io, struct read **batch) {
    unsigned n = 0;
    uint64_t now = clock_now();
    struct stream *s;
    uint32_t piece;
    while (io->n_free > 0 && schedule_read(io->engine, &s, &piece)) {
        struct read *r = io->free[--io->n_free];
        r->stream = s;
        r->piece = piece;
        r->done = 0;
        r->since_ns = now;
        batch[n++] = r;
        struct hearth_span *first = &s->load->resident->phases[HEARTH_PHASE_FIRST_BYTE];
        if (first->start_ns == 0)
            first->start_ns = now;
        load_phase(s->load, HEARTH_PHASE_READ, now, now);
    }
    return n;
}

/* With the lock held. Ends the reads that are over and puts those that go on into `again`. */
static unsigned hand_back(struct io *io, struct read_op **done, unsigned n, struct read **again) {
    unsigned m = 0;
    uint64_t now = clock_now();
    for (unsigned i = 0; i < n; i++) {
        struct read *r = (struct read *)done[i];
        if (ended(r, now)) {
            r->since_ns = now;
            again[m++] = r;
            continue;
        }
        r->since_ns = 0;
        struct stream *s = r->stream;
        s->device->in_flight -= stream_piece_length(s, r->piece);
        s->device->reads--;
        work_ended(s->load);
        io->free[io->n_free++] = r;
    }
    return m;
}

bool engine_stalled(struct engine *e, uint64_t older_ns, struct stalled *out) {
    const struct load *load = NULL;
    size_t file = 0;
    *out = (struct stalled){.offset = HEARTH_NO_OFFSET, .since_ns = clock_now() - older_ns};
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < READ_DEPTH; i++) {
        const struct read *r = &e->io->reads[i];
        if (r->since_ns == 0 || r->since_ns > out->since_ns)
            continue;
        load = r->stream->load;
        file = r->stream->file;
        out->offset = r->piece * r->stream->piece_bytes + r->done;
        out->since_ns = r->since_ns;
    }
    for (const struct load *l = e->loads; l; l = l->next) {
        if (l->asks_since == 0 || l->asks_since > out->since_ns)
            continue;
        load = l;
        file = l->asks_file;
        out->offset = HEARTH_NO_OFFSET;
        out->since_ns = l->asks_since;
    }
    if (load)
        artifact_path(load->request.artifact, file, out->path, sizeof(out->path));
    pthread_mutex_unlock(&e->lock);
    return load != NULL;
}

static void fail_all(struct engine *e, int result) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_errno(&err, -result, "%s fails", e->reader->name);
    pthread_mutex_lock(&e->lock);
    for (struct load *l = e->loads; l; l = l->next)
        load_fail(l, &err);
    pthread_mutex_unlock(&e->lock);
    /* Reads that are under way are still waited for: their memory is not free before they end. */
    nanosleep(&(struct timespec){.tv_nsec = 10 * (long)NS_PER_MS}, NULL);
}

static void run(struct io *io) {
    struct engine *e = io->engine;
    struct read *batch[READ_DEPTH];
    struct read_op *done[READ_DEPTH];
    unsigned again = 0;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        unsigned n = again + take_up(io, batch + again);
        bool stop = e->stopping && io->n_free == READ_DEPTH;
        pthread_mutex_unlock(&e->lock);
        if (stop)
            return;
        for (unsigned i = 0; i < n; i++)
            start(io, batch[i]);
        int ended_now = e->reader->wait(e->reader, done, READ_DEPTH);
        if (ended_now < 0) {
            fail_all(e, ended_now);
            ended_now = 0;
        }
        pthread_mutex_lock(&e->lock);
        again = hand_back(io, done, (unsigned)ended_now, batch);
        pthread_mutex_unlock(&e->lock);
    }
}

static int choose_reader(enum reader_choice choice, struct reader **out, char *why, size_t size,
                         struct hearth_error *err) {
    int r = choice == READER_PREAD ? 0 : uring_new(READ_DEPTH, out, err);
    if (r && choice == READER_URING)
        return r;
    if (choice == READER_PREAD || r)
        r = pread_new(READ_DEPTH, out, choice == READER_PREAD ? err : NULL);
    if (r)
        return r;
    if (choice == READER_PREAD)
        snprintf(why, size, "%s, as configured", (*out)->name);
    else
        snprintf(why, size, "%s%s%.200s", (*out)->name, err->code ? ": " : "", err->message);
    return 0;
}

void *io_main(void *engine) {
    struct engine *e = engine;
    struct io io = {.engine = e, .n_free = READ_DEPTH};
    for (unsigned i = 0; i < READ_DEPTH; i++)
        io.free[i] = &io.reads[i];
    struct hearth_error err = HEARTH_ERROR_INIT;
    char why[sizeof(e->reader_why)] = "";
    struct reader *reader = NULL;
    int r = choose_reader(e->options.reader, &reader, why, sizeof(why), &err);
    pthread_mutex_lock(&e->lock);
    memcpy(e->reader_why, why, sizeof(why));
    e->reader = reader;
    e->io = &io;
    e->io_error = err;
    e->io_started = true;
    pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    if (r)
        return NULL;
    run(&io);
    reader->free(reader);
    return NULL;
}
