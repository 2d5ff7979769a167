/* daemon/artifacts: the steps of an artifact's life, with an engine and a storage made for the test.
 *
 * artifact_resolve() and the engine's functions are defined here, so that the linker takes none of the real ones: a
 * load ends when the test says so, and files change when the test says so. The loop and the resolver are the real ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/artifacts.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"

#define FILE_BYTES (UINT64_C(8) << 20)

/* ---- a storage: every reference is one file of FILE_BYTES, in a version that the test chooses ---- */

static atomic_uint version;
static atomic_bool missing, inside; /* the reference itself, or something inside of it */
static atomic_bool endless;         /* looking at it does not end, unless it is called off */
static atomic_uint begun, called_off;

int artifact_resolve(const struct artifact_request *request, struct artifact **out, struct hearth_error *err) {
    begun++;
    for (bool own = endless; own;)
        if (request->cancel && *request->cancel) {
            called_off++;
            return error_set(err, HEARTH_E_CANCELLED, "called off");
        }
    if (missing) {
        error_set(err, HEARTH_E_NOT_FOUND, "it is not there");
        error_at(err, inside ? "/m/something" : request->ref, HEARTH_NO_OFFSET);
        return HEARTH_E_NOT_FOUND;
    }
    struct artifact *a = calloc(1, sizeof(*a));
    a->ref = strdup(request->ref);
    a->bytes = FILE_BYTES;
    a->n_files = 1;
    a->files = calloc(1, sizeof(*a->files));
    a->files[0].path = strdup("model");
    a->files[0].identity = (struct file_identity){.inode = version, .bytes = FILE_BYTES};
    snprintf((char *)a->key, sizeof(a->key), "%u %u %s", version, request->policy, request->ref);
    *out = a;
    return 0;
}

static uint64_t list_bytes;

uint64_t artifact_list_bytes(const struct artifact *a) {
    (void)a;
    return list_bytes;
}

struct artifact *artifact_free(struct artifact *a) {
    if (!a)
        return NULL;
    free(a->files[0].path);
    free(a->files);
    free(a->ref);
    free(a);
    return NULL;
}

/* ---- an engine ---- */

struct load {
    struct load_request request;
    bool cancelled, over, fails;
};

static struct load *loads[64];
static unsigned n_loads, n_freed, n_residents;

int load_start(struct engine *e, const struct load_request *request, struct load **out, struct hearth_error *err) {
    (void)e, (void)err;
    struct load *l = calloc(1, sizeof(*l));
    l->request = *request;
    loads[n_loads++] = *out = l;
    return 0;
}

void load_cancel(struct load *l) {
    l->cancelled = true;
}

uint64_t load_progress(const struct load *l) {
    return l->request.artifact->bytes / 2;
}

int load_take(struct load *l, struct resident **out, struct hearth_error *err) {
    if (l->cancelled)
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    if (l->fails)
        return error_set(err, HEARTH_E_INTEGRITY, "the content differs");
    struct resident *r = calloc(1, sizeof(*r));
    r->artifact = steal_ptr(&l->request.artifact);
    r->bytes = r->artifact->bytes;
    r->resident_bytes = FILE_BYTES;
    r->n_blobs = 1;
    r->index_bytes = 1;
    r->verified = (enum hearth_verified)l->request.verify; /* for resident_serves() below */
    n_residents++;
    *out = r;
    return 0;
}

struct load *load_free(struct load *l) {
    artifact_free(l->request.artifact);
    free(l);
    n_freed++;
    return NULL;
}

struct resident *resident_free(struct resident *r) {
    if (!r)
        return NULL;
    n_residents--;
    artifact_free(r->artifact);
    free(r);
    return NULL;
}

bool resident_serves(const struct resident *r, const struct artifact *a, enum hearth_verify verify) {
    return file_identity_equal(&r->artifact->files[0].identity, &a->files[0].identity) &&
           (unsigned)r->verified >= (unsigned)verify;
}

/* The engine's threads get to it when a test says so. */
static struct retirement *retired[64];
static unsigned n_retired;

void resident_retire(struct engine *e, struct retirement *r) {
    (void)e;
    retired[n_retired++] = r;
}

/* ---- what clients are told ---- */

