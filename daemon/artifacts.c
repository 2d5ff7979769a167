/* daemon/artifacts.c: see artifacts.h. */
#include "daemon/artifacts.h"

#include <stdlib.h>
#include <string.h>

#include <hearth/hearth.h>

#include "daemon/slots.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/text.h"

#define BUCKETS 256u
#define WAITING_LISTS_MAX (UINT64_C(128) << 20)
#define PROGRESS_NS (NS_PER_S / 10)

LIST_HEAD(bucket, generation);

struct artifacts {
    struct artifacts_options o;
    struct bucket buckets[BUCKETS]; /* ids are random: their low bits are the hash */
    TAILQ_HEAD(, generation) all;
    struct slots slots;
    unsigned failures, retiring;
    struct loop_timer progress;
};

static void start_queued(struct artifacts *a);
static void finish_all(struct generation *g, const struct hearth_error *err);

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

unsigned artifacts_loads(const struct artifacts *a) {
    return a->slots.running;
}

/* Nothing is left of it. */
static void forget(struct generation *g) {
    struct artifacts *a = g->artifacts;
    a->failures -= g->state == HEARTH_STATE_FAILED;
    LIST_REMOVE(g, bucket);
    TAILQ_REMOVE(&a->all, g, link);
    struct charge charged = g->charged;
    generation_free(g);
    budget_refund(a->o.budget, charged);
}

/* On the loop, when the memory of what was dropped has come back. */
static void retired(void *user) {
    struct generation *g = user;
    struct artifacts *a = g->artifacts;
    a->retiring--;
    finish_all(g, NULL);
    forget(g);
    start_queued(a);
}

/* On one of the engine's threads. */
static void hand_over_retired(void *user) {
    struct generation *g = user;
    loop_post(g->artifacts->o.loop, &g->ended);
}

/* The end of a generation's life, whatever it was. */
static void drop(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (!g->resident) {
        forget(g);
        return;
    }
    a->o.events.dropped(a->o.user, g);
    a->retiring++;
    g->ending = true;
    g->ended = (struct loop_job){.run = retired, .user = g};
    g->retirement = (struct retirement){.resident = steal_ptr(&g->resident), .done = hand_over_retired, .user = g};
    resident_retire(a->o.engine, &g->retirement);
}

/* Goes with its last lease, at once if it has none. */
static void let_go(struct generation *g, bool *why, const char *said) {
    char id[ID_TEXT_BYTES];
    if (*why)
        return;
    *why = true;
    log_info("%s %s%s", format_id(g->id, id), said, g->leases ? "" : "; dropped");
    if (!g->leases)
        drop(g);
}

/* ---- those who wait ---- */

static void progress_tick(void *user) {
    struct artifacts *a = user;
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

static void finish(struct generation *g, struct waiter *w, const struct hearth_error *err) {
    TAILQ_REMOVE(&g->waiters, w, link);
    g->artifacts->o.events.finished(g->artifacts->o.user, w, g, err);
    free(w);
}

static void finish_all(struct generation *g, const struct hearth_error *err) {
    for (struct waiter *w; (w = TAILQ_FIRST(&g->waiters));)
        finish(g, w, err);
}

static int gone(const struct generation *g, struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    error_set(err, HEARTH_E_NOT_FOUND, "artifact %s was evicted", format_id(g->id, id));
    error_at(err, g->spec->ref, HEARTH_NO_OFFSET);
    error_hint(err, "load it again; it gets a new id");
    return HEARTH_E_NOT_FOUND;
}

/* Tells a waiter how things stand: at once with the end, if it has come, else with the id. */
static void tell(struct generation *g, struct waiter *w) {
    struct artifacts *a = g->artifacts;
    if (g->state == HEARTH_STATE_FAILED) {
        finish(g, w, g->reason);
    } else if (g->state == HEARTH_STATE_RESIDENT) {
        finish(g, w, NULL);
    } else if (g->state == HEARTH_STATE_GONE) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        gone(g, &err);
        finish(g, w, &err);
    } else if (g->state != HEARTH_STATE_RESOLVING && w->no_wait) {
        g->keep = true;
        finish(g, w, NULL);
    } else if (g->state != HEARTH_STATE_RESOLVING && w->progress) {
        w->progress_ns = clock_now();
        a->o.events.progress(a->o.user, w, g);
        if (a->progress.at == 0 || a->progress.at == LOOP_NEVER)
            loop_timer_set(a->o.loop, &a->progress, w->progress_ns + PROGRESS_NS);
    }
}

