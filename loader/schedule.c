/* loader/schedule.c: what is populated, read, copied and hashed next. See internal.h.
 *
 * Whatever an urgent load can go on with goes before all of background loads. The same order for populating, reading
 * and copying, in each of the two classes:
 *   1. what a parser or a client waits for;
 *   2. the head and the tail of every file, so that parsers need not wait;
 *   3. file after file from front to back; but files that a serial hash follows go side by side, as many as the hash
 *      workers can keep up with, the one that is least far first.
 * What is bounded: bytes being read, the number of reads, and bytes populated ahead of them, each for one device. A
 * background load takes up more only below a part of each bound, whatever class what is under way is of: an urgent load
 * that comes finds that little ahead of it, and one that keeps the device busy keeps background loads from it.
 */
#include "loader/internal.h"

#define ABREAST_MAX 16u
/* Chunks of a file that wait for the first hash worker before others help: it takes 0.5 ms for one. */
#define HASH_BEHIND 2u

uint32_t stream_nth(const struct stream *s, uint32_t place) {
    if (place == 0 || s->n_pieces == 1)
        return 0;
    return place == 1 ? s->n_pieces - 1 : place - 1;
}

/* One of the ways through a stream. `try` takes the stream's next work up, if it has some that can be done now. */
struct way {
    bool (*try)(struct stream *s, uint64_t *at, uint64_t *length);
    bool (*try_piece)(struct stream *s, uint32_t piece, uint64_t *at, uint64_t *length);
    enum way_name name;
};

static uint32_t way_place(const struct way *w, const struct stream *s) {
    return s->place[w->name];
}

/* The ordered streams of one load from `s` on that go side by side, least far first. Returns how many; *after is the
 * first stream that is not among them. */
static unsigned abreast(const struct way *w, struct stream *s, struct stream **group, struct stream **after) {
    unsigned n = 0, most = 2 * s->load->engine->n_hashers;
    struct load *l = s->load;
    for (; s && s->sha256 && s->load == l; s = s->next) {
        if (n == most || n == ABREAST_MAX)
            continue;
        uint32_t place = way_place(w, s);
        if (place >= s->n_pieces)
            continue;
        unsigned i = n++;
        for (; i > 0 && way_place(w, group[i - 1]) > place; i--)
            group[i] = group[i - 1];
        group[i] = s;
    }
    *after = s;
    return n;
}

/* A range may be as long as its file: a few pieces at a time, so that others come in between. */
static bool choose_wanted(struct load *l, const struct way *w, struct stream **out, uint64_t *at, uint64_t *length) {
    for (unsigned i = 0; i < WANTED_MAX; i++) {
        const struct wanted *x = &l->wanted[i];
        for (uint32_t p = x->from; x->stream && p <= x->to && p - x->from < WANTED_PIECES_MAX; p++)
            if (w->try_piece(*out = x->stream, p, at, length))
                return true;
    }
    return false;
}

static bool passed_over(const struct load *l, bool background) {
    return l->failed || l->background != background;
}

static bool choose_among(struct engine *e, bool background, const struct way *w, struct stream **out, uint64_t *at,
                         uint64_t *length) {
    for (struct load *l = e->loads; l; l = l->next)
        if (!passed_over(l, background) && choose_wanted(l, w, out, at, length))
            return true;
    for (struct stream *s = e->streams; s; s = s->next)
        if (!passed_over(s->load, background) && way_place(w, s) < 2 && w->try(*out = s, at, length))
            return true;
    for (struct stream *s = e->streams, *after; s; s = after) {
        after = s->next;
        if (passed_over(s->load, background))
            continue;
        struct stream *group[ABREAST_MAX] = {s};
        unsigned n = s->sha256 ? abreast(w, s, group, &after) : 1;
        bool spent = false;
        for (unsigned i = 0; i < n; i++) {
            if (w->try(*out = group[i], at, length))
                return true;
            spent |= s->sha256 && way_place(w, group[i]) >= group[i]->n_pieces;
        }
        if (spent) /* others take its place: nobody will ask again before something is done */
            after = s;
    }
    return false;
}

static bool choose(struct engine *e, const struct way *w, struct stream **out, uint64_t *at, uint64_t *length) {
    return choose_among(e, false, w, out, at, length) || choose_among(e, true, w, out, at, length);
}

/* ---- populating: at and length are bytes ---- */

