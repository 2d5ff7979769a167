/* loader/hold.c: see hold.h. */
#include "loader/hold.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "loader/internal.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/kernel.h"
#include "util/memory_limit.h"

/* After a load, for the next one of several comes first. Memory that was freed with it is still there then: hosts take
 * it back after about 2 s. */
#define REST_NS (1 * NS_PER_S)
/* After pressure, and where memory is scarce. */
#define SHORT_NS (30 * NS_PER_S)
/* Where the kernel tells nobody about pressure. */
#define LOOK_NS (2 * NS_PER_S)
/* Of the tightest limit, what stays free for others: to fill, and to keep what is held. */
#define FREE_SHARE_TO_FILL 8
#define FREE_SHARE_TO_KEEP 16

static void wake(struct engine *e) {
    pthread_cond_signal(e->options.populators > 1 ? &e->populate_help : &e->populate_wanted);
}

/* ---- giving back ---- */

void hold_give(struct engine *e, uint64_t bytes) {
    struct hold *h = &e->hold;
    if (h->n_held == 0)
        return;
    if (h->credit >= bytes) {
        h->credit -= bytes;
        return;
    }
    uint64_t need = (bytes - h->credit + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    h->credit += need - bytes;
    h->givers++;
    while (need > 0 && h->n_held > 0) {
        struct hold_chunk *c = &h->chunks[h->n_held - 1];
        uint64_t n = need < c->left ? need : c->left;
        c->left -= n;
        h->n_held -= c->left == 0;
        h->held -= n;
        need -= n;
        uint8_t *at = c->at + c->left;
        pthread_mutex_unlock(&e->lock);
        (void)madvise(at, n, MADV_DONTNEED_LOCKED);
        pthread_mutex_lock(&e->lock);
    }
    h->givers--;
    if (h->n_held == 0)
        h->credit = 0;
}

/* The last chunk, and its address space. */
static void shrink(struct engine *e) {
    struct hold *h = &e->hold;
    struct hold_chunk c = h->chunks[--h->n_chunks];
    if (h->n_held > h->n_chunks) {
        h->n_held--;
        h->held -= c.left;
    }
    pthread_mutex_unlock(&e->lock);
    munmap(c.at, HOLD_CHUNK_BYTES);
    pthread_mutex_lock(&e->lock);
}

/* ---- filling ---- */

/* At a multiple of a huge page. NULL when there is no address space. */
static uint8_t *chunk_map(void) {
    uint8_t *area =
        mmap(NULL, HOLD_CHUNK_BYTES + BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)area & (BLOCK_BYTES - 1));
    if (before > 0)
        munmap(area, before);
    munmap(area + before + HOLD_CHUNK_BYTES, BLOCK_BYTES - before);
    (void)madvise(area + before, HOLD_CHUNK_BYTES, MADV_HUGEPAGE);
    (void)madvise(area + before, HOLD_CHUNK_BYTES, MADV_DONTFORK);
    /* Out of swap, where that is allowed: what has to be read back from there is not ready. */
    (void)mlock2(area + before, HOLD_CHUNK_BYTES, MLOCK_ONFAULT);
    return area + before;
}

static bool enough_memory(const struct engine *e, uint64_t more, unsigned share) {
    struct memory_limit m;
    return memory_limit_read(e->limits_root, &m, NULL) == 0 && m.available >= more &&
           m.available - more >= m.limit / share;
}

/* One chunk more, or the last one whole again. */
static void grow(struct engine *e) {
    struct hold *h = &e->hold;
    struct hold_chunk c = {NULL, 0};
    struct hold_chunk *moved = grow_array(h->chunks, h->n_chunks, &h->room, sizeof(*h->chunks));
    if (!moved) {
        h->not_before = clock_now() + SHORT_NS;
        return;
    }
    h->chunks = moved;
    if (h->n_held > 0 && h->chunks[h->n_held - 1].left < HOLD_CHUNK_BYTES)
        h->held -= h->chunks[--h->n_held].left;
    /* Out of the array while the lock is not held, and its place goes to the last one. */
    if (h->n_held < h->n_chunks) {
        c = h->chunks[h->n_held];
        h->chunks[h->n_held] = h->chunks[--h->n_chunks];
    }
    pthread_mutex_unlock(&e->lock);
    bool filled = false;
    if (enough_memory(e, HOLD_CHUNK_BYTES, FREE_SHARE_TO_FILL) && (c.at || (c.at = chunk_map())))
        filled = madvise(c.at, HOLD_CHUNK_BYTES, MADV_POPULATE_WRITE) == 0;
    if (c.at && !filled)
        munmap(c.at, HOLD_CHUNK_BYTES);
    pthread_mutex_lock(&e->lock);
    if (!filled) {
        h->not_before = clock_now() + SHORT_NS;
        return;
    }
    h->chunks[h->n_chunks++] = h->chunks[h->n_held]; /* there is room: nobody else adds any */
    h->chunks[h->n_held++] = (struct hold_chunk){c.at, HOLD_CHUNK_BYTES};
    h->held += HOLD_CHUNK_BYTES;
}

