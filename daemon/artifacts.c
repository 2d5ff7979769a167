/* daemon/artifacts.c: the table of artifacts, and what is asked of it. See artifacts.h; life.h names the other files.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "daemon/life.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

/* ---- the table ---- */

struct generation *artifacts_find(struct artifacts *a, uint64_t id) {
    struct generation *g;
    LIST_FOREACH(g, &a->buckets[id % BUCKETS], bucket)
    if (g->id == id && !g->ending)
        return g;
    return NULL;
}

struct generation *artifacts_next(struct artifacts *a, const struct generation *g) {
    struct generation *next = g ? TAILQ_NEXT(g, link) : TAILQ_FIRST(&a->all);
    while (next && next->ending)
        next = TAILQ_NEXT(next, link);
    return next;
}

static uint64_t new_id(struct artifacts *a) {
    uint64_t id;
    do {
        id = generation_random_id();
    } while (id == 0 || artifacts_find(a, id));
    return id;
}

bool artifacts_busy(const struct artifacts *a) {
    const struct generation *g;
    if (a->slots.running || a->retiring)
        return true;
    TAILQ_FOREACH(g, &a->all, link)
    if (g->state < HEARTH_STATE_RESIDENT)
        return true;
    return false;
}

bool artifacts_in_use(const struct artifacts *a) {
    const struct generation *g;
    if (a->slots.running || pins_any(&a->pins))
        return true;
    TAILQ_FOREACH(g, &a->all, link)
    if (g->state == HEARTH_STATE_RESOLVING || (g->state == HEARTH_STATE_QUEUED && !g->background))
        return true;
    return false;
}

unsigned artifacts_loads(const struct artifacts *a) {
    return a->slots.running;
}

unsigned artifacts_queued(const struct artifacts *a) {
    return a->queued;
}

/* ---- requests ---- */

static void refuse(struct artifacts *a, const struct waiter *request, const struct generation *g) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_NO_MEMORY, "no memory for the request");
    a->o.events.finished(a->o.user, request, g, &err);
}

struct generation *artifacts_add(struct artifacts *a, const struct load_spec *spec, uid_t owner, bool background) {
    struct generation *g = generation_new(new_id(a), spec);
    if (!g)
        return NULL;
    g->artifacts = a;
    g->background = background;
    g->owner = owner;
    g->pinned = pins_has(&a->pins, spec);
    LIST_INSERT_HEAD(&a->buckets[g->id % BUCKETS], g, bucket);
    TAILQ_INSERT_TAIL(&a->all, g, link);
    return g;
}

void artifacts_load(struct artifacts *a, const struct load_spec *spec, const struct waiter *request) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct generation *g = artifacts_add(a, spec, request->uid, request->background);
    if (!g) {
        refuse(a, request, NULL);
        return;
    }
    if (!waiting_add(g, request)) {
        refuse(a, request, g);
        life_drop(g);
    } else if (resolve_start(a->o.resolver, spec, life_resolved, g, &g->resolve, &err)) {
        waiting_finish_all(g, &err);
        life_drop(g);
    }
}

void artifacts_watch(struct artifacts *a, struct generation *g, const struct waiter *request) {
    struct waiter *w = waiting_add(g, request);
    if (!w) {
        refuse(a, request, g);
        return;
    }
    waiting_tell(g, w);
    if (!request->background) {
        queue_hasten(g);
        preload_begin(g);
    }
    queue_run(a);
}

void artifacts_watch_all(struct artifacts *a, const struct waiter *request) {
    struct waiter *w = malloc(sizeof(*w));
    if (!w) {
        refuse(a, request, NULL);
        return;
    }
    *w = *request;
    w->all = true;
    TAILQ_INSERT_TAIL(&a->watchers, w, link);
}

/* serial 0: all of the client's; client NULL: everybody's. */
static void forget_watchers(struct artifacts *a, const void *client, uint32_t serial, const struct hearth_error *why) {
    for (struct waiter *w = TAILQ_FIRST(&a->watchers), *next; w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (client && (w->client != client || (serial && w->serial != serial)))
            continue;
        TAILQ_REMOVE(&a->watchers, w, link);
        if (why)
            a->o.events.finished(a->o.user, w, NULL, why);
        free(w);
    }
}

void artifacts_forget(struct artifacts *a, const void *client, uint32_t serial, const struct hearth_error *why) {
    forget_watchers(a, client, serial, why);
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        bool left = false;
        for (struct waiter *w = TAILQ_FIRST(&g->waiters), *after; w; w = after) {
            after = TAILQ_NEXT(w, link);
            if (w->client != client || (serial && (w->serial != serial || w->evicts)))
                continue;
            left = true;
            if (why) {
                waiting_finish(g, w, why);
            } else {
                TAILQ_REMOVE(&g->waiters, w, link);
                free(w);
            }
        }
        if (left && life_is_unwanted(g))
            life_abandon(g);
    }
    queue_run(a);
}

int artifacts_lease(struct generation *g, struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    if (g->state == HEARTH_STATE_RESIDENT) {
        g->leases++;
        residency_touch(g);
        return 0;
    }
    if (g->state == HEARTH_STATE_FAILED) {
        if (err)
            *err = *g->reason;
        return g->reason->code;
    }
    if (g->state == HEARTH_STATE_GONE)
        return waiting_gone(g, err);
    return error_set(err, HEARTH_E_BUSY, "artifact %s is %s, not resident yet", format_id(g->id, id),
                     hearth_state_name(g->state));
}