struct answer {
    unsigned progress, finished;
    uint64_t id;
    int code;
    bool shared, found_resident;
};

static struct answer answers[32]; /* by serial */

static void on_progress(void *user, const struct waiter *w, const struct generation *g) {
    (void)user;
    answers[w->serial].progress++;
    answers[w->serial].id = g->id;
}

static void on_finished(void *user, const struct waiter *w, const struct generation *g,
                        const struct hearth_error *err) {
    (void)user;
    struct answer *a = &answers[w->serial];
    a->finished++;
    a->id = g ? g->id : 0;
    a->code = err ? (int)err->code : 0;
    a->shared = w->shared;
    a->found_resident = w->found_resident;
}

static unsigned n_dropped;

static void on_loaded(void *user, const struct generation *g) {
    (void)user;
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
}

static void on_dropped(void *user, struct generation *g) {
    (void)user;
    assert_non_null(g->resident);
    n_dropped++;
}

/* ---- the bench ---- */

static struct loop *loop;
static struct resolver *resolver;
static struct budget budget;
static struct artifacts *artifacts;
static enum hearth_verify policy; /* of what is asked for */

static int start(void **state) {
    (void)state;
    log_init("test", LOG_ERROR);
    version = 1;
    policy = HEARTH_VERIFY_XXH3;
    missing = inside = endless = false;
    begun = called_off = 0;
    n_loads = n_freed = n_dropped = n_residents = n_retired = 0;
    memset(answers, 0, sizeof(answers));
    budget = (struct budget){.limit = {.bytes = 8 * FILE_BYTES, .fds = 1000}, .huge_page = 2 << 20};
    if (loop_new(&loop, NULL) || resolver_new(loop, &resolver, NULL))
        return -1;
    const struct artifacts_options options = {
        .loop = loop,
        .resolver = resolver,
        .budget = &budget,
        .loads_at_once = 2,
        .events = {on_progress, on_finished, on_loaded, on_dropped},
    };
    return artifacts_new(&options, &artifacts, NULL);
}

static void quit(void *user) {
    (void)user;
    loop_quit(loop);
}

/* What the engine's threads would do with all that was retired, and what the loop does then. */
static void give_back(void) {
    struct loop_job last = {.run = quit};
    for (unsigned i = 0; i < n_retired; i++) {
        resident_free(retired[i]->resident);
        retired[i]->done(retired[i]->user);
    }
    n_retired = 0;
    loop_post(loop, &last);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
}

/* Whatever a test did, all must be given back in the end. */
static int stop(void **state) {
    (void)state;
    give_back();
    artifacts_free(artifacts);
    resolver_free(resolver);
    loop_free(loop);
    return budget.used.bytes == 0 && budget.used.fds == 0 && n_residents == 0 && n_freed == n_loads ? 0 : -1;
}

static bool resolving(void) {
    for (struct generation *g = NULL; (g = artifacts_next(artifacts, g));)
        if (g->state == HEARTH_STATE_RESOLVING)
            return true;
    return false;
}

static void quit_when_resolved(void *user) {
    (void)user;
    if (!resolving())
        loop_quit(loop);
}

static void settle(void) {
    assert_int_equal(loop_run(loop, quit_when_resolved, NULL, NULL), 0);
}

static unsigned ended;
static void quit_when_ended(void *user) {
    if (n_freed >= *(unsigned *)user)
        loop_quit(loop);
}

/* Ends load i, as the engine's thread would. */
static void end_load(unsigned i) {
    loads[i]->request.done(loads[i]->request.user, loads[i]);
    ended = n_freed + 1;
    assert_int_equal(loop_run(loop, quit_when_ended, &ended, NULL), 0);
}

static int client_a, client_b; /* only their addresses matter */

static void ask_as(void *client, const char *ref, uint32_t serial, bool no_wait) {
    const struct load_spec spec = {.ref = (char *)(uintptr_t)ref, .verify = policy};
    artifacts_load(artifacts, &spec,
                   &(struct waiter){.client = client, .serial = serial, .progress = !no_wait, .no_wait = no_wait});
}

static void ask(const char *ref, uint32_t serial) {
    ask_as(&client_a, ref, serial, false);
    settle();
}

static void evict(struct generation *g, const struct hearth_error *why, uint32_t serial) {
    artifacts_evict(g, why, &(struct waiter){.client = &client_a, .serial = serial, .evicts = true});
}