/* ---- steps ---- */

static void failed(struct generation *g, const struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    budget_settle(a->o.budget, &g->charged, (struct charge){0, 0});
    g->artifact = artifact_free(g->artifact);
    g->seconds_ns = clock_now() - g->start_ns;
    g->reason = malloc(sizeof(*g->reason));
    if (g->reason)
        *g->reason = *err;
    finish_all(g, err);
    if (!g->reason) { /* told to those who waited; there is no memory to keep it */
        drop(g);
        return;
    }
    g->state = HEARTH_STATE_FAILED;
    if (++a->failures <= FAILURES_KEPT)
        return;
    struct generation *oldest;
    TAILQ_FOREACH(oldest, &a->all, link)
    if (oldest->state == HEARTH_STATE_FAILED)
        break;
    drop(oldest);
}

static void resident(struct generation *g, struct resident *r) {
    struct artifacts *a = g->artifacts;
    g->resident = r;
    g->state = HEARTH_STATE_RESIDENT;
    g->keep = false;
    g->seconds_ns = clock_now() - g->start_ns;
    budget_settle(a->o.budget, &g->charged, (struct charge){.bytes = r->resident_bytes, .fds = g->charged.fds});
    finish_all(g, NULL);
    a->o.events.loaded(a->o.user, g);
    for (struct generation *other = TAILQ_FIRST(&a->all), *next; other; other = next) {
        next = TAILQ_NEXT(other, link);
        if (other == g || other->ending)
            continue;
        if (other->state == HEARTH_STATE_FAILED && strcmp(other->spec->ref, g->spec->ref) == 0)
            drop(other);
        else if (other->state == HEARTH_STATE_RESIDENT && load_spec_same_files(other->spec, g->spec) &&
                 resident_serves(r, other->resident->artifact, other->spec->verify))
            let_go(other, &other->superseded, "is superseded: its files are resident, verified better");
    }
}

/* On the loop, when the load has ended either way. */
static void load_ended(void *user) {
    struct generation *g = user;
    struct artifacts *a = g->artifacts;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct resident *r = NULL;
    int e = load_take(g->load, &r, &err);
    g->load = load_free(g->load);
    slots_give_back(&a->slots, g->device, g->ending);
    if (g->ending) { /* whoever waited has been told */
        g->resident = r;
        drop(g);
    } else if (e) {
        char context[64], id[ID_TEXT_BYTES];
        snprintf(context, sizeof(context), "load %s failed", format_id(g->id, id));
        log_failure(LOG_WARNING, context, &err);
        failed(g, &err);
    } else {
        resident(g, r);
    }
    start_queued(a);
}

/* On the load's own thread. */
static void hand_over(void *user, struct load *l) {
    (void)l;
    struct generation *g = user;
    loop_post(g->artifacts->o.loop, &g->ended);
}

static void start_load(struct generation *g) {
    struct artifacts *a = g->artifacts;
    struct hearth_error err = HEARTH_ERROR_INIT;
    g->ended = (struct loop_job){.run = load_ended, .user = g};
    const struct load_request request = {
        .id = g->id,
        .start_ns = g->start_ns,
        .resolve = g->resolved,
        .artifact = steal_ptr(&g->artifact),
        .verify = g->spec->verify,
        .done = hand_over,
        .user = g,
    };
    g->state = HEARTH_STATE_LOADING;
    if (load_start(a->o.engine, &request, &g->load, &err)) {
        slots_give_back(&a->slots, g->device, false);
        log_failure(LOG_WARNING, "a load cannot be started", &err);
        failed(g, &err);
    }
}

