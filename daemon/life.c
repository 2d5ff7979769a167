/* daemon/life.c: the steps of an artifact's life. See artifacts.h. */
#include <stdlib.h>
#include <string.h>

#include "daemon/life.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/text.h"

#define WAITING_LISTS_MAX (UINT64_C(128) << 20)
#define WAITING_FDS_SHARE 8 /* of the budget */

/* Every change of state, but the first. */
static void step(struct generation *g, enum hearth_state to) {
    struct artifacts *a = g->artifacts;
    a->queued += (to == HEARTH_STATE_QUEUED) - (g->state == HEARTH_STATE_QUEUED);
    if (g->state == HEARTH_STATE_RESIDENT)
        TAILQ_REMOVE(&a->used, g, used);
    if (to == HEARTH_STATE_RESIDENT)
        TAILQ_INSERT_TAIL(&a->used, g, used);
    bool news = to != g->state && !(to == HEARTH_STATE_GONE && g->state == HEARTH_STATE_RESOLVING);
    g->state = to;
    if (news)
        waiting_announce(g);
}

/* ---- the end ---- */

void life_forget(struct generation *g) {
    struct artifacts *a = g->artifacts;
    step(g, HEARTH_STATE_GONE);
    LIST_REMOVE(g, bucket);
    TAILQ_REMOVE(&a->all, g, link);
    struct charge charged = g->charged;
    generation_free(g);
    budget_refund(a->o.budget, charged);
}

/* On the loop, when the memory of what was dropped has come back, as far as nobody else holds it. */
static void retired(void *user) {
    struct generation *g = user;
    struct artifacts *a = g->artifacts;
    a->retiring--;
    g->ending = g->retiring = false;
    waiting_finish_all(g, NULL);
    if (g->retirement.held_fds && !a->ending) {
        struct charge held = {.bytes = g->retirement.held_bytes, .fds = g->retirement.held_fds};
        budget_settle(a->o.budget, &g->charged, held);
        residency_held(g);
    } else {
        life_forget(g);
    }
    queue_run(a);
}

/* On one of the engine's threads. */
static void hand_over_retired(void *user) {
    struct generation *g = user;
    loop_post(g->artifacts->o.loop, &g->ended);
}

void life_retire(struct generation *g) {
    struct artifacts *a = g->artifacts;
    a->retiring++;
    g->retiring = true;
    g->ended = (struct loop_job){.run = retired, .user = g};
    g->retirement.done = hand_over_retired;
    g->retirement.user = g;
    g->retirement.next_blob = g->retirement.held_bytes = g->retirement.held_fds = 0;
    resident_retire(a->o.engine, &g->retirement);
}

/* Nobody is to get it any more; takes what it had over. */
static void give_back(struct generation *g, struct resident *r) {
    g->ending = true;
    step(g, HEARTH_STATE_GONE);
    g->retirement.resident = r;
    life_retire(g);
}

void life_drop(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (!g->resident) {
        life_forget(g);
        return;
    }
    a->o.events.dropped(a->o.user, g);
    give_back(g, steal_ptr(&g->resident));
}

void life_gone(struct generation *g) {
    step(g, HEARTH_STATE_GONE);
}

bool life_is_unwanted(const struct generation *g) {
    return !g->keep && !g->leases && g->state < HEARTH_STATE_RESIDENT && TAILQ_EMPTY(&g->waiters);
}

void life_abandon(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (g->state == HEARTH_STATE_LOADING) {
        if (!g->ending) {
            load_cancel(g->load);
            slots_let_go(&a->slots, g->device, g->background);
            g->cancelled_ns = clock_now();
        }
        g->ending = true;
        return;
    }
    if (g->state == HEARTH_STATE_RESOLVING && g->resolve)
        resolve_drop(g->resolve);
    life_drop(g);
}

/* Goes with its last lease, at once if it has none; what is pinned and stale, when what is new is resident. */
static void let_go(struct generation *g, bool *why, const char *said) {
    char id[ID_TEXT_BYTES];
    if (*why)
        return;
    *why = true;
    bool goes = !g->leases && !g->pinned;
    log_info("%s %s%s", format_id(g->id, id), said, goes ? "; dropped" : "");
    if (goes)
        life_drop(g);
}

void life_unpinned(struct generation *g) {
    g->pinned = false;
    if (g->state == HEARTH_STATE_RESIDENT && !g->leases && (g->stale || g->superseded))
        life_drop(g);
}

/* ---- failed, resident ---- */

void life_forget_failure(struct generation *g) {
    if (g->leases)
        life_gone(g);
    else
        life_drop(g);
}