static unsigned count(void) {
    unsigned n = 0;
    for (struct generation *g = NULL; (g = artifacts_next(artifacts, g));)
        n++;
    return n;
}

/* ---- what is proven ---- */

static void a_load_is_told_its_id_then_its_end(void **state) {
    (void)state;
    ask("/m", 1);
    assert_int_equal(answers[1].progress, 1);
    uint64_t id = answers[1].id;
    struct generation *g = artifacts_find(artifacts, id);
    assert_int_equal(g->state, HEARTH_STATE_LOADING);
    assert_int_equal(artifacts_lease(g, NULL), HEARTH_E_BUSY);
    assert_true(artifacts_busy(artifacts));
    end_load(0);
    assert_int_equal(answers[1].finished, 1);
    assert_int_equal(answers[1].code, 0);
    assert_int_equal(answers[1].id, id);
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
    assert_int_equal(budget.used.bytes, g->charged.bytes);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    artifacts_unlease(g);
    assert_ptr_equal(artifacts_find(artifacts, id), g); /* it stays without leases */
}

static void the_same_files_are_loaded_once(void **state) {
    (void)state;
    ask("/m", 1);
    ask("/m", 2);
    assert_int_equal(n_loads, 1);
    assert_int_equal(answers[1].id, answers[2].id);
    end_load(0);
    assert_int_equal(answers[2].finished, 1);
    assert_true(answers[2].shared);
    assert_false(answers[2].found_resident);
    ask("/m", 3);
    assert_int_equal(n_loads, 1);
    assert_true(answers[3].found_resident);
    assert_int_equal(answers[3].id, answers[1].id);
    assert_int_equal(count(), 1);
}

static void wait_for(const atomic_uint *count, unsigned n) {
    for (unsigned ms = 0; *count < n && ms < 30000; ms++)
        usleep(1000);
    assert_int_equal(*count, n);
}

static void a_resolve_that_nobody_waits_for_is_called_off(void **state) {
    (void)state;
    endless = true;
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 2, false);
    wait_for(&begun, 1);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    endless = false;
    wait_for(&called_off, 1);
    settle(); /* the other's, which waited its turn */
    assert_int_equal(begun, 2);
    assert_int_equal(answers[1].finished, 0);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(answers[2].code, 0);
}

static void changed_files_load_beside_what_is_leased(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    struct generation *old = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(old, NULL), 0);
    version = 2;
    ask("/m", 2);
    assert_true(old->stale);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_not_equal(answers[2].id, answers[1].id);
    assert_int_equal(artifacts_lease(old, NULL), 0); /* by its id it can still be attached */
    artifacts_unlease(old);
    assert_int_equal(count(), 2);
    artifacts_unlease(old); /* its last lease */
    assert_null(artifacts_find(artifacts, answers[1].id));
    assert_int_equal(n_dropped, 1);
    give_back();
    assert_int_equal(n_residents, 1);
}