/* 0: it loads. SLOTS_WAIT: not yet. Errors: it never will. */
static int try_start(struct generation *g, struct hearth_error *err) {
    struct artifacts *a = g->artifacts;
    struct charge c = budget_estimate(a->o.budget, g->artifact), waiting = g->charged;
    bool could_fit = budget_could_fit(a->o.budget, c);
    int r = could_fit ? slots_check(&a->slots, g->device, g->spec->ref, err) : 0;
    if (r)
        return r;
    budget_settle(a->o.budget, &g->charged, (struct charge){0, 0}); /* so that the figures of a refusal are right */
    r = budget_charge(a->o.budget, c, g->spec->ref, err);
    if (r && could_fit && (a->slots.let_go || a->retiring)) {
        /* It may fit when the memory of what was cancelled or dropped has come back. */
        budget_settle(a->o.budget, &g->charged, waiting);
        return SLOTS_WAIT;
    }
    if (r)
        return r;
    g->charged = c;
    r = slots_take(&a->slots, g->device, err);
    if (r == 0)
        start_load(g);
    return r;
}

static void start_queued(struct artifacts *a) {
    struct generation *g = TAILQ_FIRST(&a->all);
    while (g) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        int r = g->state == HEARTH_STATE_QUEUED ? try_start(g, &err) : SLOTS_WAIT;
        if (r == SLOTS_WAIT) {
            g = TAILQ_NEXT(g, link);
            continue;
        }
        if (r) {
            log_failure(LOG_WARNING, "a load is refused", &err);
            failed(g, &err);
        }
        g = TAILQ_FIRST(&a->all); /* a failure may have dropped any older one */
    }
}

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

static void resolved(void *user, struct artifact *artifact, struct hearth_span span, const struct hearth_error *err) {
    struct generation *g = user, *known;
    struct artifacts *a = g->artifacts;
    struct waiter *w, *next;
    g->resolve = NULL;
    if (err) {
        /* Else it is something inside of it that is missing: what is resident may never have had that. */
        if (err->code == HEARTH_E_NOT_FOUND && strcmp(err->file, g->spec->ref) == 0)
            mark_stale(a, g->spec, NULL);
        log_failure(LOG_INFO, "a reference cannot be resolved", err);
        finish_all(g, err);
        drop(g);
        return;
    }
    TAILQ_FOREACH(w, &g->waiters, link)
    w->resolve = span_since(span, w->start_ns);
    mark_stale(a, g->spec, artifact);
    known = find_same(a, g->spec, artifact);
    if (known) {
        artifact_free(artifact);
        known->stale = false;
        while ((w = TAILQ_FIRST(&g->waiters))) {
            TAILQ_REMOVE(&g->waiters, w, link);
            TAILQ_INSERT_TAIL(&known->waiters, w, link);
            w->shared = true;
            w->found_resident = known->state == HEARTH_STATE_RESIDENT;
            tell(known, w);
        }
        drop(g);
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
    struct charge waiting = {.fds = BUDGET_FDS_WAITING};
    if (too_many_wait(a, g, &refused) || budget_charge(a->o.budget, waiting, g->spec->ref, &refused)) {
        log_failure(LOG_WARNING, "a load is refused", &refused);
        failed(g, &refused);
        return;
    }
    g->charged = waiting;
    g->state = HEARTH_STATE_QUEUED;
    for (w = TAILQ_FIRST(&g->waiters); w; w = next) {
        next = TAILQ_NEXT(w, link);
        tell(g, w);
    }
    start_queued(a);
}

/* ---- requests ---- */

static struct waiter *add_waiter(struct generation *g, const struct waiter *request) {
    struct waiter *w = malloc(sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct waiter){.client = request->client,
                         .serial = request->serial,
                         .progress = request->progress,
                         .no_wait = request->no_wait,
                         .evicts = request->evicts,
                         .start_ns = clock_now()};
    TAILQ_INSERT_TAIL(&g->waiters, w, link);
    return w;
}

static void refuse(struct artifacts *a, const struct waiter *request, const struct generation *g) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_NO_MEMORY, "no memory for the request");
    a->o.events.finished(a->o.user, request, g, &err);
}

