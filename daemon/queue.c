/* daemon/queue.c: whose turn it is.
 *
 * What a client waits for goes before what nobody waits for yet, and among those the first that was asked for. A load
 * takes two things before it starts: a place among those that read from its storage (slots.h), and room in the budget.
 *
 * NO ROOM. Residents that nobody uses go for it, if it then fits. What is on its way back is waited for. What others
 * hold (clients by their leases, loads under way) may come back, and it waits in the queue for that; and what could not
 * be loaded even then, because it is larger than the budget, or than what pins leave of it, is refused.
 *
 * OVERTAKING. What waits for room must not wait for ever because smaller ones take it time and again; nor should it
 * keep everybody else waiting until some client ends. So the first one that lacks room has a claim to it: who comes
 * behind starts only where both fit beside what clients hold and what has overtaken it already, or where the first
 * could not start anyway before they let go of it.
 */
#include "daemon/life.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

/* One look at the queue. */
struct pass {
    struct generation *first; /* that waits for room, or NULL */
    struct charge claim;      /* what it needs */
    bool again;               /* things have changed: look once more */
};

static void wait_for(struct generation *g, enum hearth_wait what, uint64_t lacks) {
    g->waits = what;
    g->lacks = lacks;
}

static void wait_for_room(struct generation *g, struct pass *p, struct charge need, struct charge lacking) {
    wait_for(g, lacking.bytes ? HEARTH_WAIT_MEMORY : HEARTH_WAIT_FDS, lacking.bytes ? lacking.bytes : lacking.fds);
    if (p->first)
        return;
    p->first = g;
    p->claim = need;
}

/* Whether the claim of an earlier one stands in the way. */
static bool must_stay_behind(const struct pass *p, const struct budget *b, const struct holdings *h,
                             struct charge need) {
    struct charge kept = charge_plus(h->pinned, h->kept), with_claim = charge_plus(kept, p->claim);
    return p->first && charge_fits(with_claim, b->limit) && !charge_fits(charge_plus(with_claim, need), b->limit);
}

/* 0: there is room. SLOTS_WAIT: not yet. Errors: there never will be. */
static int find_room(struct generation *g, struct pass *p, struct charge need, struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    struct budget *b = a->o.budget;
    struct charge lacking = budget_lacking(b, charge_minus(need, g->charged));
    if (charge_is_none(lacking) && !p->first)
        return 0;
    struct holdings h = residency_survey(g, p->first);
    int r = budget_refuse(b, need, h.pinned, charge_plus(h.kept, h.loading), g->spec->ref, err);
    if (r)
        return r;
    if (must_stay_behind(p, b, &h, need)) {
        wait_for_room(g, p, need, need);
        return SLOTS_WAIT;
    }
    if (charge_is_none(lacking))
        return 0;
    struct charge to_go = charge_minus(lacking, h.coming);
    struct charge to_wait_for = charge_minus(to_go, h.idle);
    if (charge_is_none(to_wait_for) && !charge_is_none(to_go)) {
        residency_make_room(g, to_go);
        p->again = true;
    }
    wait_for_room(g, p, need, charge_is_none(to_wait_for) ? lacking : to_wait_for);
    if (h.changes_ns < a->look_again.at || a->look_again.at == 0)
        loop_timer_set(a->o.loop, &a->look_again, h.changes_ns);
    return SLOTS_WAIT;
}

/* 0: it loads. SLOTS_WAIT: not yet. Errors: it never will. */
static int try_start(struct generation *g, struct pass *p, struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    if (g->lookup) /* for milliseconds: nothing to speak of */
        return SLOTS_WAIT;
    struct charge need = budget_estimate(a->o.budget, g->artifact);
    int r = slots_check(&a->slots, g->device, g->background, g->spec->ref, err);
    if (r == SLOTS_WAIT)
        wait_for(g, HEARTH_WAIT_TURN, 0);
    if (r == SLOTS_WAIT && !charge_fits(need, a->o.budget->limit)) /* there is nothing to wait for */
        r = budget_refuse(a->o.budget, need, (struct charge){0, 0}, (struct charge){0, 0}, g->spec->ref, err);
    if (r == 0)
        r = find_room(g, p, need, err);
    if (r)
        return r;
    r = slots_take(&a->slots, g->device, g->background, err);
    if (r)
        return r;
    budget_settle(a->o.budget, &g->charged, need);
    wait_for(g, HEARTH_WAIT_NOTHING, 0);
    life_load(g);
    return 0;
}

/* True when something has changed that others may gain by, or that the list was walked by. */
static bool look(struct artifacts *a, struct pass *p, bool background) {
    struct generation *g;
    TAILQ_FOREACH(g, &a->all, link) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        if (g->state != HEARTH_STATE_QUEUED || g->background != background)
            continue;
        int r = try_start(g, p, &err);
        if (r == SLOTS_WAIT && !p->again)
            continue;
        if (r > 0) {
            log_failure(LOG_WARNING, "a load is refused", &err);
            life_failed(g, &err); /* which may have dropped any older one */
        }
        return true;
    }
    return false;
}

void queue_run(struct artifacts *a) {
    for (bool again = true; again && a->queued;) {
        struct pass p = {0};
        again = look(a, &p, false) || look(a, &p, true);
    }
}

void queue_look_again(void *artifacts) {
    queue_run(artifacts);
}

void queue_hasten(struct generation *g) {
    if (!g->background || g->ending)
        return;
    g->background = false;
    if (g->state != HEARTH_STATE_LOADING)
        return;
    slots_hasten(&g->artifacts->slots, g->device);
    load_hasten(g->load);
}