int artifacts_lease_stream(struct generation *g, struct hearth_error *err) {
    if (!generation_streams(g))
        return artifacts_lease(g, err);
    g->leases++;
    return 0;
}

void artifacts_unlease(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (--g->leases > 0)
        return;
    if (life_is_unwanted(g))
        life_abandon(g);
    else if ((g->stale && !g->pinned) || g->superseded || g->state == HEARTH_STATE_GONE)
        life_drop(g);
    else
        residency_touch(g);
    queue_run(a);
}

/* ---- pins ---- */

int artifacts_preload(struct artifacts *a, const struct load_spec *spec, bool pinned, struct hearth_error *err) {
    int r = pinned ? pins_put(&a->pins, spec, err) : 0;
    if (r)
        return r;
    struct generation *g = artifacts_add(a, spec, geteuid(), true);
    if (!g)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory to load %.256s in advance", spec->ref);
    g->preload = g->keep = true;
    loop_timer_set(a->o.loop, &a->preload, clock_now());
    return 0;
}

/* Pins, or the end of them, as it shows on what is there; `stays` is not dropped. */
static void mark_pinned(struct artifacts *a, const char *ref, struct generation *stays) {
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (strcmp(g->spec->ref, ref) != 0 || g->ending || g->superseded || g->state == HEARTH_STATE_GONE)
            continue;
        g->pinned = pins_has(&a->pins, g->spec) && (!g->stale || g->pinned);
        if (g->pinned)
            g->keep = g->state < HEARTH_STATE_RESIDENT;
        else if (g == stays)
            g->pinned = false;
        else
            life_unpinned(g);
    }
}

static void unpin(struct generation *g, struct generation *stays) {
    struct artifacts *a = g->artifacts;
    char ref[PATH_MAX];
    if (!pins_has(&a->pins, g->spec))
        return;
    snprintf(ref, sizeof(ref), "%s", g->spec->ref);
    pins_remove(&a->pins, ref);
    a->o.events.pinned(a->o.user, g->spec, false);
    mark_pinned(a, ref, stays);
}

int artifacts_pin(struct generation *g, struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    if (g->state == HEARTH_STATE_GONE)
        return waiting_gone(g, err);
    int r = pins_put(&a->pins, g->spec, err);
    if (r)
        return r;
    a->o.events.pinned(a->o.user, g->spec, true);
    mark_pinned(a, g->spec->ref, g);
    return 0;
}

void artifacts_unpin(struct generation *g) {
    struct artifacts *a = g->artifacts;
    unpin(g, NULL);
    queue_run(a);
}

/* ---- eviction ---- */

/* One that is gone already has no more to lose: it is its holders'. */
static void evict(struct generation *g) {
    if (g->state == HEARTH_STATE_GONE)
        return;
    if (g->leases && g->state == HEARTH_STATE_LOADING)
        load_cancel(g->load); /* those who stream it see it fail */
    else if (g->leases)
        life_gone(g);
    else if (g->state < HEARTH_STATE_RESIDENT)
        life_abandon(g);
    else
        life_drop(g);
}

void artifacts_evict(struct generation *g, const struct hearth_error *why, const struct waiter *request) {
    struct artifacts *a = g->artifacts;
    unpin(g, g);
    waiting_finish_all(g, why);
    bool waits = g->resident && !g->leases && waiting_add(g, request);
    evict(g);
    if (!waits)
        a->o.events.finished(a->o.user, request, NULL, NULL);
    queue_run(a);
}

void artifacts_evict_all(struct artifacts *a, const struct hearth_error *why) {
    a->ending = true;
    forget_watchers(a, NULL, 0, why);
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (g->ending)
            continue;
        waiting_finish_all(g, why);
        if (g->held && !g->retiring)
            life_forget(g);
        else
            evict(g);
    }
}

/* ---- making and freeing ---- */

int artifacts_new(const struct artifacts_options *options, struct artifacts **out, struct hearth_error *err) {
    struct artifacts *a = calloc(1, sizeof(*a));
    if (!a)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the table of artifacts");
    a->o = *options;
    a->slots.at_once = options->loads_at_once;
    TAILQ_INIT(&a->all);
    TAILQ_INIT(&a->used);
    TAILQ_INIT(&a->watchers);
    a->progress = (struct loop_timer){.due = waiting_tick, .user = a};
    a->look_again = (struct loop_timer){.due = queue_look_again, .user = a};
    pins_init(&a->pins);
    a->preload = (struct loop_timer){.due = preload_run, .user = a};
    a->held = (struct loop_timer){.due = residency_look, .user = a};
    *out = a;
    return 0;
}

void artifacts_tune(struct artifacts *a, unsigned loads_at_once, bool background_evicts) {
    a->slots.at_once = loads_at_once;
    a->o.background_evicts = background_evicts;
    residency_shrink(a);
    queue_run(a);
}

struct artifacts *artifacts_free(struct artifacts *a) {
    if (!a)
        return NULL;
    struct loop_timer *timers[] = {&a->progress, &a->look_again, &a->preload, &a->held};
    for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++)
        loop_timer_remove(timers[i]);
    forget_watchers(a, NULL, 0, NULL);
    for (struct generation *g; (g = TAILQ_FIRST(&a->all));) {
        if (g->resident)
            a->o.events.dropped(a->o.user, g);
        life_forget(g);
    }
    slots_deinit(&a->slots);
    pins_deinit(&a->pins);
    free(a);
    return NULL;
}