static void claim_blocks(struct stream *s, uint64_t from, uint64_t n) {
    for (uint64_t i = from; i < from + n; i++)
        s->blocks[i] = BUSY;
    uint64_t at = from * s->block_bytes, end = at + n * s->block_bytes;
    uint64_t bytes = (end < s->bytes ? end : s->bytes) - at;
    s->claimed += bytes;
    s->device->ahead += bytes;
}

static bool populate_piece(struct stream *s, uint32_t piece, uint64_t *at, uint64_t *length) {
    if (s->pieces[piece] == CACHED) /* who copies it, populates */
        return false;
    uint64_t from = piece * s->piece_bytes;
    uint64_t last = (from + stream_piece_length(s, piece) - 1) / s->block_bytes;
    for (uint64_t b = from / s->block_bytes; b <= last; b++) {
        if (s->blocks[b] != TODO)
            continue;
        uint64_t n = 1;
        while (b + n < s->n_blocks && s->blocks[b + n] == TODO && (n + 1) * s->block_bytes <= s->populate_step &&
               s->pieces[(b + n) * s->block_bytes / s->piece_bytes] != CACHED)
            n++;
        *at = b * s->block_bytes;
        *length = n * s->block_bytes;
        claim_blocks(s, b, n);
        s->load->users++;
        if (s->populate_step < POPULATE_STEP_MAX && !s->load->background)
            s->populate_step *= 2;
        return true;
    }
    return false;
}

/* The others help as long as less than half of what may be ahead is. */
static uint64_t help_below(const struct engine *e) {
    return e->options.populate_ahead / 2;
}

/* What background loads may take of a bound: enough to keep a disk busy, or nearly so. */
static uint64_t background_part(uint64_t bound) {
    return bound / 4;
}

static bool populate_below(struct stream *s, uint64_t most, uint64_t *at, uint64_t *length) {
    if (s->device->ahead >= (s->load->background ? background_part(most) : most))
        return false;
    for (; s->place[POPULATE] < s->n_pieces; s->place[POPULATE]++)
        if (populate_piece(s, stream_nth(s, s->place[POPULATE]), at, length))
            return true;
    return false;
}

static bool populate_next(struct stream *s, uint64_t *at, uint64_t *length) {
    return populate_below(s, s->load->engine->options.populate_ahead, at, length);
}

static bool populate_help(struct stream *s, uint64_t *at, uint64_t *length) {
    return populate_below(s, help_below(s->load->engine), at, length);
}

bool schedule_populate(struct engine *e, bool first, struct stream **s, uint64_t *offset, uint64_t *length) {
    static const struct way alone = {populate_next, populate_piece, POPULATE},
                            help = {populate_help, populate_piece, POPULATE};
    return choose(e, first ? &alone : &help, s, offset, length);
}

void populated(struct stream *s, uint64_t offset, uint64_t length) {
    for (uint64_t b = offset / s->block_bytes; b * s->block_bytes < offset + length; b++)
        s->blocks[b] = DONE, s->blocks_done++;
    if (s->blocks_done == s->n_blocks)
        pthread_cond_broadcast(&s->load->changed);
    copies_wanted(s);
}

/* ---- reading: at is a piece ---- */

static bool fell_below(uint64_t before, uint64_t now, uint64_t bound) {
    return before >= bound && now < bound;
}

/* Populators that waited for this have work again. */
static void submit(struct stream *s, uint64_t bytes) {
    struct engine *e = s->load->engine;
    uint64_t before = s->device->ahead, now = before - bytes;
    uint64_t most = e->options.populate_ahead, help = help_below(e);
    s->submitted += bytes;
    s->device->ahead = now;
    if (fell_below(before, now, most) || fell_below(before, now, background_part(most)))
        pthread_cond_signal(&e->populate_wanted);
    if (fell_below(before, now, help) || fell_below(before, now, background_part(help)))
        pthread_cond_signal(&e->populate_help);
}

static bool read_below(struct stream *s, uint32_t piece, uint64_t most, uint64_t *at, uint64_t *length) {
    struct engine *e = s->load->engine;
    uint64_t from = piece * s->piece_bytes, bytes = stream_piece_length(s, piece);
    struct device *d = s->device;
    if (s->pieces[piece] != TODO || d->reads >= DEVICE_READS_MAX || (d->in_flight > 0 && d->in_flight + bytes > most))
        return false;
    for (uint64_t b = from / s->block_bytes; b * s->block_bytes < from + bytes; b++)
        if (s->blocks[b] != DONE) {
            e->reader_starving = true;
            return false;
        }
    s->pieces[piece] = BUSY;
    d->in_flight += bytes;
    d->reads++;
    submit(s, bytes);
    s->load->users++;
    *at = piece;
    *length = bytes;
    return true;
}

