/* daemon/artifacts.h: all artifacts of this daemon, and the one place that makes the steps of their lives.
 *
 *     resolving -> queued -> loading -> resident -> gone
 *         \           \         \
 *          dropped     `---------`--> failed
 *
 * A LOAD makes a generation and has its reference resolved. The files' identities then give it its key: a generation
 * with the same key that is resident, or on its way, takes over the request, and the new one is dropped; else it is
 * queued, charged to the budget when its turn comes (daemon/queue.c), and loaded. For what a client waits for,
 * residents that nobody uses may have to go (daemon/residency.c).
 *
 * BACKGROUND. A load is in the background until somebody waits for it who is in a hurry; from then on it is not.
 *
 * STALE. When a resolve shows other files than those a resident generation of the same reference was made of, or none
 * at all, that generation is stale: it can still be attached by its id, and goes with its last lease, at once if it has
 * none.
 *
 * CANCELLED. What nobody waits for any more is not worth its disk time: a load ends when its last waiter goes, unless
 * it was asked for with NO_WAIT and has been answered.
 *
 * ENDING. What was cancelled or dropped is found and listed no more. It stays charged until its memory has come back,
 * which other threads see to, and a load that does not fit before waits for that.
 *
 * STREAMED. A load whose index is known can be leased too. It is not cancelled while it is; if it fails, or is evicted
 * by force, its leases stay, on a generation that is FAILED or GONE.
 *
 * PINNED. What is pinned (daemon/pins.h) is not evicted for others. When it is stale it stays until what is new is
 * resident. A pinned reference has a generation in the table at any time, a failed one if need be.
 *
 * FAILED. The last FAILURES_KEPT failed loads can be listed and watched, so that somebody who came back for a load that
 * he left alone learns why it failed. A failure is forgotten when newer ones take its place, when the same reference
 * becomes resident, or by EVICT. What is pinned or preloaded does not count, and is not forgotten for others. A
 * reference that cannot be resolved never had an id, and is not kept, unless it is preloaded (daemon/preload.c).
 *
 * GONE. A leased generation that is evicted by force cannot be attached any more. It is listed, and charged, until its
 * last lease ends and nobody has any of it open or mapped; the second goes for whatever is dropped
 * (daemon/residency.c).
 *
 * Answers are given by the callbacks, from inside any call but artifacts_find() and artifacts_next(), or from the loop.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <hearth/error.h>

#include "daemon/budget.h"
#include "daemon/generation.h"
#include "daemon/loop.h"
#include "loader/loader.h"

#define FAILURES_KEPT 16u

struct artifacts_events {
    /* Something is known that this waiter wants to know. */
    void (*progress)(void *user, const struct waiter *w, const struct generation *g);
    /* The request is over: err is NULL, or says why it failed. */
    void (*finished)(void *user, const struct waiter *w, const struct generation *g, const struct hearth_error *err);
    /* A load ended well. */
    void (*loaded)(void *user, const struct generation *g);
    /* It is pinned from now on, or is not. */
    void (*pinned)(void *user, const struct load_spec *spec, bool pinned);
    /* Its memory is about to go: whoever keeps descriptors of it gives them up. */
    void (*dropped)(void *user, struct generation *g);
    /* A load has failed. If clients stream it, their leases stay until they end by themselves. */
    void (*failed)(void *user, const struct generation *g, const struct hearth_error *err);
};

struct artifacts_options {
    struct loop *loop;
    struct engine *engine;
    struct resolver *resolver;
    struct budget *budget;
    struct store *store;    /* NULL: nothing is remembered */
    unsigned loads_at_once; /* from one storage */
    bool background_evicts; /* background loads take the place of idle residents, too */
    struct artifacts_events events;
    void *user;
};

/* Errors: NO_MEMORY, SYSTEM. */
int artifacts_new(const struct artifacts_options *options, struct artifacts **out, struct hearth_error *err);
/* Nothing may be under way (artifacts_busy()). Returns NULL; NULL is allowed. */
struct artifacts *artifacts_free(struct artifacts *a);

/* Changes options while it runs; call it when the budget has changed, too. */
void artifacts_tune(struct artifacts *a, unsigned loads_at_once, bool background_evicts);

struct generation *artifacts_find(struct artifacts *a, uint64_t id);
/* All of them, oldest first: NULL gives the first. */
struct generation *artifacts_next(struct artifacts *a, const struct generation *g);

/* A request, as a waiter to be copied: the fields from client to evicts. Always ends in finished(). */
void artifacts_load(struct artifacts *a, const struct load_spec *spec, const struct waiter *request);
void artifacts_watch(struct artifacts *a, struct generation *g, const struct waiter *request);
/* progress() for each change of any artifact's state, with request->all, until it is forgotten. */
void artifacts_watch_all(struct artifacts *a, const struct waiter *request);
/* Ends a client's waiting for one load, or with serial 0 for all that it asked for, and cancels what nobody else waits
 * for. With `why` it is told, else finished() is not called. */
void artifacts_forget(struct artifacts *a, const void *client, uint32_t serial, const struct hearth_error *why);

/* Errors: BUSY (not resident yet), NOT_FOUND (gone), the load's own when it failed. */
int artifacts_lease(struct generation *g, struct hearth_error *err);
/* The same for one that is loading. Errors: also BUSY when it cannot be streamed. */
int artifacts_lease_stream(struct generation *g, struct hearth_error *err);
/* g may be gone afterwards. */
void artifacts_unlease(struct generation *g);

/* Loads it in the background, in the order of these calls, though nobody asks for it; `pinned`: as artifacts_pin(),
 * without an event. A failure is kept. Errors: NO_MEMORY. */
int artifacts_preload(struct artifacts *a, const struct load_spec *spec, bool pinned, struct hearth_error *err);

/* Keeps its files in memory: this generation, and when they change the next one as soon as it is resident. Replaces a
 * pin on other files of the same reference. Errors: NO_MEMORY, NOT_FOUND (gone). */
int artifacts_pin(struct generation *g, struct hearth_error *err);
/* g may be gone afterwards. */
void artifacts_unpin(struct generation *g);

/* Drops it, leased or not, and with it its pin: it is for the caller to have asked whether that is wanted. `why` is for
 * those who wait for its load. The request ends, in finished(), when what nobody else holds of its memory has come
 * back. */
void artifacts_evict(struct generation *g, const struct hearth_error *why, const struct waiter *request);
/* Cancels everything under way and drops what can be. `why` is for those who wait. */
void artifacts_evict_all(struct artifacts *a, const struct hearth_error *why);
/* True while a resolve is wanted, a load is under way, cancelled ones included, or memory is on its way back. */
bool artifacts_busy(const struct artifacts *a);
/* True while there is something to do that somebody has asked for, or will; what waits in the background does not
 * count: it waits for what is not in use either. */
bool artifacts_in_use(const struct artifacts *a);
/* Loads under way, cancelled ones included. */
unsigned artifacts_loads(const struct artifacts *a);
/* Loads that wait for their turn or for room. */
unsigned artifacts_queued(const struct artifacts *a);
