/* daemon/reload.c: SIGHUP: the configuration is read again while the daemon serves on. See internal.h.
 *
 * Reading a file and asking for users may block for as long as they like, so a thread does it, and nobody waits for
 * that thread's end. Of what it reads, all is taken or nothing. What cannot change while the daemon runs keeps its
 * value and is named in the log. No artifact goes, and no lease: what a client may no longer do shows with its next
 * request.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/internal.h"
#include "daemon/service.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

struct reload {
    struct daemon *daemon;
    const struct command_line *command;
    struct loop *loop;
    struct loop_job job;
    struct options options;
    struct hearth_error error;
    pthread_mutex_t lock; /* guards what follows */
    bool posted, dropped;
};

static void begin(struct daemon *d);

static struct reload *reload_free(struct reload *r) {
    pthread_mutex_lock(&r->lock); /* its thread may still be letting go of it */
    pthread_mutex_unlock(&r->lock);
    options_deinit(&r->options);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return NULL;
}

static void *run(void *user) {
    struct reload *r = user;
    if (options_read(r->command, &r->options, &r->error))
        options_deinit(&r->options);
    pthread_mutex_lock(&r->lock);
    bool dropped = r->dropped;
    if (!dropped) {
        r->posted = true;
        loop_post(r->loop, &r->job); /* under the lock: who drops it may free the loop next */
    }
    pthread_mutex_unlock(&r->lock);
    if (dropped)
        reload_free(r);
    return NULL;
}

/* ---- what is new ---- */

static const struct {
    const char *name;
    size_t offset, bytes;
} fixed[] = {
#define FIXED(name, field) \
    { name, offsetof(struct options, field), sizeof(((struct options *)0)->field) }
    FIXED("socket", socket),
    FIXED("backing", backing),
    FIXED("reader", reader),
    FIXED("hash-workers", hash_workers),
    FIXED("bytes-in-flight", bytes_in_flight),
    FIXED("metrics", metrics),
    FIXED("state-dir", state_dir),
};

/* Gives `now` what the daemon runs with, and names what would have been otherwise. */
static void keep_fixed(const struct options *was, struct options *now) {
    char names[256] = "";
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        const char *old = (const char *)was + fixed[i].offset;
        char *new = (char *)now + fixed[i].offset;
        if (memcmp(old, new, fixed[i].bytes) == 0)
            continue;
        memcpy(new, old, fixed[i].bytes);
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", fixed[i].name);
    }
    if (names[0])
        log_warning("needs a restart to change: %s", names);
}

static void apply(struct daemon *d, struct options *now) {
    struct options was = d->options;
    struct hearth_error err = HEARTH_ERROR_INIT;
    bool no_door = !was.sources && now->sources && !d->command->system;
    keep_fixed(&was, now);
    d->options = *now;
    *now = (struct options){0};
    daemon_preload(d, &was);
    options_deinit(&was);
    log_set_level(d->options.log_level);
    if (d->options.budget != was.budget &&
        budget_set(&d->budget, d->options.budget, d->options.backing == BACKING_HUGETLB, &err))
        log_failure(LOG_WARNING, "the budget stays as it is", &err);
    artifacts_tune(d->artifacts, d->options.loads_at_once, d->options.background_evicts);
    d->used_ns = clock_now();
    loop_timer_set(d->loop, &d->idle, d->options.idle_exit_ns ? d->used_ns + d->options.idle_exit_ns : LOOP_NEVER);
    if (no_door)
        log_warning("needs a restart to let other users connect: the socket was made for one");
}

/* ---- turns ---- */

static void finished(void *user) {
    struct reload *r = user;
    struct daemon *d = r->daemon;
    d->reload = NULL;
    if (!d->stopping) {
        if (r->error.code)
            log_failure(LOG_ERROR, "nothing is taken of the configuration", &r->error);
        else
            apply(d, &r->options);
        daemon_ready(d, r->error.code ? &r->error : NULL);
        log_notice("the configuration was read again%s", r->error.code ? ": what was read before stays" : "");
    }
    reload_free(r);
    if (d->reload_again && !d->stopping)
        begin(d);
}

static void begin(struct daemon *d) {
    struct reload *r = calloc(1, sizeof(*r));
    pthread_attr_t attr;
    pthread_t thread;
    d->reload_again = false;
    if (!r) {
        log_error("the configuration is not read again: no memory");
        return;
    }
    *r = (struct reload){.daemon = d, .command = d->command, .loop = d->loop, .job = {.run = finished, .user = r}};
    r->error = (struct hearth_error)HEARTH_ERROR_INIT;
    pthread_mutex_init(&r->lock, NULL);
    service_reloading();
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int e = pthread_create(&thread, &attr, run, r);
    pthread_attr_destroy(&attr);
    d->reload = r;
    if (e) {
        error_errno(&r->error, e, "no thread can be started to read it");
        finished(r);
    }
}

void daemon_reload(struct daemon *d) {
    if (d->reload)
        d->reload_again = true;
    else if (!d->stopping)
        begin(d);
}

void daemon_reload_drop(struct daemon *d) {
    struct reload *r = d->reload;
    if (!r)
        return;
    d->reload = NULL;
    pthread_mutex_lock(&r->lock);
    bool posted = r->posted;
    r->dropped = true;
    pthread_mutex_unlock(&r->lock);
    if (posted) /* its thread has done with it */
        reload_free(r);
}
