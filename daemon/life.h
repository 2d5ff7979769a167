/* daemon/life.h: what the files behind artifacts.h share: the table itself, and the functions that make the steps.
 *
 *     artifacts.c  the table, and what is asked of it
 *     life.c       the steps of an artifact's life, from being resolved to giving its memory back
 *     queue.c      whose turn it is
 *     residency.c  what is in memory, and what may go for something else
 *     preload.c    what is loaded although nobody has asked
 *     waiting.c    those who wait for a load, and what they are told
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include "daemon/artifacts.h"
#include "daemon/pins.h"
#include "daemon/slots.h"

#define BUCKETS 256u

LIST_HEAD(bucket, generation);

struct artifacts {
    struct artifacts_options o;
    struct bucket buckets[BUCKETS]; /* ids are random: their low bits are the hash */
    TAILQ_HEAD(, generation) all;
    struct waiters watchers;       /* of all artifacts */
    TAILQ_HEAD(, generation) used; /* residents, the least recently used first */
    struct slots slots;
    struct pins pins;
    unsigned queued, retiring;
    struct loop_timer progress;
    struct loop_timer look_again; /* at the queue */
    struct loop_timer held;       /* at what clients still hold of what was dropped: off where there is none */
    uint64_t held_wait_ns;        /* until the next look */
    struct loop_timer preload;
    uint64_t preloading, preload_next_ns; /* whose turn it is, and until when the next one waits for it */
    bool ending;
};

/* ---- artifacts.c ---- */

/* In the table, RESOLVING. NULL when there is no memory. */
struct generation *artifacts_add(struct artifacts *a, const struct load_spec *spec, uid_t owner, bool background);

/* ---- life.c ---- */

/* What was asked for, from here on: resolve_done. */
void life_resolved(void *generation, struct artifact *artifact, struct hearth_span span,
                   const struct hearth_error *err);
/* QUEUED to LOADING: its place and its room have been taken. */
void life_load(struct generation *g);
/* It has come to nothing. What is leased keeps its leases. */
void life_failed(struct generation *g, const struct hearth_error *err);
/* FAILED to RESOLVING: it is to be tried again. */
void life_retry(struct generation *g);
/* What can go now that it is not pinned any more. g may be gone afterwards. */
void life_unpinned(struct generation *g);
/* Evicted, and leased: it goes with its last lease. */
void life_gone(struct generation *g);
/* The end of its life, whatever it was. g may be gone afterwards. */
void life_drop(struct generation *g);
/* Gives the memory of what was dropped back, as far as nobody else holds it. */
void life_retire(struct generation *g);
/* A failure that nobody is to hear of any more; it goes with its last lease. g may be gone afterwards. */
void life_forget_failure(struct generation *g);
/* Nobody waits for it, nor streams it. */
bool life_is_unwanted(const struct generation *g);
/* Ends what is under way, without a word to anybody. g may be gone afterwards. */
void life_abandon(struct generation *g);
/* Nothing is left of it. */
void life_forget(struct generation *g);

/* ---- queue.c ---- */

/* Starts what can start. Whatever ends, goes or gives something back calls it. */
void queue_run(struct artifacts *a);
/* loop_timer: the same. */
void queue_look_again(void *artifacts);
/* A client waits for it from now on: it goes before what nobody waits for. */
void queue_hasten(struct generation *g);

/* ---- residency.c ---- */

/* It is used now. */
void residency_touch(struct generation *g);
/* What all but `for_whom` hold, by what can be done about it. */
struct holdings {
    struct charge pinned;  /* here to stay, by pins or in another user's share */
    struct charge kept;    /* leased, or held by clients after eviction: theirs to give back; or it has overtaken */
    struct charge loading; /* not to be had before it is resident */
    struct charge coming;  /* on its way back */
    struct charge idle;    /* residents that may go for it */
    uint64_t changes_ns;   /* when the same question has another answer by time alone; LOOP_NEVER */
};
/* `first` (or NULL) waits for room: what loads although it was asked for later has overtaken it. */
struct holdings residency_survey(const struct generation *for_whom, const struct generation *first);
/* Evicts residents that may go for it, the least recently used first, until so much is on its way back. */
void residency_make_room(const struct generation *for_whom, struct charge lacking);

/* Evicts what nobody uses until the rest fits into the budget, which has become smaller. */
void residency_shrink(struct artifacts *a);
/* It was dropped, and clients hold some of it: looks now and then whether they still do. */
void residency_held(struct generation *g);
/* loop_timer: looks. */
void residency_look(void *artifacts);

/* ---- preload.c ---- */

/* Resolves what is to be, and tries again what is to be. loop_timer. */
void preload_run(void *artifacts);
/* Somebody waits for it, whose turn has not come: it has. */
void preload_begin(struct generation *g);
/* A preload has failed, and is listed so. */
void preload_failed(struct generation *g);

/* ---- waiting.c ---- */

/* NULL when there is no memory. */
struct waiter *waiting_add(struct generation *g, const struct waiter *request);
/* Tells one how things stand: at once with the end, if it has come, else with the id. */
void waiting_tell(struct generation *g, struct waiter *w);
void waiting_finish(struct generation *g, struct waiter *w, const struct hearth_error *err);
void waiting_finish_all(struct generation *g, const struct hearth_error *err);
/* Tells those who follow all artifacts. */
void waiting_announce(struct generation *g);
/* loop_timer: PROGRESS for who wants it. */
void waiting_tick(void *artifacts);
/* The error of what was evicted. */
int waiting_gone(const struct generation *g, struct hearth_error *err);
