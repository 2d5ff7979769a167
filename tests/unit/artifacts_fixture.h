/* tests/unit/artifacts_fixture.h: artifacts with an engine and a storage made for the test.
 *
 * artifact_resolve() and the engine's functions are defined here, so that the linker takes none of the real ones: a
 * load ends when the test says so, and files change when the test says so. The loop and the resolver are the real ones.
 * Each program includes it once.
 */
#pragma once

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

/* ---- a storage: every reference is one file of file_bytes, in a version that the test chooses ---- */

static atomic_uint version;
static atomic_ullong file_bytes;
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
    a->bytes = file_bytes;
    a->n_files = 1;
    a->files = calloc(1, sizeof(*a->files));
    a->files[0].path = strdup("model");
    a->files[0].identity = (struct file_identity){.inode = version, .bytes = a->bytes};
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
    bool cancelled, over, fails, hastened, streams;
    bool shared; /* clients have what it leaves behind when it fails */
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

void load_hasten(struct load *l) {
    l->hastened = true;
}

bool load_streams(struct load *l) {
    return l->streams && !l->cancelled && !l->fails;
}

uint64_t load_progress(const struct load *l) {
    return l->request.artifact->bytes / 2;
}

static struct resident *make(struct load *l) {
    struct resident *r = calloc(1, sizeof(*r));
    r->artifact = steal_ptr(&l->request.artifact);
    r->bytes = r->artifact->bytes;
    r->resident_bytes = r->bytes;
    r->n_blobs = 1;
    r->index_bytes = 1;
    r->verified = (enum hearth_verified)l->request.verify; /* for resident_serves() below */
    n_residents++;
    return r;
}

int load_take(struct load *l, struct resident **out, struct hearth_error *err) {
    if (l->cancelled)
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    if (l->fails)
        return error_set(err, HEARTH_E_INTEGRITY, "the content differs");
    *out = make(l);
    return 0;
}

struct resident *load_take_shared(struct load *l) {
    return l->shared ? make(l) : NULL;
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
static bool held; /* clients have some of it mapped */
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

static unsigned n_dropped, n_failed;

static void on_failed(void *user, const struct generation *g, const struct hearth_error *err) {
    (void)user;
    assert_true(err->code);
    n_failed += g->leases > 0;
}

static void on_loaded(void *user, const struct generation *g) {
    (void)user;
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
}

static unsigned n_pinned, n_unpinned;

static void on_pinned(void *user, const struct load_spec *spec, bool pinned) {
    (void)user, (void)spec;
    *(pinned ? &n_pinned : &n_unpinned) += 1;
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
    held = false;
    file_bytes = FILE_BYTES;
    policy = HEARTH_VERIFY_XXH3;
    missing = inside = endless = false;
    begun = called_off = 0;
    n_pinned = n_unpinned = n_loads = n_freed = n_dropped = n_failed = n_residents = n_retired = 0;
    memset(answers, 0, sizeof(answers));
    budget = (struct budget){.limit = {.bytes = 8 * FILE_BYTES, .fds = 1000}, .huge_page = 2 << 20};
    if (loop_new(&loop, NULL) || resolver_new(loop, &resolver, NULL))
        return -1;
    const struct artifacts_options options = {
        .loop = loop,
        .resolver = resolver,
        .budget = &budget,
        .loads_at_once = 2,
        .events = {on_progress, on_finished, on_loaded, on_pinned, on_dropped, on_failed},
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
        if (held)
            retired[i]->held_bytes = 1000, retired[i]->held_fds = 1;
        else
            retired[i]->resident = resident_free(retired[i]->resident);
        retired[i]->done(retired[i]->user);
    }
    n_retired = 0;
    loop_post(loop, &last);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
}

/* Whatever a test did, all must be given back in the end. */
static int stop(void **state) {
    (void)state;
    held = false;
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

static unsigned count(void) {
    unsigned n = 0;
    for (struct generation *g = NULL; (g = artifacts_next(artifacts, g));)
        n++;
    return n;
}

static inline void wait_for_count(const atomic_uint *count, unsigned n) {
    for (unsigned ms = 0; *count < n && ms < 30000; ms++)
        usleep(1000);
    assert_int_equal(*count, n);
}