/* ---- what is next ---- */

/* Bytes that may be held. While loads run it shrinks by what they take, and only then by what is not wanted. A chunk
 * more than what they were promised, for they go whole. */
static uint64_t allowed(const struct engine *e, uint64_t now) {
    const struct hold *h = &e->hold;
    if (now < h->short_until)
        return e->loads ? e->reserved + HOLD_CHUNK_BYTES : 0;
    return e->loads ? UINT64_MAX : h->wanted;
}

static bool step(struct engine *e, uint64_t now) {
    struct hold *h = &e->hold;
    if (h->looks && h->held > 0 && now >= h->look_at) {
        h->look_at = now + LOOK_NS;
        pthread_mutex_unlock(&e->lock);
        bool enough = enough_memory(e, 0, FREE_SHARE_TO_KEEP);
        pthread_mutex_lock(&e->lock);
        if (!enough)
            h->short_until = now + SHORT_NS;
        return true;
    }
    if (h->held > allowed(e, now) || (!e->loads && h->n_chunks * HOLD_CHUNK_BYTES > h->wanted)) {
        shrink(e);
        return true;
    }
    if (e->loads || h->held + HOLD_CHUNK_BYTES > h->wanted || now < h->not_before || now < h->short_until)
        return false;
    grow(e);
    return true;
}

bool hold_turn(struct engine *e, uint64_t *again) {
    struct hold *h = &e->hold;
    *again = UINT64_MAX;
    if (h->busy || h->givers) /* who gives has a load, whose end comes back to this */
        return false;
    uint64_t now = clock_now();
    h->busy = true;
    bool did = step(e, now);
    h->busy = false;
    if (!did && !e->loads && h->held + HOLD_CHUNK_BYTES <= h->wanted)
        *again = h->not_before > h->short_until ? h->not_before : h->short_until;
    if (!did && h->looks && h->held > 0 && h->look_at < *again)
        *again = h->look_at;
    return did;
}

void hold_rest(struct engine *e) {
    uint64_t until = clock_now() + REST_NS;
    if (e->hold.not_before < until)
        e->hold.not_before = until;
    if (e->hold.wanted > 0 || e->hold.n_chunks > 0)
        wake(e);
}

void engine_hold(struct engine *e, uint64_t bytes) {
    pthread_mutex_lock(&e->lock);
    e->hold.wanted = bytes / HOLD_CHUNK_BYTES * HOLD_CHUNK_BYTES;
    wake(e);
    pthread_mutex_unlock(&e->lock);
}

void engine_pressure(struct engine *e) {
    pthread_mutex_lock(&e->lock);
    e->hold.short_until = clock_now() + SHORT_NS;
    if (e->hold.held > 0)
        wake(e);
    pthread_mutex_unlock(&e->lock);
}

void engine_look_for_pressure(struct engine *e) {
    pthread_mutex_lock(&e->lock);
    e->hold.looks = true;
    wake(e);
    pthread_mutex_unlock(&e->lock);
}

uint64_t engine_held(struct engine *e) {
    pthread_mutex_lock(&e->lock);
    uint64_t held = e->hold.held;
    pthread_mutex_unlock(&e->lock);
    return held;
}

void hold_deinit(struct hold *h) {
    for (size_t i = 0; i < h->n_chunks; i++)
        munmap(h->chunks[i].at, HOLD_CHUNK_BYTES);
    free(h->chunks);
    *h = (struct hold){0};
}
