/* loader/engine.c: an engine's and its loads' beginning and end. See loader.h.
 *
 * All threads are made before the first load: a ring or a thread that is made while memory is populated waits for the
 * address space's lock, for 5 to 15 ms.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/memory_limit.h"

/* Twice what keeps an idle machine's disk busy: while memory is populated and hashed beside the reads, half of it left
 * the disk waiting (2 to 4 % of its rate). Background loads have a quarter of it, behind which an urgent read waits 8
 * ms at 2 GB/s. */
#define BYTES_IN_FLIGHT_DEFAULT (UINT64_C(64) << 20)
#define POPULATE_AHEAD_DEFAULT (UINT64_C(256) << 20)
/* Below this a piece might never have all its blocks. */
#define POPULATE_AHEAD_MIN (2 * POPULATE_STEP_MAX)

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        (void)pthread_setname_np(*thread, name);
    return r;
}

static unsigned start_some(struct engine *e, pthread_t **threads, unsigned n, const char *name, void *(*run)(void *)) {
    unsigned made = 0;
    *threads = calloc(n, sizeof(**threads));
    while (*threads && made < n && thread_start(&(*threads)[made], name, run, e) == 0)
        made++;
    return made;
}

static int start_threads(struct engine *e, struct hearth_error *err) {
    int r = thread_start(&e->io_thread, "hearth-io", io_main, e);
    if (r)
        return error_errno(err, r, "cannot start a thread");
    pthread_mutex_lock(&e->lock);
    while (!e->io_started)
        pthread_cond_wait(&e->quiet, &e->lock);
    pthread_mutex_unlock(&e->lock);
    if (!e->reader) {
        pthread_join(e->io_thread, NULL);
        if (err)
            *err = e->io_error;
        return (int)e->io_error.code;
    }
    e->n_populators = start_some(e, &e->populators, e->options.populators, "hearth-pages", populate_main);
    e->n_hashers = start_some(e, &e->hashers, e->options.hash_workers, "hearth-hash", hash_main);
    if (e->n_populators == 0 || e->n_hashers == 0)
        return error_errno(err, EAGAIN, "cannot start a thread");
    return 0;
}

/* Those that this process may run on: a container often has a few of many. */
static unsigned usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t has room for */
    return online > 0 ? (unsigned)online : 1;
}

int engine_new(const struct engine_options *options, struct engine **out, struct hearth_error *err) {
    struct engine *e = calloc(1, sizeof(*e));
    if (!e)
        return error_errno(err, ENOMEM, "cannot make an engine");
    if (options)
        e->options = *options;
    unsigned cores = usable_cores();
    if (e->options.hash_workers == 0)
        e->options.hash_workers = cores;
    if (e->options.populators == 0)
        e->options.populators = cores > 1 ? 2 : 1;
    if (e->options.bytes_in_flight == 0)
        e->options.bytes_in_flight = BYTES_IN_FLIGHT_DEFAULT;
    if (e->options.populate_ahead == 0)
        e->options.populate_ahead = POPULATE_AHEAD_DEFAULT;
    if (e->options.populate_ahead < POPULATE_AHEAD_MIN)
        e->options.populate_ahead = POPULATE_AHEAD_MIN;
    e->limits_root = "";
    e->swap_forbidden = memory_swap_is_forbidden("");
    pthread_condattr_t monotonic; /* the hold waits for a time, which a set clock must not move */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&e->admission, NULL);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->populate_wanted, &monotonic);
    pthread_cond_init(&e->populate_help, &monotonic);
    pthread_cond_init(&e->hash_wanted, NULL);
    pthread_cond_init(&e->hash_help, NULL);
    pthread_cond_init(&e->quiet, NULL);
    pthread_condattr_destroy(&monotonic);
    backing_choose("", e->options.backing, &e->backing);
    e->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    int r = 0;
    if (e->options.parser_helper && !(e->parser_helper = strdup(e->options.parser_helper)))
        r = error_errno(err, ENOMEM, "cannot make an engine");
    else if (!e->sha256)
        r = error_set(err, HEARTH_E_SYSTEM, "libcrypto has no SHA-256");
    if (!r)
        r = start_threads(e, err);
    if (r) {
        engine_free(e);
        return r;
    }
    *out = e;
    return 0;
}

