/* daemon/store.c: the queue between the event loop and the store's thread. See store.h. */
#include "daemon/store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/store_db.h"
#include "daemon/store_job.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define QUEUE_MAX 1024u
/* How long the loop waits for what it asked, before it goes on without: storage that works answers in milliseconds. */
#define PATIENCE_NS NS_PER_S
#define STOP_S 2

STAILQ_HEAD(job_list, store_job);

struct store {
    struct loop *loop;
    pthread_t thread;
    TAILQ_HEAD(, store_job) asked; /* the loop's: what has a done(), until it is destroyed; oldest first */
    struct loop_timer patience;
    bool stopped, given_up; /* given up: the thread did not end in time */
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t wanted, ended;
    struct job_list queue;
    unsigned queued;
    bool stopping, over;
    bool lost_some; /* the queue was full, and it has been said */
    bool well;
    char health[PATH_MAX + 256];
    struct store_db db; /* the thread's */
};

/* ---- on the store's thread ---- */

static void take_health(void *user, bool well, const char *what) {
    struct store *s = user;
    pthread_mutex_lock(&s->lock);
    bool news = strcmp(s->health, what) != 0, recovered = well && !s->well;
    s->well = well;
    snprintf(s->health, sizeof(s->health), "%s", what);
    pthread_mutex_unlock(&s->lock);
    if (news && !well)
        log_warning("records, history and pins: %s", what);
    else if (recovered)
        log_notice("records, history and pins are kept in %s again", what);
}

static void finished(void *user);

static void post(struct store *s, struct store_job *j) {
    j->posted = (struct loop_job){.run = finished, .user = j};
    pthread_mutex_lock(&s->lock);
    if (s->loop) /* else nobody waits for it any more: the process ends */
        loop_post(s->loop, &j->posted);
    pthread_mutex_unlock(&s->lock);
}

static void run_some(struct store *s, struct job_list *jobs) {
    struct store_job *j;
    bool durable = false;
    STAILQ_FOREACH(j, jobs, link)
    durable |= j->durable;
    int r = store_db_begin(&s->db, durable);
    bool begun = r == 0;
    STAILQ_FOREACH(j, jobs, link) {
        int e = begun ? j->run(j, s->db.connection) : 0;
        r = r ? r : e;
    }
    store_db_end(&s->db, r);
    while ((j = STAILQ_FIRST(jobs))) {
        STAILQ_REMOVE_HEAD(jobs, link);
        if (j->done)
            post(s, j);
        else
            j->destroy(j);
    }
}