static void changed_files_replace_what_is_not_leased(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    version = 2;
    ask("/m", 2);
    assert_null(artifacts_find(artifacts, answers[1].id));
    give_back();
    assert_int_equal(n_residents, 0);
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void vanished_files_make_a_leased_artifact_stale(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    missing = true;
    ask("/m", 2);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    assert_true(g->stale);
    missing = false;
    ask("/m", 3); /* and they are back, the same */
    assert_int_equal(answers[3].id, g->id);
    assert_false(g->stale);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
}

static void what_is_missing_inside_says_nothing_of_what_is_resident(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    missing = inside = true;
    ask("/m", 2);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    assert_non_null(artifacts_find(artifacts, answers[1].id));
    inside = false;
    ask("/m", 3);
    assert_int_equal(answers[3].code, HEARTH_E_NOT_FOUND);
    assert_null(artifacts_find(artifacts, answers[1].id));
}

static void what_is_verified_better_serves_who_asks_for_less(void **state) {
    (void)state;
    policy = HEARTH_VERIFY_ALWAYS;
    ask("/m", 1);
    end_load(0);
    policy = HEARTH_VERIFY_NONE;
    ask("/m//.", 2); /* however it is spelt */
    assert_int_equal(answers[2].id, answers[1].id);
    assert_true(answers[2].found_resident);
    assert_int_equal(n_loads, 1);
}

static void what_is_verified_better_takes_the_place_of_the_other(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    policy = HEARTH_VERIFY_REMEMBERED;
    ask("/m", 2);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_not_equal(answers[2].id, answers[1].id);
    assert_null(artifacts_find(artifacts, answers[1].id));
    /* With a lease it stays as long as that, and is given to nobody who asks by name. */
    struct generation *g = artifacts_find(artifacts, answers[2].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    policy = HEARTH_VERIFY_ALWAYS;
    ask("/m", 3);
    end_load(2);
    assert_int_equal(count(), 2);
    policy = HEARTH_VERIFY_REMEMBERED;
    ask("/m", 4);
    assert_int_equal(answers[4].id, answers[3].id);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
}

static void a_failure_is_kept_with_its_reason_until_it_succeeds(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    ask("/m", 1);
    loads[0]->fails = true;
    end_load(0);
    assert_int_equal(answers[1].code, HEARTH_E_INTEGRITY);
    assert_int_equal(budget.used.bytes, 0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(g->state, HEARTH_STATE_FAILED);
    assert_int_equal(artifacts_lease(g, &err), HEARTH_E_INTEGRITY);
    assert_string_equal(err.message, "the content differs");
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2});
    assert_int_equal(answers[2].code, HEARTH_E_INTEGRITY);
    ask("/m", 3); /* a failure is never joined */
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[3].code, 0);
    assert_null(artifacts_find(artifacts, answers[1].id));
    assert_int_equal(count(), 1);
}

static void only_the_last_failures_are_kept(void **state) {
    (void)state;
    for (unsigned i = 0; i < FAILURES_KEPT + 5; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/m%u", i);
        ask(ref, 1);
        loads[i]->fails = true;
        end_load(i);
    }
    assert_int_equal(count(), FAILURES_KEPT);
    assert_string_equal(artifacts_next(artifacts, NULL)->spec->ref, "/m5");
}

static void refusals_in_a_row_are_safe_for_the_queue(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES - 1;
    for (unsigned i = 0; i < 2 * FAILURES_KEPT; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/m%u", i);
        ask_as(&client_a, ref, 1, false);
    }
    settle();
    assert_int_equal(answers[1].finished, 2 * FAILURES_KEPT);
    assert_int_equal(answers[1].code, HEARTH_E_TOO_LARGE);
    assert_int_equal(n_loads, 0);
    assert_int_equal(count(), FAILURES_KEPT);
}

static void a_reference_that_is_not_there_leaves_nothing(void **state) {
    (void)state;
    missing = true;
    ask("/m", 1);
    assert_int_equal(answers[1].code, HEARTH_E_NOT_FOUND);
    assert_int_equal(answers[1].progress, 0);
    assert_int_equal(count(), 0);
}

static void loads_beyond_the_limit_wait_their_turn(void **state) {
    (void)state;
    ask("/a", 1);
    ask("/b", 2);
    ask("/c", 3);
    assert_int_equal(n_loads, 2);
    assert_int_equal(artifacts_find(artifacts, answers[3].id)->state, HEARTH_STATE_QUEUED);
    end_load(0);
    assert_int_equal(n_loads, 3);
    end_load(1);
    end_load(2);
    assert_int_equal(answers[3].code, 0);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES + (1 << 20);
    ask("/a", 1);
    ask("/b", 2);
    assert_int_equal(answers[2].code, HEARTH_E_TOO_LARGE);
    end_load(0);
    assert_int_equal(answers[1].code, 0);
}

static void what_waits_is_charged_for_what_it_holds(void **state) {
    (void)state;
    budget.limit.fds = 14; /* two loads of four, and three that wait with two each */
    for (uint32_t serial = 1; serial <= 6; serial++) {
        char ref[8];
        snprintf(ref, sizeof(ref), "/%u", serial);
        ask_as(&client_a, ref, serial, true);
        settle();
    }
    for (uint32_t serial = 1; serial <= 6; serial++)
        assert_int_equal(answers[serial].code, serial < 6 ? 0 : HEARTH_E_NO_FDS);
    assert_int_equal(budget.used.fds, 14);
    for (unsigned i = 0; i < 2; i++)
        end_load(i);
    assert_int_equal(n_loads, 3); /* there were descriptors for one more */
    end_load(2);
    assert_int_equal(budget.used.fds, 12);
}

