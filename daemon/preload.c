/* daemon/preload.c: what is loaded although no client has asked: `preload` of the configuration, and pins.
 *
 * All of them are in the list from the start on, so that who waits for one finds it. They are resolved one after
 * another, so that they are queued in their order; but a storage that does not answer holds the next one up for no more
 * than a moment. They load in the background. What a client waits for meanwhile does not wait for its place.
 *
 * One that fails is listed with its reason. Where its reference is not there (storage that is mounted late), or too
 * much waits for storage already, it is tried again, every minute.
 */
#include <stdlib.h>

#include "daemon/life.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define NEXT_NS NS_PER_S
#define RETRY_NS (60 * NS_PER_S)

static bool is_to_begin(const struct generation *g) {
    return g->preload && g->state == HEARTH_STATE_RESOLVING && !g->resolve;
}

void preload_begin(struct generation *g) {
    struct artifacts *a = g->artifacts;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (!is_to_begin(g))
        return;
    a->preloading = g->id;
    a->preload_next_ns = clock_now() + NEXT_NS;
    if (resolve_start(a->o.resolver, g->spec, life_resolved, g, &g->resolve, &err))
        life_failed(g, &err);
}

void preload_failed(struct generation *g) {
    struct artifacts *a = g->artifacts;
    enum hearth_code code = g->reason->code;
    if (code == HEARTH_E_NOT_FOUND || code == HEARTH_E_BUSY)
        g->retry_ns = clock_now() + RETRY_NS;
    log_failure(LOG_WARNING, g->retry_ns ? "a preload failed, and is tried again in a minute" : "a preload failed",
                g->reason);
    loop_timer_set(a->o.loop, &a->preload, clock_now()); /* the next one's turn, and that of this one */
}

/* The one whose turn it is has not been resolved yet, and not for long. */
static bool must_wait(struct artifacts *a, uint64_t now) {
    const struct generation *g = artifacts_find(a, a->preloading);
    return g && g->state == HEARTH_STATE_RESOLVING && g->resolve && now < a->preload_next_ns;
}

void preload_run(void *artifacts) {
    struct artifacts *a = artifacts;
    uint64_t now = clock_now(), next_ns = LOOP_NEVER;
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (g->preload && g->state == HEARTH_STATE_FAILED && g->retry_ns && g->retry_ns <= now)
            life_retry(g);
        if (g->preload && g->state == HEARTH_STATE_FAILED && g->retry_ns && g->retry_ns < next_ns)
            next_ns = g->retry_ns;
        if (!is_to_begin(g))
            continue;
        if (must_wait(a, now)) {
            next_ns = a->preload_next_ns < next_ns ? a->preload_next_ns : next_ns;
            continue;
        }
        preload_begin(g);
    }
    loop_timer_set(a->o.loop, &a->preload, next_ns);
}