static void *store_main(void *user) {
    struct store *s = user;
    store_db_open(&s->db, s->health, take_health, s);
    pthread_mutex_lock(&s->lock);
    while (!s->stopping || s->queued) {
        if (!s->queued) {
            pthread_cond_wait(&s->wanted, &s->lock);
            continue;
        }
        struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);
        STAILQ_CONCAT(&jobs, &s->queue);
        s->queued = 0;
        pthread_mutex_unlock(&s->lock);
        run_some(s, &jobs);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    store_db_close(&s->db);
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int store_run(sqlite3 *db, const char *sql, store_values bind, store_values row, void *user) {
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (!r && bind)
        r = bind(user, s);
    while (!r) {
        r = sqlite3_step(s);
        if (r != SQLITE_ROW)
            break;
        r = row ? row(user, s) : SQLITE_OK;
    }
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

/* ---- on the loop ---- */

static void answer(struct store_job *j, bool ran) {
    if (j->answered)
        return;
    j->answered = true;
    j->done(j, ran);
}

static void set_patience(struct store *s) {
    struct store_job *j;
    uint64_t next = LOOP_NEVER;
    TAILQ_FOREACH(j, &s->asked, asked)
    if (!j->answered && !j->patient) {
        next = j->since_ns + PATIENCE_NS;
        break;
    }
    loop_timer_set(s->loop, &s->patience, next);
}

static void finished(void *user) {
    struct store_job *j = user;
    struct store *s = j->store;
    answer(j, !j->refused);
    TAILQ_REMOVE(&s->asked, j, asked);
    j->destroy(j);
    set_patience(s); /* nothing wakes for what has been answered */
}

static void out_of_patience(void *user) {
    struct store *s = user;
    uint64_t now = clock_now();
    for (struct store_job *j = TAILQ_FIRST(&s->asked), *next; j; j = next) {
        next = TAILQ_NEXT(j, asked); /* nothing is taken out of the list in done() */
        if (!j->patient && j->since_ns + PATIENCE_NS <= now)
            answer(j, false);
    }
    set_patience(s);
}

void store_queue(struct store *s, struct store_job *j) {
    bool asks = j->done != NULL; /* a write may be done, and freed, as soon as it is queued */
    j->store = s;
    j->since_ns = clock_now();
    pthread_mutex_lock(&s->lock);
    bool room = !s->stopped && s->queued < QUEUE_MAX, news = !room && !s->stopped && !s->lost_some;
    j->refused = !room;
    if (room) {
        STAILQ_INSERT_TAIL(&s->queue, j, link);
        s->queued++;
        pthread_cond_signal(&s->wanted);
    }
    s->lost_some |= news;
    pthread_mutex_unlock(&s->lock);
    if (news)
        log_warning("records, history and pins: the state directory does not keep up, and some of it is not written");
    if (!room && !asks) {
        j->destroy(j);
        return;
    }
    if (!asks)
        return;
    TAILQ_INSERT_TAIL(&s->asked, j, asked);
    if (!room)
        post(s, j);
    else if (!s->patience.at || s->patience.at == LOOP_NEVER)
        set_patience(s);
}

void store_describe(struct store *s, char *buffer, size_t size) {
    pthread_mutex_lock(&s->lock);
    snprintf(buffer, size, "%s", s->health);
    pthread_mutex_unlock(&s->lock);
}

/* ---- making and freeing ---- */

static int start_thread(struct store *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&s->thread, NULL, store_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        (void)pthread_setname_np(s->thread, "hearth-store");
    return r;
}

int store_new(struct loop *loop, const char *directory, struct store **out, struct hearth_error *err) {
    struct store *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the store");
    s->loop = loop;
    s->well = true;
    TAILQ_INIT(&s->asked);
    STAILQ_INIT(&s->queue);
    s->patience = (struct loop_timer){.due = out_of_patience, .user = s};
    snprintf(s->health, sizeof(s->health), "%s", directory);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wanted, NULL);
    pthread_cond_init(&s->ended, NULL);
    int r = start_thread(s);
    if (r) {
        free(s);
        return error_errno(err, r, "no thread can be started for the state directory");
    }
    *out = s;
    return 0;
}

void store_stop(struct store *s) {
    struct timespec end;
    if (s->stopped)
        return;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += STOP_S;
    pthread_mutex_lock(&s->lock);
    s->stopped = s->stopping = true;
    pthread_cond_signal(&s->wanted);
    while (!s->over && pthread_cond_clockwait(&s->ended, &s->lock, CLOCK_MONOTONIC, &end) != ETIMEDOUT)
        ;
    bool over = s->over;
    pthread_mutex_unlock(&s->lock);
    s->given_up = !over;
    if (over)
        pthread_join(s->thread, NULL);
    else
        pthread_detach(s->thread);
}

struct store *store_free(struct store *s) {
    if (!s)
        return NULL;
    store_stop(s);
    loop_timer_remove(&s->patience);
    if (s->given_up) { /* its thread has it, and goes with the process */
        pthread_mutex_lock(&s->lock);
        s->loop = NULL;
        pthread_mutex_unlock(&s->lock);
        log_warning("ending without the state directory: its storage does not answer");
        return NULL;
    }
    for (struct store_job *j; (j = TAILQ_FIRST(&s->asked));) {
        TAILQ_REMOVE(&s->asked, j, asked);
        j->destroy(j);
    }
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wanted);
    pthread_cond_destroy(&s->ended);
    free(s);
    return NULL;
}