/* What a parser or a client waits for. */
static bool read_piece(struct stream *s, uint32_t piece, uint64_t *at, uint64_t *length) {
    uint64_t bound = s->load->engine->options.bytes_in_flight;
    return read_below(s, piece, s->load->background ? background_part(bound) : bound, at, length);
}

/* What is under way cannot be taken back, and is how long the next range that somebody wants has to wait: so there is
 * less of it as long as the parser may want some, and clients that use what is there. */
static uint64_t unasked_most(const struct load *l) {
    uint64_t bound = l->engine->options.bytes_in_flight;
    if (l->page.shared)
        return background_part(bound) / 2;
    return l->background || !l->parsed ? background_part(bound) : bound;
}

static bool read_next(struct stream *s, uint64_t *at, uint64_t *length) {
    uint32_t *place = &s->place[READ];
    while (*place < s->n_pieces && s->pieces[stream_nth(s, *place)] != TODO)
        ++*place;
    return *place < s->n_pieces && read_below(s, stream_nth(s, *place), unasked_most(s->load), at, length);
}

bool schedule_read(struct engine *e, struct stream **s, uint32_t *piece) {
    static const struct way way = {read_next, read_piece, READ};
    uint64_t at, length;
    e->reader_starving = false;
    if (!choose(e, &way, s, &at, &length))
        return false;
    *piece = (uint32_t)at;
    return true;
}

/* ---- copying: at is a piece, length how many ---- */

static bool copy_piece(struct stream *s, uint32_t piece, uint64_t *at, uint64_t *length) {
    if (s->pieces[piece] != CACHED)
        return false;
    uint32_t per_chunk = (uint32_t)(CHUNK_BYTES / s->piece_bytes), from = piece, to = piece + 1;
    while (from % per_chunk != 0 && s->pieces[from - 1] == CACHED)
        from--;
    while (to % per_chunk != 0 && to < s->n_pieces && s->pieces[to] == CACHED)
        to++;
    for (uint64_t b = from * s->piece_bytes / s->block_bytes; b * s->block_bytes < to * s->piece_bytes; b++)
        if (b < s->n_blocks && s->blocks[b] == BUSY)
            return false;
    *at = from;
    *length = to - from;
    return true;
}

static bool copy_next(struct stream *s, uint64_t *at, uint64_t *length) {
    uint32_t *place = &s->place[COPY];
    while (*place < s->n_pieces && s->pieces[stream_nth(s, *place)] != CACHED)
        ++*place;
    return *place < s->n_pieces && copy_piece(s, stream_nth(s, *place), at, length);
}

/* A chunk has few blocks, and those of them that are not there yet stand side by side. */
static void claim_under(struct stream *s, struct copy_work *w) {
    uint64_t b = w->piece * s->piece_bytes / s->block_bytes, n = 0;
    uint64_t end = (w->piece + w->n_pieces) * s->piece_bytes;
    while (b < s->n_blocks && b * s->block_bytes < end && s->blocks[b] != TODO)
        b++;
    while (b + n < s->n_blocks && (b + n) * s->block_bytes < end && s->blocks[b + n] == TODO)
        n++;
    w->populate_from = b * s->block_bytes;
    w->populate_bytes = n * s->block_bytes;
    if (n > 0)
        claim_blocks(s, b, n);
}

bool schedule_copy(struct engine *e, struct copy_work *w) {
    static const struct way way = {copy_next, copy_piece, COPY};
    struct stream *s;
    uint64_t at, n;
    if (!choose(e, &way, &s, &at, &n))
        return false;
    *w = (struct copy_work){.stream = s, .piece = (uint32_t)at, .n_pieces = (uint32_t)n};
    w->whole = s->hashed && !s->sha256 && s->missing[at * s->piece_bytes / CHUNK_BYTES] == n;
    claim_under(s, w);
    for (uint32_t i = 0; i < n; i++) {
        s->pieces[at + i] = BUSY;
        submit(s, stream_piece_length(s, w->piece + i));
    }
    s->load->users++;
    return true;
}

void copies_wanted(struct stream *s) {
    if (s->place[COPY] < s->n_pieces) {
        pthread_cond_signal(&s->load->engine->hash_wanted);
        pthread_cond_broadcast(&s->load->engine->hash_help);
    }
}