static void forget_failures(struct artifacts *a) {
    struct generation *g, *oldest = NULL;
    unsigned kept = 0;
    TAILQ_FOREACH(g, &a->all, link) {
        if (g->state != HEARTH_STATE_FAILED || g->pinned || g->preload)
            continue;
        oldest = oldest ? oldest : g;
        kept++;
    }
    if (kept > FAILURES_KEPT)
        life_forget_failure(oldest);
}

/* The end of a load, for whoever looks back. */
static void note_end(const struct generation *g, const struct hearth_error *err) {
    struct hearth_msg_info info;
    struct store *s = g->artifacts->o.store;
    if (!s)
        return;
    generation_info(g, clock_now(), &info);
    store_history_put(s, g->spec->ref, &info, err);
}

void life_failed(struct generation *g, const struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    budget_settle(a->o.budget, &g->charged, (struct charge){0, 0});
    g->artifact = artifact_free(g->artifact);
    g->seconds_ns = clock_now() - g->start_ns;
    note_end(g, err);
    g->reason = malloc(sizeof(*g->reason));
    if (g->reason)
        *g->reason = *err;
    waiting_finish_all(g, err);
    a->o.events.failed(a->o.user, g, err);
    if (!g->reason) { /* told to those who waited; there is no memory to keep it */
        life_forget_failure(g);
        return;
    }
    step(g, HEARTH_STATE_FAILED);
    if (g->preload)
        preload_failed(g);
    forget_failures(a);
}

void life_retry(struct generation *g) {
    free(steal_ptr(&g->reason));
    g->retry_ns = 0;
    g->start_ns = clock_now();
    step(g, HEARTH_STATE_RESOLVING);
}

/* What this load has found out, for later ones. What it matched is known already. */
static void remember(struct artifacts *a, struct resident *r) {
    struct record *records = a->o.store ? calloc(r->n_blobs + 1, sizeof(*records)) : NULL;
    size_t n = 0;
    for (size_t i = 0; records && i < r->n_blobs; i++) {
        struct blob *b = &r->blobs[i];
        if (!b->lasting || b->verified == HEARTH_VERIFIED_MATCHED)
            continue;
        records[n] = (struct record){.identity = r->artifact->files[i].identity,
                                     .has_sha256 = b->has_sha256,
                                     .n_chunks = b->n_chunks,
                                     .chunks = steal_ptr(&b->chunks)};
        memcpy(records[n].sha256, b->sha256, sizeof(b->sha256));
        b->n_chunks = 0;
        n++;
    }
    if (records)
        store_records_put(a->o.store, records, n);
}

static void resident(struct generation *g, struct resident *r) {
    struct artifacts *a = g->artifacts;
    g->resident = r;
    g->keep = false;
    g->seconds_ns = clock_now() - g->start_ns;
    step(g, HEARTH_STATE_RESIDENT);
    budget_settle(a->o.budget, &g->charged, (struct charge){.bytes = r->resident_bytes, .fds = r->n_blobs + 1});
    remember(a, r);
    note_end(g, NULL);
    waiting_finish_all(g, NULL);
    a->o.events.loaded(a->o.user, g);
    for (struct generation *other = TAILQ_FIRST(&a->all), *next; other; other = next) {
        next = TAILQ_NEXT(other, link);
        if (other == g || other->ending)
            continue;
        bool same_files = load_spec_same_files(other->spec, g->spec);
        if (other->state == HEARTH_STATE_FAILED && strcmp(other->spec->ref, g->spec->ref) == 0 &&
            (same_files || !other->pinned))
            life_forget_failure(other);
        else if (other->pinned && other->stale && same_files) /* the pin is on g now */
            life_unpinned(other);
        else if (other->state == HEARTH_STATE_RESIDENT && same_files &&
                 resident_serves(r, other->resident->artifact, other->spec->verify)) {
            other->pinned = false; /* likewise */
            let_go(other, &other->superseded, "is superseded: its files are resident, verified better");
        }
    }
}

/* ---- loading ---- */

/* What clients hold of a load that failed is charged, and listed, like what was evicted; the failure is free to go, or
 * to be tried again. */
static void leave_behind(struct generation *g, struct resident *shared) {
    struct generation *left = artifacts_add(g->artifacts, g->spec, g->owner, g->background);
    if (!left) {
        resident_free(shared);
        return;
    }
    left->pinned = false;
    left->bytes = g->bytes;
    left->n_files = g->n_files;
    left->charged = g->charged;
    g->charged = (struct charge){0, 0};
    give_back(left, shared);
}

