/* daemon/resolve.c: see resolve.h. */
#include "daemon/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/path.h"

#define THREADS_MAX 64
#define FOLDER_THREADS_MAX 16
/* How long a resolve waits for a thread. Storage that works answers in milliseconds. */
#define PATIENCE_NS (5 * NS_PER_S)
#define STACK_BYTES (512u << 10)

/* What threads that outlive the resolver still need of it. */
struct mailbox {
    pthread_mutex_t lock;
    unsigned holders;  /* the resolver, and each thread */
    struct loop *loop; /* NULL: nobody collects any more */
};

struct resolve {
    TAILQ_ENTRY(resolve) link;
    struct resolver *resolver;
    struct mailbox *mailbox;
    struct load_spec *spec;
    resolve_done done; /* NULL: dropped */
    void *user;
    uint64_t since_ns;
    bool running;
    atomic_bool dropped; /* nobody waits for it: its thread is to come to an end */
    bool posted;         /* guarded by mailbox->lock: its thread has done with it */
    struct loop_job job;
    struct artifact *artifact;
    struct hearth_span span;
    struct hearth_error error;
};

struct resolver {
    struct mailbox *mailbox;
    TAILQ_HEAD(, resolve) jobs; /* those waiting, and those under way, oldest first */
    unsigned running;
    struct loop_timer patience;
};

/* ---- what is asked for ---- */

static bool copy_strings(char *const *from, size_t n, char ***out, size_t *n_out) {
    if (n && !(*out = calloc(n, sizeof(**out))))
        return false;
    for (; *n_out < n; ++*n_out)
        if (!((*out)[*n_out] = strdup(from[*n_out])))
            return false;
    return true;
}

struct load_spec *load_spec_copy(const struct load_spec *from) {
    struct load_spec *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->verify = from->verify;
    s->seen = from->seen;
    bool ok = (s->ref = strdup(from->ref)) && (!from->root || (s->root = strdup(from->root))) &&
              copy_strings(from->include, from->n_include, &s->include, &s->n_include) &&
              copy_strings(from->exclude, from->n_exclude, &s->exclude, &s->n_exclude) &&
              (!from->n_digests || (s->digests = calloc(from->n_digests, sizeof(*s->digests))));
    if (ok)
        path_tidy(s->ref); /* one artifact has one reference */
    for (; ok && s->n_digests < from->n_digests; s->n_digests++) {
        s->digests[s->n_digests] = from->digests[s->n_digests];
        ok = (s->digests[s->n_digests].path = strdup(from->digests[s->n_digests].path)) != NULL;
    }
    return ok ? s : load_spec_free(s);
}

struct load_spec *load_spec_free(struct load_spec *s) {
    if (!s)
        return NULL;
    free(s->ref);
    free(s->root);
    for (size_t i = 0; i < s->n_include; i++)
        free(s->include[i]);
    for (size_t i = 0; i < s->n_exclude; i++)
        free(s->exclude[i]);
    for (size_t i = 0; i < s->n_digests; i++)
        free((void *)(uintptr_t)s->digests[i].path);
    free(s->include);
    free(s->exclude);
    free(s->digests);
    free(s);
    return NULL;
}

