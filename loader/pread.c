/* loader/pread.c: a reader on threads that call pread(2). See reader.h.
 *
 * For where io_uring is refused: containers under the default seccomp profiles, kernel.io_uring_disabled. A few threads
 * are there from the start, because one that is made while memory is populated waits for the address space's lock; more
 * are made when all of them are at work, up to one a read, for storage that hangs holds each of its own.
 */
#include "loader/reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "loader/internal.h"
#include "util/error.h"

/* What keeps a disk busy. */
#define THREADS_KEPT 16u

struct pool {
    struct reader reader;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, change;
    struct read_op *waiting, **waiting_end, *ended;
    unsigned n_waiting, threads, idle;
    bool woken, stopping;
};

static void end(struct pool *p, struct read_op *op, int result) {
    op->result = result;
    op->next = p->ended;
    p->ended = op;
    pthread_cond_signal(&p->change);
}

static void *pread_main(void *pool) {
    struct pool *p = pool;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->waiting && !p->stopping && p->idle < THREADS_KEPT) {
            p->idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
        }
        struct read_op *op = p->waiting;
        if (!op)
            break;
        p->waiting = op->next;
        if (!p->waiting)
            p->waiting_end = &p->waiting;
        p->n_waiting--;
        pthread_mutex_unlock(&p->lock);
        ssize_t n = pread(op->fd, op->to, op->length, (off_t)op->offset);
        int result = n < 0 ? -errno : (int)n;
        pthread_mutex_lock(&p->lock);
        end(p, op, result);
    }
    p->threads--;
    pthread_cond_signal(&p->change);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* With the lock held. 0 or an errno. */
static int add_thread(struct pool *p) {
    pthread_t thread;
    int r = thread_start(&thread, "hearth-read", pread_main, p);
    if (r)
        return r;
    pthread_detach(thread);
    p->threads++;
    return 0;
}

static void pread_queue(struct reader *r, struct read_op *op) {
    struct pool *p = (struct pool *)r;
    op->next = NULL;
    pthread_mutex_lock(&p->lock);
    *p->waiting_end = op;
    p->waiting_end = &op->next;
    p->n_waiting++;
    if (p->n_waiting > p->idle && p->threads < p->reader.depth)
        (void)add_thread(p); /* without it, one of the others will come to it */
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static int pread_wait(struct reader *r, struct read_op **done, unsigned max) {
    struct pool *p = (struct pool *)r;
    unsigned n = 0;
    pthread_mutex_lock(&p->lock);
    while (!p->ended && !p->woken)
        pthread_cond_wait(&p->change, &p->lock);
    p->woken = false;
    for (; p->ended && n < max; n++) {
        done[n] = p->ended;
        p->ended = done[n]->next;
    }
    pthread_mutex_unlock(&p->lock);
    return (int)n;
}

static void pread_wake(struct reader *r) {
    struct pool *p = (struct pool *)r;
    pthread_mutex_lock(&p->lock);
    p->woken = true;
    pthread_cond_signal(&p->change);
    pthread_mutex_unlock(&p->lock);
}

static void pread_free(struct reader *r) {
    struct pool *p = (struct pool *)r;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    while (p->threads > 0)
        pthread_cond_wait(&p->change, &p->lock);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->change);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int pread_new(unsigned depth, struct reader **out, struct hearth_error *err) {
    struct pool *p = calloc(1, sizeof(*p));
    if (!p)
        return error_errno(err, ENOMEM, "cannot make threads that read");
    p->reader = (struct reader){"pread on threads", depth, pread_queue, pread_wait, pread_wake, pread_free};
    p->waiting_end = &p->waiting;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->change, NULL);
    pthread_mutex_lock(&p->lock);
    int r = 0;
    while (r == 0 && p->threads < THREADS_KEPT && p->threads < depth)
        r = add_thread(p);
    bool none = p->threads == 0;
    pthread_mutex_unlock(&p->lock);
    if (none) {
        pread_free(&p->reader);
        return error_errno(err, r, "cannot make threads that read");
    }
    *out = &p->reader;
    return 0;
}