void artifacts_load(struct artifacts *a, const struct load_spec *spec, const struct waiter *request) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct generation *g = generation_new(new_id(a), spec);
    if (!g) {
        refuse(a, request, NULL);
        return;
    }
    g->artifacts = a;
    LIST_INSERT_HEAD(&a->buckets[g->id % BUCKETS], g, bucket);
    TAILQ_INSERT_TAIL(&a->all, g, link);
    if (!add_waiter(g, request)) {
        refuse(a, request, g);
        drop(g);
    } else if (resolve_start(a->o.resolver, spec, resolved, g, &g->resolve, &err)) {
        finish_all(g, &err);
        drop(g);
    }
}

void artifacts_watch(struct artifacts *a, struct generation *g, const struct waiter *request) {
    struct waiter *w = add_waiter(g, request);
    if (w)
        tell(g, w);
    else
        refuse(a, request, g);
}

/* Ends what is under way, without a word to anybody. g may be gone afterwards. */
static void abandon(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (g->state == HEARTH_STATE_LOADING) {
        if (!g->ending) {
            load_cancel(g->load);
            slots_let_go(&a->slots, g->device);
        }
        g->ending = true;
        return;
    }
    if (g->state == HEARTH_STATE_RESOLVING)
        resolve_drop(g->resolve);
    drop(g);
}

void artifacts_forget(struct artifacts *a, const void *client, uint32_t serial, const struct hearth_error *why) {
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        bool left = false;
        for (struct waiter *w = TAILQ_FIRST(&g->waiters), *after; w; w = after) {
            after = TAILQ_NEXT(w, link);
            if (w->client != client || (serial && (w->serial != serial || w->evicts)))
                continue;
            left = true;
            if (why) {
                finish(g, w, why);
            } else {
                TAILQ_REMOVE(&g->waiters, w, link);
                free(w);
            }
        }
        if (left && !g->keep && g->state < HEARTH_STATE_RESIDENT && TAILQ_EMPTY(&g->waiters))
            abandon(g);
    }
    start_queued(a);
}

int artifacts_lease(struct generation *g, struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    if (g->state == HEARTH_STATE_RESIDENT) {
        g->leases++;
        return 0;
    }
    if (g->state == HEARTH_STATE_FAILED) {
        if (err)
            *err = *g->reason;
        return g->reason->code;
    }
    if (g->state == HEARTH_STATE_GONE)
        return gone(g, err);
    return error_set(err, HEARTH_E_BUSY, "artifact %s is %s, not resident yet", format_id(g->id, id),
                     hearth_state_name(g->state));
}

void artifacts_unlease(struct generation *g) {
    struct artifacts *a = g->artifacts;
    if (--g->leases == 0 && (g->stale || g->superseded || g->state == HEARTH_STATE_GONE)) {
        drop(g);
        start_queued(a);
    }
}

static void evict(struct generation *g) {
    if (g->leases)
        g->state = HEARTH_STATE_GONE;
    else if (g->state < HEARTH_STATE_RESIDENT)
        abandon(g);
    else
        drop(g);
}

void artifacts_evict(struct generation *g, const struct hearth_error *why, const struct waiter *request) {
    struct artifacts *a = g->artifacts;
    finish_all(g, why);
    bool waits = g->resident && !g->leases && add_waiter(g, request);
    evict(g);
    if (!waits)
        a->o.events.finished(a->o.user, request, NULL, NULL);
    start_queued(a);
}

void artifacts_evict_all(struct artifacts *a, const struct hearth_error *why) {
    for (struct generation *g = TAILQ_FIRST(&a->all), *next; g; g = next) {
        next = TAILQ_NEXT(g, link);
        if (g->ending)
            continue;
        finish_all(g, why);
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
    a->progress = (struct loop_timer){.due = progress_tick, .user = a};
    *out = a;
    return 0;
}

void artifacts_tune(struct artifacts *a, unsigned loads_at_once) {
    a->slots.at_once = loads_at_once;
    start_queued(a); /* the budget may have changed, too */
}

struct artifacts *artifacts_free(struct artifacts *a) {
    if (!a)
        return NULL;
    for (struct generation *g; (g = TAILQ_FIRST(&a->all));) {
        if (g->resident)
            a->o.events.dropped(a->o.user, g);
        forget(g);
    }
    slots_deinit(&a->slots);
    free(a);
    return NULL;
}
