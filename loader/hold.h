/* loader/hold.h: memory that is ready in advance.
 *
 * What is held is anonymous memory of no use in itself: just before a blob's pages are populated, as much of it is
 * given back, and the kernel hands out the same physical pages again, which the host still backs. It needs no matching
 * of sizes, and costs less than spare blobs would.
 *
 * It is made of chunks, each populated in one step. Once no load has run for a while, a populator fills one after the
 * other, as long as enough memory stays free for everybody else; a load that begins ends that with the step under way.
 * Under pressure everything is given back but what loads under way have been promised (memory_needed()).
 *
 * Thread rule: all with the engine's lock held; what takes time lets go of it meanwhile.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;

#define HOLD_CHUNK_BYTES (UINT64_C(8) << 20) /* some 25 ms, where the host has to supply it first */

struct hold {
    uint64_t wanted; /* bytes: so many whole chunks of them */
    uint64_t held;
    /* The first `n_held` have something in them, and the last of those is given back first; the rest are address space
     * that is used again. */
    struct hold_chunk {
        uint8_t *at;
        uint64_t left; /* its first bytes are populated */
    } * chunks;
    size_t n_held, n_chunks, room;
    uint64_t credit;      /* bytes given back beyond what was asked for: only whole huge pages are */
    unsigned givers;      /* threads that give a part of a chunk back: it must stay where it is */
    bool busy;            /* a thread is in hold_turn() */
    uint64_t not_before;  /* CLOCK_MONOTONIC, ns: no chunk is filled before */
    uint64_t short_until; /* likewise: memory is short */
    bool looks;           /* nobody tells us about pressure */
    uint64_t look_at;
};

/* Gives `bytes` back, or what is left of them, for a caller who is about to populate as much. */
void hold_give(struct engine *e, uint64_t bytes);
/* One step of what there is to do. False when there is nothing to do now; *again is then when there may be (ns, or
 * UINT64_MAX). */
bool hold_turn(struct engine *e, uint64_t *again);
/* A load has ended. */
void hold_rest(struct engine *e);
/* With no other thread left. */
void hold_deinit(struct hold *h);
