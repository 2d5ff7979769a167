/* daemon/loop.c: see loop.h. Timers need no descriptor of their own: the nearest one is epoll's timeout. */
#include "daemon/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

#define EVENTS_A_TURN 64

struct watch {
    int fd; /* -1: free */
    loop_call ready;
    void *user;
};

struct loop {
    int epoll, posted_fd;
    bool quit;
    struct watch watches[LOOP_WATCHES_MAX];
    loop_event shared; /* events of others' descriptors */
    void *shared_user;
    struct loop_timer *timers;
    pthread_mutex_t lock; /* guards what follows */
    struct loop_job *posted, **posted_end;
};

/* Takes the whole list first: what is posted meanwhile waits for the next turn. */
static void run_posted(void *user) {
    struct loop *l = user;
    uint64_t count;
    ssize_t ignored = read(l->posted_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_lock(&l->lock);
    struct loop_job *job = l->posted;
    l->posted = NULL;
    l->posted_end = &l->posted;
    pthread_mutex_unlock(&l->lock);
    while (job) {
        struct loop_job *next = job->next; /* run() may free the job */
        job->run(job->user);
        job = next;
    }
}

int loop_new(struct loop **out, struct hearth_error *err) {
    struct loop *l = calloc(1, sizeof(*l));
    if (!l)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the event loop");
    for (int i = 0; i < LOOP_WATCHES_MAX; i++)
        l->watches[i].fd = -1;
    pthread_mutex_init(&l->lock, NULL);
    l->posted_end = &l->posted;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->posted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = 0;
    if (l->epoll < 0 || l->posted_fd < 0)
        r = error_errno(err, errno, "the event loop cannot be made");
    else
        r = loop_watch(l, l->posted_fd, run_posted, l, err);
    if (r) {
        loop_free(l);
        return r;
    }
    *out = l;
    return 0;
}

struct loop *loop_free(struct loop *l) {
    if (!l)
        return NULL;
    close_fd(l->posted_fd);
    close_fd(l->epoll);
    pthread_mutex_destroy(&l->lock);
    free(l);
    return NULL;
}

static int watch(struct loop *l, int fd, uint32_t events, loop_call ready, void *user, struct hearth_error *err) {
    for (int i = 0; i < LOOP_WATCHES_MAX; i++) {
        struct watch *w = &l->watches[i];
        if (w->fd >= 0)
            continue;
        struct epoll_event event = {.events = events, .data.ptr = w};
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            return error_errno(err, errno, "a descriptor cannot be watched");
        *w = (struct watch){.fd = fd, .ready = ready, .user = user};
        return 0;
    }
    return error_set(err, HEARTH_E_SYSTEM, "the event loop watches %d descriptors already", LOOP_WATCHES_MAX);
}

int loop_watch(struct loop *l, int fd, loop_call ready, void *user, struct hearth_error *err) {
    return watch(l, fd, EPOLLIN, ready, user, err);
}

int loop_watch_urgent(struct loop *l, int fd, loop_call ready, void *user, struct hearth_error *err) {
    return watch(l, fd, EPOLLPRI, ready, user, err);
}

void loop_unwatch(struct loop *l, int fd) {
    for (int i = 0; i < LOOP_WATCHES_MAX; i++)
        if (l->watches[i].fd == fd) {
            epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
            l->watches[i].fd = -1;
        }
}

const int *loop_share(struct loop *l, loop_event event, void *user) {
    l->shared = event;
    l->shared_user = user;
    return &l->epoll;
}

static void serve(struct loop *l, const struct epoll_event *event) {
    uintptr_t at = (uintptr_t)event->data.ptr;
    if (at < (uintptr_t)l->watches || at >= (uintptr_t)(l->watches + LOOP_WATCHES_MAX)) {
        if (l->shared)
            l->shared(l->shared_user, event);
        return;
    }
    const struct watch *w = event->data.ptr;
    if (w->fd >= 0) /* not dropped earlier in this turn */
        w->ready(w->user);
}

void loop_post(struct loop *l, struct loop_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&l->lock);
    *l->posted_end = job;
    l->posted_end = &job->next;
    /* Under the lock: once the job is taken the loop may end, and the descriptor with it. */
    ssize_t ignored = write(l->posted_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)ignored;
    pthread_mutex_unlock(&l->lock);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at) {
    if (!t->loop) {
        t->loop = l;
        t->next = l->timers;
        l->timers = t;
    }
    t->at = at;
}

void loop_timer_remove(struct loop_timer *t) {
    for (struct loop_timer **at = t->loop ? &t->loop->timers : NULL; at && *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    t->loop = NULL;
}

static bool timer_is_on(const struct loop_timer *t) {
    return t->at && t->at != LOOP_NEVER;
}

static void run_timers(struct loop *l) {
    uint64_t now = 0;
    for (struct loop_timer *t = l->timers; t; t = t->next) {
        if (!timer_is_on(t))
            continue;
        now = now ? now : clock_now();
        if (t->at <= now) {
            t->at = LOOP_NEVER;
            t->due(t->user);
        }
    }
}

int loop_run(struct loop *l, loop_call turn, void *user, struct hearth_error *err) {
    struct epoll_event events[EVENTS_A_TURN];
    for (l->quit = false;;) {
        if (turn)
            turn(user);
        if (l->quit)
            return 0;
        uint64_t nearest = LOOP_NEVER;
        for (const struct loop_timer *t = l->timers; t; t = t->next)
            if (timer_is_on(t) && t->at < nearest)
                nearest = t->at;
        int n = epoll_wait(l->epoll, events, EVENTS_A_TURN, clock_poll_ms(nearest));
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "the event loop cannot wait");
        for (int i = 0; i < n; i++)
            serve(l, &events[i]);
        run_timers(l);
    }
}

void loop_quit(struct loop *l) {
    l->quit = true;
}