/* On the loop, when the load has ended either way. */
static void load_ended(void *user) {
    struct generation *g = user;
    struct artifacts *a = g->artifacts;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct resident *r = NULL;
    int e = load_take(g->load, &r, &err);
    struct resident *shared = e ? load_take_shared(g->load) : NULL;
    g->load = load_free(g->load);
    g->records = records_free(g->records, g->n_files);
    slots_give_back(&a->slots, g->device, g->ending, g->background);
    if (g->ending) { /* whoever waited has been told */
        if (e)
            note_end(g, &err);
        g->resident = r; /* of a cancel that came too late */
        if (shared)
            give_back(g, shared);
        else
            life_drop(g);
    } else if (e) {
        char context[64], id[ID_TEXT_BYTES];
        snprintf(context, sizeof(context), "load %s failed", format_id(g->id, id));
        log_failure(LOG_WARNING, context, &err);
        if (shared)
            leave_behind(g, shared);
        life_failed(g, &err);
    } else {
        resident(g, r);
    }
    queue_run(a);
}

/* On the loop, when it can be streamed. Should it have ended meanwhile, that comes behind this, and is told then. */
static void shown(void *user) {
    struct generation *g = user;
    struct waiter *w, *next;
    for (w = TAILQ_FIRST(&g->waiters); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->attach && generation_streams(g))
            waiting_finish(g, w, NULL);
    }
}

/* On the load's own thread. */
static void hand_over_shown(void *user, struct load *l) {
    (void)l;
    struct generation *g = user;
    loop_post(g->artifacts->o.loop, &g->shown);
}

/* On the load's own thread. */
static void hand_over(void *user, struct load *l) {
    (void)l;
    struct generation *g = user;
    loop_post(g->artifacts->o.loop, &g->ended);
}

void life_load(struct generation *g) {
    struct artifacts *a = g->artifacts;
    struct hearth_error err = HEARTH_ERROR_INIT;
    g->shown = (struct loop_job){.run = shown, .user = g};
    g->ended = (struct loop_job){.run = load_ended, .user = g};
    const struct load_request request = {
        .id = g->id,
        .start_ns = g->start_ns,
        .resolve = g->resolved,
        .artifact = steal_ptr(&g->artifact),
        .verify = g->spec->verify,
        .records = g->records,
        .background = g->background,
        .streams = hand_over_shown,
        .done = hand_over,
        .user = g,
    };
    step(g, HEARTH_STATE_LOADING);
    if (load_start(a->o.engine, &request, &g->load, &err)) {
        slots_give_back(&a->slots, g->device, false, g->background);
        log_failure(LOG_WARNING, "a load cannot be started", &err);
        life_failed(g, &err);
    }
}

/* ---- resolved ---- */

/* What can take a request over: the same that is loading, or a resident that is verified at least as well. */
static struct generation *find_same(struct artifacts *a, const struct load_spec *spec,
                                    const struct artifact *artifact) {
    struct generation *g;
    TAILQ_FOREACH(g, &a->all, link) {
        if (g->state < HEARTH_STATE_QUEUED || g->state > HEARTH_STATE_RESIDENT || g->ending || g->superseded)
            continue;
        if (memcmp(g->key, artifact->key, sizeof(g->key)) == 0)
            return g;
        if (g->state == HEARTH_STATE_RESIDENT && load_spec_same_files(g->spec, spec) &&
            resident_serves(g->resident, artifact, spec->verify))
            return g;
    }
    return NULL;
}

/* Marks the residents that `now` (NULL: nothing is there) shows to be out of date. */
static void mark_stale(struct artifacts *a, const struct load_spec *spec, const struct artifact *now) {
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (g->state == HEARTH_STATE_RESIDENT && !g->ending && strcmp(g->spec->ref, spec->ref) == 0 &&
            (!now || generation_is_stale(g, spec, now)))
            let_go(g, &g->stale, "is stale: its files on disk have changed");
    }
}

/* Lists of files are memory too, however little of it as a rule. */
static int too_many_wait(const struct artifacts *a, const struct generation *g, struct hearth_error *err) {
    const struct generation *other;
    uint64_t bytes = g->list_bytes;
    char waiting[16], limit[16];
    TAILQ_FOREACH(other, &a->all, link)
    if (other->state == HEARTH_STATE_QUEUED)
        bytes += other->list_bytes;
    if (bytes <= WAITING_LISTS_MAX)
        return 0;
    error_set(err, HEARTH_E_BUSY, "too many loads wait for their turn: the lists of their files alone take %s",
              format_size(bytes, waiting, sizeof(waiting)));
    error_at(err, g->spec->ref, HEARTH_NO_OFFSET);
    error_expected(err, "at most %s", format_size(WAITING_LISTS_MAX, limit, sizeof(limit)));
    error_found(err, "%s", waiting);
    error_hint(err, "load it again when some of them have ended");
    return HEARTH_E_BUSY;
}

