/* daemon/waiting.c: those who wait for a load: they hear how far it is, at most ten times a second, and how it ends. */
#include <stdlib.h>

#include <hearth/hearth.h>

#include "daemon/life.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

#define PROGRESS_NS (NS_PER_S / 10)

struct waiter *waiting_add(struct generation *g, const struct waiter *request) {
    struct waiter *w = malloc(sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct waiter){.client = request->client,
                         .serial = request->serial,
                         .progress = request->progress,
                         .no_wait = request->no_wait,
                         .background = request->background,
                         .pin = request->pin,
                         .evicts = request->evicts,
                         .attach = request->attach,
                         .start_ns = clock_now()};
    TAILQ_INSERT_TAIL(&g->waiters, w, link);
    return w;
}

void waiting_tick(void *artifacts) {
    struct artifacts *a = artifacts;
    uint64_t now = clock_now(), next = LOOP_NEVER;
    struct generation *g;
    struct waiter *w;
    TAILQ_FOREACH(g, &a->all, link) {
        if (g->state != HEARTH_STATE_QUEUED && g->state != HEARTH_STATE_LOADING)
            continue;
        TAILQ_FOREACH(w, &g->waiters, link) {
            if (!w->progress)
                continue;
            if (now - w->progress_ns >= PROGRESS_NS) {
                w->progress_ns = now;
                a->o.events.progress(a->o.user, w, g);
            }
            if (w->progress_ns + PROGRESS_NS < next)
                next = w->progress_ns + PROGRESS_NS;
        }
    }
    loop_timer_set(a->o.loop, &a->progress, next);
}

void waiting_finish(struct generation *g, struct waiter *w, const struct hearth_error *err) {
    TAILQ_REMOVE(&g->waiters, w, link);
    g->artifacts->o.events.finished(g->artifacts->o.user, w, g, err);
    free(w);
}

void waiting_finish_all(struct generation *g, const struct hearth_error *err) {
    for (struct waiter *w; (w = TAILQ_FIRST(&g->waiters));)
        waiting_finish(g, w, err);
}

void waiting_announce(struct generation *g) {
    struct artifacts *a = g->artifacts;
    struct waiter *w;
    TAILQ_FOREACH(w, &a->watchers, link)
    a->o.events.progress(a->o.user, w, g);
}

int waiting_gone(const struct generation *g, struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    error_set(err, HEARTH_E_NOT_FOUND, "artifact %s was evicted", format_id(g->id, id));
    error_at(err, g->spec->ref, HEARTH_NO_OFFSET);
    error_hint(err, "load it again; it gets a new id");
    return HEARTH_E_NOT_FOUND;
}

void waiting_tell(struct generation *g, struct waiter *w) {
    struct artifacts *a = g->artifacts;
    struct hearth_error refused = HEARTH_ERROR_INIT;
    if (w->pin && g->state >= HEARTH_STATE_QUEUED && g->state <= HEARTH_STATE_RESIDENT) {
        w->pin = false;
        if (artifacts_pin(g, &refused)) {
            waiting_finish(g, w, &refused);
            return;
        }
    }
    if (g->state == HEARTH_STATE_FAILED) {
        waiting_finish(g, w, g->reason);
    } else if (g->state == HEARTH_STATE_RESIDENT) {
        waiting_finish(g, w, NULL);
    } else if (g->state == HEARTH_STATE_GONE) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        waiting_gone(g, &err);
        waiting_finish(g, w, &err);
    } else if (w->attach && generation_streams(g)) {
        waiting_finish(g, w, NULL);
    } else if (g->state != HEARTH_STATE_RESOLVING && w->no_wait) {
        g->keep = true;
        waiting_finish(g, w, NULL);
    } else if (g->state != HEARTH_STATE_RESOLVING && w->progress) {
        w->progress_ns = clock_now();
        a->o.events.progress(a->o.user, w, g);
        if (a->progress.at == 0 || a->progress.at == LOOP_NEVER)
            loop_timer_set(a->o.loop, &a->progress, w->progress_ns + PROGRESS_NS);
    }
}