struct engine *engine_free(struct engine *e) {
    if (!e)
        return NULL;
    pthread_mutex_lock(&e->lock);
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_CANCELLED, "the engine ends");
    for (struct load *l = e->loads; l; l = l->next)
        load_fail(l, &err);
    while (e->loads)
        pthread_cond_wait(&e->quiet, &e->lock);
    e->stopping = true;
    pthread_cond_broadcast(&e->populate_wanted);
    pthread_cond_broadcast(&e->populate_help);
    pthread_cond_broadcast(&e->hash_wanted);
    pthread_cond_broadcast(&e->hash_help);
    if (e->reader)
        e->reader->wake(e->reader);
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < e->n_populators; i++)
        pthread_join(e->populators[i], NULL);
    for (unsigned i = 0; i < e->n_hashers; i++)
        pthread_join(e->hashers[i], NULL);
    if (e->reader) /* else it has never come up, and was joined then */
        pthread_join(e->io_thread, NULL);
    hold_deinit(&e->hold);
    while (e->devices) {
        struct device *d = e->devices;
        e->devices = d->next;
        free(d);
    }
    pthread_cond_destroy(&e->populate_wanted);
    pthread_cond_destroy(&e->populate_help);
    pthread_cond_destroy(&e->hash_wanted);
    pthread_cond_destroy(&e->hash_help);
    pthread_cond_destroy(&e->quiet);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->admission);
    EVP_MD_free(e->sha256);
    free(e->populators);
    free(e->hashers);
    free(e->parser_helper);
    free(e);
    return NULL;
}

void engine_describe(struct engine *e, char *reader, size_t reader_size, char *backing, size_t backing_size) {
    snprintf(reader, reader_size, "%s", e->reader_why);
    snprintf(backing, backing_size, "%s", e->backing.why);
}

/* ---- loads ---- */

static struct resident *resident_new(struct artifact *a) {
    struct resident *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->artifact = a;
    r->index_fd = -1;
    r->n_blobs = a->n_files;
    r->blobs = calloc(a->n_files > 0 ? a->n_files : 1, sizeof(*r->blobs));
    if (!r->blobs) {
        free(r);
        return NULL;
    }
    for (size_t i = 0; i < r->n_blobs; i++)
        r->blobs[i].fd = -1;
    return r;
}

struct resident *resident_free(struct resident *r) {
    if (!r)
        return NULL;
    unlock_index(r);
    for (size_t i = 0; i < r->n_blobs; i++) {
        unlock_blob(&r->blobs[i]);
        close_fd(r->blobs[i].fd);
        free(r->blobs[i].chunks);
    }
    close_fd(r->index_fd);
    artifact_free(r->artifact);
    free(r->blobs);
    free(r);
    return NULL;
}

int load_start(struct engine *e, const struct load_request *request, struct load **out, struct hearth_error *err) {
    struct load *l = calloc(1, sizeof(*l));
    struct resident *resident = resident_new(request->artifact);
    if (!l || !resident) {
        if (resident)
            resident_free(resident);
        else
            artifact_free(request->artifact);
        free(l);
        return error_errno(err, ENOMEM, "cannot start a load");
    }
    l->engine = e;
    l->request = *request;
    l->start_real_ns = clock_real();
    l->resident = resident;
    l->background = request->background;
    l->parser_stop = l->page.fd = -1;
    pthread_cond_init(&l->changed, NULL);
    /* `out` must be set before done() can come. */
    pthread_mutex_lock(&e->lock);
    *out = l;
    int r = thread_start(&l->thread, "hearth-load", load_main, l);
    if (r == 0) {
        l->next = e->loads;
        e->loads = l;
    }
    pthread_mutex_unlock(&e->lock);
    if (r == 0)
        return 0;
    *out = NULL;
    pthread_cond_destroy(&l->changed);
    resident_free(resident);
    free(l);
    return error_errno(err, r, "cannot start a thread for a load");
}

void load_cancel(struct load *l) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_CANCELLED, "the load was cancelled");
    pthread_mutex_lock(&l->engine->lock);
    load_fail(l, &err);
    pthread_mutex_unlock(&l->engine->lock);
}

void load_hasten(struct load *l) {
    struct engine *e = l->engine;
    pthread_mutex_lock(&e->lock);
    l->background = false;
    pthread_cond_signal(&e->populate_wanted);
    pthread_cond_signal(&e->populate_help);
    e->reader->wake(e->reader);
    pthread_mutex_unlock(&e->lock);
}

uint64_t load_progress(const struct load *l) {
    return atomic_load(&l->landed);
}

int load_take(struct load *l, struct resident **out, struct hearth_error *err) {
    if (l->failed) {
        if (err)
            *err = l->error;
        return (int)l->error.code;
    }
    *out = steal_ptr(&l->resident);
    return 0;
}

struct resident *load_take_shared(struct load *l) {
    return l->failed ? steal_ptr(&l->resident) : NULL;
}

struct load *load_free(struct load *l) {
    if (!l)
        return NULL;
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->changed);
    progress_deinit(&l->page);
    resident_free(l->resident);
    free(l);
    return NULL;
}