/* What it holds while it waits for its turn, when others may go for it: the budget leaves enough beside for some more.
 */
static int charge_waiting(struct generation *g, struct hearth_error *err) {
    struct budget *b = g->artifacts->o.budget;
    struct charge waiting = {.fds = BUDGET_FDS_WAITING};
    uint64_t beyond = b->limit.fds / WAITING_FDS_SHARE;
    if (charge_plus(b->used, waiting).fds <= b->limit.fds + beyond)
        budget_settle(b, &g->charged, waiting);
    else if (budget_charge(b, waiting, g->spec->ref, err))
        return HEARTH_E_NO_FDS;
    return 0;
}

/* ---- what is remembered of its files ---- */

static void looked_up(void *user, struct record *records) {
    struct generation *g = user;
    g->lookup = NULL;
    g->records = records;
    queue_run(g->artifacts);
}

/* Where it cannot be had, the load goes on without. `always` and `none` have no use for it. */
static void look_up(struct generation *g) {
    struct store *s = g->artifacts->o.store;
    if (s && g->spec->verify != HEARTH_VERIFY_ALWAYS && g->spec->verify != HEARTH_VERIFY_NONE)
        (void)store_records_find(s, g->artifact->files, g->artifact->n_files, looked_up, g, &g->lookup);
}

/* The waiters of g, which asked for the same. */
static void take_over(struct generation *known, struct generation *g) {
    known->stale = false;
    known->preload |= g->preload;
    if (known->state == HEARTH_STATE_RESIDENT)
        residency_touch(known);
    else if (!g->background)
        queue_hasten(known);
    for (struct waiter *w; (w = TAILQ_FIRST(&g->waiters));) {
        TAILQ_REMOVE(&g->waiters, w, link);
        TAILQ_INSERT_TAIL(&known->waiters, w, link);
        w->shared = true;
        w->found_resident = known->state == HEARTH_STATE_RESIDENT;
        waiting_tell(known, w);
    }
    life_drop(g);
}

void life_resolved(void *user, struct artifact *artifact, struct hearth_span span, const struct hearth_error *err) {
    struct generation *g = user;
    struct artifacts *a = g->artifacts;
    struct waiter *w, *next;
    g->resolve = NULL;
    if (g->preload)
        loop_timer_set(a->o.loop, &a->preload, clock_now()); /* the next one's turn */
    if (err) {
        /* Else it is something inside of it that is missing: what is resident may never have had that. */
        if (err->code == HEARTH_E_NOT_FOUND && strcmp(err->file, g->spec->ref) == 0)
            mark_stale(a, g->spec, NULL);
        if (g->preload) {
            life_failed(g, err);
            return;
        }
        log_failure(LOG_INFO, "a reference cannot be resolved", err);
        waiting_finish_all(g, err);
        life_drop(g);
        return;
    }
    TAILQ_FOREACH(w, &g->waiters, link)
    w->resolve = span_since(span, w->start_ns);
    mark_stale(a, g->spec, artifact);
    struct generation *known = find_same(a, g->spec, artifact);
    if (known) {
        artifact_free(artifact);
        take_over(known, g);
        queue_run(a);
        return;
    }
    g->resolved = span_since(span, g->start_ns);
    g->artifact = artifact;
    memcpy(g->key, artifact->key, sizeof(g->key));
    g->bytes = artifact->bytes;
    g->device = artifact->n_files ? artifact->files[0].identity.device : 0;
    g->n_files = (uint32_t)artifact->n_files;
    g->list_bytes = artifact_list_bytes(artifact);
    struct hearth_error refused = HEARTH_ERROR_INIT;
    if (too_many_wait(a, g, &refused) || charge_waiting(g, &refused)) {
        log_failure(LOG_WARNING, "a load is refused", &refused);
        life_failed(g, &refused);
        return;
    }
    step(g, HEARTH_STATE_QUEUED);
    look_up(g);
    for (w = TAILQ_FIRST(&g->waiters); w; w = next) {
        next = TAILQ_NEXT(w, link);
        waiting_tell(g, w);
    }
    queue_run(a);
}