static bool strings_equal(char *const *a, size_t n_a, char *const *b, size_t n_b) {
    if (n_a != n_b)
        return false;
    for (size_t i = 0; i < n_a; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return true;
}

bool load_spec_same_files(const struct load_spec *a, const struct load_spec *b) {
    bool same_root = a->root && b->root ? strcmp(a->root, b->root) == 0 : a->root == b->root;
    return strcmp(a->ref, b->ref) == 0 && same_root &&
           strings_equal(a->include, a->n_include, b->include, b->n_include) &&
           strings_equal(a->exclude, a->n_exclude, b->exclude, b->n_exclude);
}

/* ---- threads ---- */

static void mailbox_let_go(struct mailbox *m) {
    pthread_mutex_lock(&m->lock);
    bool last = --m->holders == 0;
    pthread_mutex_unlock(&m->lock);
    if (last) {
        pthread_mutex_destroy(&m->lock);
        free(m);
    }
}

static void resolve_free(struct resolve *job) {
    artifact_free(job->artifact);
    load_spec_free(job->spec);
    free(job);
}

static void *run(void *user) {
    struct resolve *job = user;
    struct mailbox *mailbox = job->mailbox;
    const struct load_spec *s = job->spec;
    const struct artifact_request request = {
        .ref = s->ref,
        .beneath = s->root,
        .seen = s->seen,
        .include = (const char *const *)s->include,
        .n_include = s->n_include,
        .exclude = (const char *const *)s->exclude,
        .n_exclude = s->n_exclude,
        .digests = s->digests,
        .n_digests = s->n_digests,
        .policy = (uint32_t)s->verify,
        .cancel = &job->dropped,
    };
    job->span.start_ns = clock_now();
    if (artifact_resolve(&request, &job->artifact, &job->error))
        job->artifact = NULL;
    job->span.end_ns = clock_now();
    pthread_mutex_lock(&mailbox->lock);
    bool collected = job->posted = mailbox->loop != NULL;
    if (collected)
        loop_post(mailbox->loop, &job->job); /* under the lock: the loop outlives it */
    pthread_mutex_unlock(&mailbox->lock);
    if (!collected)
        resolve_free(job);
    mailbox_let_go(mailbox);
    return NULL;
}

static int thread_start(struct resolve *job) {
    pthread_attr_t attr;
    pthread_t thread;
    int r = pthread_attr_init(&attr);
    if (r)
        return r;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_mutex_lock(&job->mailbox->lock);
    job->mailbox->holders++;
    pthread_mutex_unlock(&job->mailbox->lock);
    r = pthread_create(&thread, &attr, run, job);
    pthread_attr_destroy(&attr);
    if (r)
        mailbox_let_go(job->mailbox);
    return r;
}

static size_t folder_length(const char *ref) {
    const char *slash = strrchr(ref, '/');
    return slash ? (size_t)(slash - ref) : 0;
}

enum start { MAY_START, SAME_UNDER_WAY, NO_THREAD };

/* `*oldest` is, with NO_THREAD, the first of those that have the threads. */
static enum start may_start(const struct resolver *r, const struct resolve *job, const struct resolve **oldest) {
    const struct resolve *other;
    const char *ref = job->spec->ref;
    size_t folder = folder_length(ref);
    unsigned in_folder = 0;
    *oldest = NULL;
    TAILQ_FOREACH(other, &r->jobs, link) {
        const char *theirs = other->spec->ref;
        if (!other->running)
            continue;
        if (strcmp(theirs, ref) == 0)
            return SAME_UNDER_WAY;
        bool neighbours = folder_length(theirs) == folder && memcmp(theirs, ref, folder) == 0;
        if (!*oldest || (neighbours && in_folder == 0))
            *oldest = other;
        in_folder += neighbours;
    }
    return r->running < THREADS_MAX && in_folder < FOLDER_THREADS_MAX ? MAY_START : NO_THREAD;
}

/* Starts what may start, and sees to it that nobody waits for a thread for ever. */
static void pump(struct resolver *r) {
    const struct resolve *oldest;
    uint64_t next = LOOP_NEVER;
    struct resolve *job;
    TAILQ_FOREACH(job, &r->jobs, link) {
        enum start start = job->running ? SAME_UNDER_WAY : may_start(r, job, &oldest);
        if (start == NO_THREAD && job->since_ns + PATIENCE_NS < next)
            next = job->since_ns + PATIENCE_NS;
        if (start != MAY_START)
            continue;
        job->running = true;
        r->running++;
        int e = thread_start(job);
        if (e) {
            error_errno(&job->error, e, "no thread can be started to look at the files");
            error_at(&job->error, job->spec->ref, HEARTH_NO_OFFSET);
            job->posted = true;
            loop_post(r->mailbox->loop, &job->job);
        }
    }
    loop_timer_set(r->mailbox->loop, &r->patience, next);
}

static void refuse(struct resolve *job, const struct resolve *oldest) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_BUSY, "%.256s was not looked at: too many others wait for storage that does not answer",
              job->spec->ref);
    error_at(&err, job->spec->ref, HEARTH_NO_OFFSET);
    error_expected(&err, "at most %d under way, %d in one folder", THREADS_MAX, FOLDER_THREADS_MAX);
    error_found(&err, "%u under way, %.256s the first of them", job->resolver->running, oldest->spec->ref);
    error_hint(&err, "see what is wrong with that storage; what is resident can be attached by its id");
    TAILQ_REMOVE(&job->resolver->jobs, job, link);
    job->done(job->user, NULL, (struct hearth_span){job->since_ns, clock_now()}, &err);
    resolve_free(job);
}