/* From here on it is to be read. */
static void copy_return(struct stream *s, uint32_t piece) {
    uint32_t place = piece == 0 ? 0 : piece + 1 == s->n_pieces ? 1 : piece + 1;
    s->pieces[piece] = TODO;
    s->place[POPULATE] = place < s->place[POPULATE] ? place : s->place[POPULATE];
    s->place[READ] = place < s->place[READ] ? place : s->place[READ];
    pthread_cond_signal(&s->load->engine->populate_wanted);
}

void copy_returned(struct stream *s, uint32_t piece, uint32_t n) {
    for (uint32_t i = piece; i < piece + n; i++) {
        uint64_t bytes = stream_piece_length(s, i);
        s->submitted -= bytes;
        s->device->ahead += bytes;
        copy_return(s, i);
    }
    s->load->engine->reader->wake(s->load->engine->reader);
}

void copies_end(struct stream *s) {
    for (uint32_t i = 0; i < s->n_pieces; i++)
        if (s->pieces[i] == CACHED)
            copy_return(s, i);
    s->place[COPY] = s->n_pieces;
}

/* ---- what somebody waits for ---- */

/* Passes over what has landed. */
static void wanted_advance(struct load *l, struct wanted *x) {
    while (x->from <= x->to && x->stream->pieces[x->from] == DONE)
        x->from++;
    if (x->from <= x->to)
        return;
    x->stream = NULL;
    pthread_cond_broadcast(&l->changed);
}

void want(struct load *l, unsigned place, struct stream *s, uint32_t from, uint32_t to) {
    struct wanted *x = &l->wanted[place];
    *x = (struct wanted){s, from, to};
    wanted_advance(l, x);
    if (!x->stream)
        return;
    pthread_cond_signal(&l->engine->populate_wanted);
    copies_wanted(s);
    l->engine->reader->wake(l->engine->reader);
}

static bool has_chunk(const struct stream *s, bool first) {
    if (!s->hashed || s->load->failed)
        return false;
    if (!s->sha256)
        return s->ready_to - s->ready_from > (first ? 0 : HASH_BEHIND);
    return !s->hash_busy && s->chunk_next < s->n_chunks && s->missing[s->chunk_next] == 0;
}

void piece_landed(struct stream *s, uint32_t piece, bool hashed) {
    struct load *l = s->load;
    s->pieces[piece] = DONE;
    s->pieces_landed++;
    atomic_fetch_add(&l->landed, stream_piece_length(s, piece));
    uint32_t chunk = (uint32_t)(piece * s->piece_bytes / CHUNK_BYTES);
    if (--s->missing[chunk] == 0) {
        progress_landed(l, s->file, chunk);
        if (!s->hashed && s->at_once)
            progress_exposed(l, s->file, chunk, HEARTH_VERIFIED_NONE);
        if (s->hashed && !hashed) {
            if (!s->sha256)
                s->ready[s->ready_to++] = chunk;
            pthread_cond_signal(&l->engine->hash_wanted);
            if (has_chunk(s, false))
                pthread_cond_signal(&l->engine->hash_help);
        }
    }
    for (unsigned i = 0; i < WANTED_MAX; i++)
        if (l->wanted[i].stream == s)
            wanted_advance(l, &l->wanted[i]);
    if (stream_complete(s))
        pthread_cond_broadcast(&l->changed);
}

/* ---- hashing ---- */

/* What only one worker at a time can do. */
static uint32_t serial_chunks_left(const struct stream *s) {
    return s->sha256 ? s->n_chunks - s->chunk_next : 0;
}

/* The stream that would be alone at the end, were it left behind, goes first; but no load before an older one of its
 * class. */
static struct stream *best_to_hash(const struct engine *e, bool first, bool background) {
    struct stream *best = NULL;
    for (struct stream *s = e->streams; s; s = s->next)
        if (s->load->background == background && (!best || s->load == best->load) && has_chunk(s, first) &&
            (!best || serial_chunks_left(s) > serial_chunks_left(best)))
            best = s;
    return best;
}

bool schedule_hash(struct engine *e, bool first, struct stream **out, uint32_t *chunk) {
    struct stream *best = best_to_hash(e, first, false);
    if (!best && !(best = best_to_hash(e, first, true)))
        return false;
    *chunk = best->sha256 ? best->chunk_next++ : best->ready[best->ready_from++];
    best->hash_busy = best->sha256;
    best->load->users++;
    *out = best;
    return true;
}

void work_ended(struct load *l) {
    if (--l->users == 0)
        pthread_cond_broadcast(&l->changed);
}