static void the_lists_of_what_waits_are_bounded(void **state) {
    (void)state;
    list_bytes = UINT64_C(50) << 20;
    for (uint32_t serial = 1; serial <= 5; serial++) {
        char ref[8];
        snprintf(ref, sizeof(ref), "/%u", serial);
        ask(ref, serial);
    }
    list_bytes = 0;
    assert_int_equal(answers[4].finished, 0); /* it waits with another, behind two that load */
    assert_int_equal(answers[5].code, HEARTH_E_BUSY);
    for (unsigned i = 0; i < 4; i++)
        end_load(i);
    assert_int_equal(answers[4].code, 0);
}

static void what_can_never_fit_does_not_wait(void **state) {
    (void)state;
    ask("/a", 1);
    ask("/b", 2);
    budget.limit.bytes = FILE_BYTES / 2;
    ask("/c", 3);
    assert_int_equal(answers[3].code, HEARTH_E_TOO_LARGE);
    end_load(0);
    end_load(1);
}

static void memory_on_its_way_back_is_waited_for(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES;
    ask_as(&client_b, "/a", 1, false);
    settle();
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_true(loads[0]->cancelled);
    ask("/b", 2);
    assert_int_equal(answers[2].finished, 0);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void a_load_ends_with_the_last_who_waits(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 2, false);
    settle();
    artifacts_forget(artifacts, &client_a, 0, NULL);
    assert_false(loads[0]->cancelled);
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_true(loads[0]->cancelled);
    assert_int_equal(count(), 0);
    assert_null(artifacts_find(artifacts, answers[2].id));
    ask("/m", 3); /* a cancelled load is never joined */
    assert_int_equal(n_loads, 2);
    end_load(0);
    end_load(1);
    assert_int_equal(answers[3].code, 0);
    assert_int_equal(answers[1].finished + answers[2].finished, 0);
}

static void a_load_that_nobody_has_to_wait_for_goes_on(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, true);
    settle();
    assert_int_equal(answers[1].finished, 1);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2, .progress = true});
    assert_int_equal(answers[2].progress, 1);
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_false(loads[0]->cancelled);
    end_load(0);
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
}

static void a_cancelled_request_is_told_and_ends_what_only_it_waited_for(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "taken back");
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 1 + 1, false);
    settle();
    assert_int_equal(n_loads, 1);
    artifacts_forget(artifacts, &client_a, 2, &why); /* that serial is another client's */
    assert_int_equal(answers[1].finished + answers[2].finished, 0);
    artifacts_forget(artifacts, &client_a, 1, &why);
    assert_int_equal(answers[1].code, HEARTH_E_CANCELLED);
    assert_false(loads[0]->cancelled);
    artifacts_forget(artifacts, &client_b, 2, &why);
    assert_int_equal(answers[2].code, HEARTH_E_CANCELLED);
    assert_true(loads[0]->cancelled);
    end_load(0);
    assert_int_equal(answers[1].finished + answers[2].finished, 2);
    assert_int_equal(budget.used.bytes, 0);
}

static void who_follows_what_is_gone_is_told_at_once(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "evicted");
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    evict(g, &why, 3);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2, .progress = true});
    assert_int_equal(answers[2].progress, 0);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    artifacts_unlease(g);
    assert_int_equal(count(), 0);
}

static void who_goes_while_it_is_resolved_starts_no_load(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, true);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    settle();
    ask("/n", 2);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(answers[1].finished, 0);
    assert_int_equal(count(), 1);
}

static void eviction_of_what_loads_cancels_it_and_tells_who_waits(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "evicted");
    ask("/m", 1);
    evict(artifacts_find(artifacts, answers[1].id), &why, 2);
    assert_int_equal(answers[1].code, HEARTH_E_CANCELLED);
    assert_int_equal(answers[2].finished, 1); /* a storage that hangs does not hold it up */
    assert_true(loads[0]->cancelled);
    assert_true(artifacts_busy(artifacts));
    assert_int_equal(budget.used.bytes, FILE_BYTES); /* until its memory has come back */
    end_load(0);
    assert_int_equal(budget.used.bytes, 0);
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(answers[1].finished, 1);
}

