/* daemon/residency.c: what is in memory, and what may go for something else.
 *
 * A resident that no client leases and no pin keeps is idle: it stays, because it may be wanted again, and goes when
 * something else needs its memory or its descriptors, the least recently used first. It is used when it becomes
 * resident, when a load finds it there, and when a lease on it begins or ends.
 *
 * It goes for what a client waits for. What is loaded in the background takes nobody's place, because nobody has asked
 * for it yet, while what is there was asked for: unless configured otherwise (background_evicts) only what is stale
 * goes for it. And nobody's load takes more of what another user loaded than is beyond that one's share (share.h).
 *
 * HELD. What a client has open or mapped stays in memory after it is dropped here, whether or not the client has a
 * lease on it: a child of it may have, or a program that it gave a descriptor to. It is charged, and listed as gone,
 * until they let go of it. The kernel does not tell when they do, so that it has to be looked at now and then: soon
 * after it was dropped, because a process that ends hangs up a moment before its memory goes, then less and less often.
 * A daemon of which nobody holds anything that is gone never looks.
 */
#include "daemon/life.h"
#include "daemon/share.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

/* What was cancelled gives its memory back within milliseconds, if its storage answers. That is waited for before
 * others have to go, but not for long. */
#define CANCELLED_NS NS_PER_S

void residency_touch(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (g->state != HEARTH_STATE_RESIDENT)
        return;
    TAILQ_REMOVE(&a->used, g, used);
    TAILQ_INSERT_TAIL(&a->used, g, used);
}

#define LOOK_FIRST_NS (10 * NS_PER_MS)
#define LOOK_RARELY_NS (5 * NS_PER_S)

void residency_held(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (g->held)
        return;
    g->held = true;
    a->held_wait_ns = LOOK_FIRST_NS;
    loop_timer_set(a->o.loop, &a->held, clock_now() + a->held_wait_ns);
}

void residency_look(void *artifacts) {
    struct artifacts *a = artifacts;
    struct generation *g;
    bool any = false;
    TAILQ_FOREACH(g, &a->all, link) {
        if (!g->held)
            continue;
        any = true;
        if (!g->retiring)
            life_retire(g);
    }
    a->held_wait_ns = 2 * a->held_wait_ns < LOOK_RARELY_NS ? 2 * a->held_wait_ns : LOOK_RARELY_NS;
    if (any)
        loop_timer_set(a->o.loop, &a->held, clock_now() + a->held_wait_ns);
}

static bool may_go(const struct generation *g, const struct generation *for_whom) {
    if (g->state != HEARTH_STATE_RESIDENT || g->leases)
        return false;
    if (g->pinned) /* what is stale, for what takes its place */
        return g->stale && load_spec_same_files(g->spec, for_whom->spec);
    return !for_whom->background || g->stale || g->superseded || g->artifacts->o.background_evicts;
}

struct holdings residency_survey(const struct generation *for_whom, const struct generation *first) {
    struct holdings h = {.changes_ns = LOOP_NEVER};
    struct shares shares;
    const struct generation *g;
    uint64_t now = clock_now();
    TAILQ_FOREACH(g, &for_whom->artifacts->all, link) {
        struct charge *sum = &h.kept;
        if (g == for_whom || may_go(g, for_whom))
            continue;
        if (g->pinned && !g->stale && g->state == HEARTH_STATE_RESIDENT)
            sum = &h.pinned;
        else if (g->state == HEARTH_STATE_GONE && g->ending)
            sum = &h.coming;
        else if (g->state < HEARTH_STATE_RESIDENT && !(first && g->number > first->number))
            sum = &h.loading;
        if (g->state == HEARTH_STATE_LOADING && g->ending && now - g->cancelled_ns < CANCELLED_NS) {
            sum = &h.coming;
            if (g->cancelled_ns + CANCELLED_NS < h.changes_ns)
                h.changes_ns = g->cancelled_ns + CANCELLED_NS;
        }
        *sum = charge_plus(*sum, g->charged);
    }
    shares_count(&shares, for_whom);
    TAILQ_FOREACH(g, &for_whom->artifacts->used, used) {
        if (g == for_whom || !may_go(g, for_whom))
            continue;
        struct charge *sum = shares_give(&shares, g) ? &h.idle : &h.pinned;
        *sum = charge_plus(*sum, g->charged);
    }
    return h;
}

void residency_shrink(struct artifacts *a) {
    struct charge over = budget_lacking(a->o.budget, (struct charge){0, 0});
    const struct generation *gone;
    TAILQ_FOREACH(gone, &a->all, link)
    if (gone->state == HEARTH_STATE_GONE && gone->ending)
        over = charge_minus(over, gone->charged);
    for (struct generation *g = TAILQ_FIRST(&a->used), *next; g && !charge_is_none(over); g = next) {
        char id[ID_TEXT_BYTES];
        next = TAILQ_NEXT(g, used);
        if (g->leases || g->pinned)
            continue;
        over = charge_minus(over, g->charged);
        log_info("evicting %s, %s: the budget is smaller now", format_id(g->id, id), g->spec->ref);
        life_drop(g);
    }
}

void residency_make_room(const struct generation *for_whom, struct charge lacking) {
    struct artifacts *a = for_whom->artifacts;
    struct shares shares;
    shares_count(&shares, for_whom);
    for (struct generation *g = TAILQ_FIRST(&a->used), *next; g && !charge_is_none(lacking); g = next) {
        char id[ID_TEXT_BYTES], size[16];
        next = TAILQ_NEXT(g, used);
        bool helps = (lacking.bytes && g->charged.bytes) || (lacking.fds && g->charged.fds);
        if (!helps || !may_go(g, for_whom) || !shares_give(&shares, g))
            continue;
        lacking = charge_minus(lacking, g->charged);
        log_info("evicting %s, %s, the least recently used, for %s: %s", format_id(g->id, id), g->spec->ref,
                 for_whom->spec->ref, format_size(g->charged.bytes, size, sizeof(size)));
        life_drop(g);
    }
}