static void out_of_patience(void *user) {
    struct resolver *r = user;
    const struct resolve *oldest;
    uint64_t now = clock_now();
    for (struct resolve *job = TAILQ_FIRST(&r->jobs), *next; job; job = next) {
        next = TAILQ_NEXT(job, link);
        if (!job->running && job->since_ns + PATIENCE_NS <= now && may_start(r, job, &oldest) == NO_THREAD)
            refuse(job, oldest);
    }
    pump(r);
}

static void finished(void *user) {
    struct resolve *job = user;
    struct resolver *r = job->resolver;
    TAILQ_REMOVE(&r->jobs, job, link);
    r->running--;
    if (job->done)
        job->done(job->user, job->artifact ? steal_ptr(&job->artifact) : NULL, job->span,
                  job->error.code ? &job->error : NULL);
    resolve_free(job);
    pump(r);
}

int resolver_new(struct loop *loop, struct resolver **out, struct hearth_error *err) {
    struct resolver *r = calloc(1, sizeof(*r));
    if (!r || !(r->mailbox = calloc(1, sizeof(*r->mailbox)))) {
        free(r);
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the resolver");
    }
    TAILQ_INIT(&r->jobs);
    pthread_mutex_init(&r->mailbox->lock, NULL);
    r->mailbox->holders = 1;
    r->mailbox->loop = loop;
    r->patience = (struct loop_timer){.due = out_of_patience, .user = r};
    *out = r;
    return 0;
}

struct resolver *resolver_free(struct resolver *r) {
    if (!r)
        return NULL;
    loop_timer_remove(&r->patience);
    pthread_mutex_lock(&r->mailbox->lock);
    r->mailbox->loop = NULL;
    for (struct resolve *job; (job = TAILQ_FIRST(&r->jobs));) {
        TAILQ_REMOVE(&r->jobs, job, link);
        if (!job->running || job->posted)
            resolve_free(job);
        else
            job->dropped = true; /* its thread's, who cannot free it before the lock is open again */
    }
    pthread_mutex_unlock(&r->mailbox->lock);
    mailbox_let_go(r->mailbox);
    free(r);
    return NULL;
}

int resolve_start(struct resolver *r, const struct load_spec *spec, resolve_done done, void *user, struct resolve **out,
                  struct hearth_error *err) {
    struct resolve *job = calloc(1, sizeof(*job));
    if (!job || !(job->spec = load_spec_copy(spec))) {
        free(job);
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory to resolve a reference");
    }
    job->resolver = r;
    job->mailbox = r->mailbox;
    job->done = done;
    job->user = user;
    job->since_ns = clock_now();
    job->job = (struct loop_job){.run = finished, .user = job};
    job->error.offset = HEARTH_NO_OFFSET;
    TAILQ_INSERT_TAIL(&r->jobs, job, link);
    *out = job;
    pump(r);
    return 0;
}

const char *resolver_oldest(const struct resolver *r, uint64_t *since_ns) {
    const struct resolve *job;
    TAILQ_FOREACH(job, &r->jobs, link) {
        if (job->running) {
            *since_ns = job->since_ns;
            return job->spec->ref;
        }
    }
    return NULL;
}

void resolve_drop(struct resolve *job) {
    job->done = NULL;
    job->dropped = true;
    if (!job->running) {
        TAILQ_REMOVE(&job->resolver->jobs, job, link);
        resolve_free(job);
    }
}