static void eviction_of_what_is_leased_leaves_it_to_its_holders(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    evict(g, &why, 3);
    assert_int_equal(answers[3].finished, 1); /* its holders' memory is not waited for */
    assert_int_equal(g->state, HEARTH_STATE_GONE);
    assert_int_equal(artifacts_lease(g, NULL), HEARTH_E_NOT_FOUND);
    assert_int_equal(count(), 1);
    assert_true(budget.used.bytes > 0);
    ask("/m", 2); /* what is gone is never shared */
    assert_int_equal(n_loads, 2);
    end_load(1);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
    give_back();
    assert_int_equal(n_residents, 1);
}

static void eviction_is_over_when_the_memory_has_come_back(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    budget.limit.bytes = FILE_BYTES;
    ask("/m", 1);
    end_load(0);
    uint64_t id = answers[1].id, used = budget.used.bytes;
    evict(artifacts_find(artifacts, id), &why, 2);
    ask_as(&client_b, "/n", 3, false);
    settle();
    artifacts_forget(artifacts, &client_a, 2, &why); /* it is no load that could be taken back */
    assert_null(artifacts_find(artifacts, id));
    assert_int_equal(count(), 1);
    assert_int_equal(answers[2].finished, 0);
    assert_int_equal(budget.used.bytes, used);
    assert_int_equal(n_loads, 1); /* it waits for the room, and is not refused */
    assert_true(artifacts_busy(artifacts));
    give_back();
    assert_int_equal(answers[2].finished, 1);
    assert_int_equal(answers[2].code, 0);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[3].code, 0);

    /* Nobody need be there to hear it. */
    evict(artifacts_find(artifacts, answers[3].id), &why, 4);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    give_back();
    assert_int_equal(answers[4].finished, 0);
    assert_false(artifacts_busy(artifacts));
}

static void all_ends_when_the_daemon_does(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "ending");
    ask("/a", 1);
    end_load(0);
    ask("/b", 2);
    ask("/c", 3);
    ask("/d", 4);
    ask_as(&client_a, "/e", 5, false); /* still resolving */
    artifacts_evict_all(artifacts, &why);
    for (unsigned i = 2; i <= 5; i++)
        assert_int_equal(answers[i].code, HEARTH_E_CANCELLED);
    assert_true(artifacts_busy(artifacts));
    end_load(1);
    end_load(2);
    give_back();
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(n_loads, 3);
    assert_int_equal(count(), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(a_load_is_told_its_id_then_its_end),
        T(the_same_files_are_loaded_once),
        T(changed_files_load_beside_what_is_leased),
        T(changed_files_replace_what_is_not_leased),
        T(vanished_files_make_a_leased_artifact_stale),
        T(what_is_missing_inside_says_nothing_of_what_is_resident),
        T(what_is_verified_better_serves_who_asks_for_less),
        T(what_is_verified_better_takes_the_place_of_the_other),
        T(a_failure_is_kept_with_its_reason_until_it_succeeds),
        T(only_the_last_failures_are_kept),
        T(refusals_in_a_row_are_safe_for_the_queue),
        T(a_resolve_that_nobody_waits_for_is_called_off),
        T(a_reference_that_is_not_there_leaves_nothing),
        T(loads_beyond_the_limit_wait_their_turn),
        T(what_does_not_fit_is_refused),
        T(what_waits_is_charged_for_what_it_holds),
        T(the_lists_of_what_waits_are_bounded),
        T(what_can_never_fit_does_not_wait),
        T(memory_on_its_way_back_is_waited_for),
        T(a_load_ends_with_the_last_who_waits),
        T(a_load_that_nobody_has_to_wait_for_goes_on),
        T(a_cancelled_request_is_told_and_ends_what_only_it_waited_for),
        T(who_follows_what_is_gone_is_told_at_once),
        T(who_goes_while_it_is_resolved_starts_no_load),
        T(eviction_of_what_loads_cancels_it_and_tells_who_waits),
        T(eviction_of_what_is_leased_leaves_it_to_its_holders),
        T(eviction_is_over_when_the_memory_has_come_back),
        T(all_ends_when_the_daemon_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
