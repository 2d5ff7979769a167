/* loader/uring.c: a reader on one io_uring. See reader.h.
 *
 * SINGLE_ISSUER|DEFER_TASKRUN (6.1) let completions run only when the owner asks for them, which saves interrupts;
 * where a kernel or a sandbox's emulation does not know them, a plain ring does the same. Another thread wakes the
 * owner through an eventfd that the ring polls: a poll, not a read, so that a ring that is torn down has nothing left
 * that might write into freed memory.
 */
#include "loader/reader.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/uring_refusal.h"

/* Copies that run at once inside the ring's owner; the rest go to the ring's own threads. */
#define COPIES_INLINE 4u

struct uring {
    struct reader reader;
    struct io_uring ring;
    int wakeup;
    bool armed;
    unsigned copies; /* under way */
};

static struct io_uring_sqe *next_sqe(struct uring *u) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    while (!sqe) { /* full of what was not submitted yet */
        (void)io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static void uring_queue(struct reader *r, struct read_op *op) {
    struct uring *u = (struct uring *)r;
    struct io_uring_sqe *sqe = next_sqe(u);
    io_uring_prep_read(sqe, op->fd, op->to, op->length, op->offset);
    if (op->copies)
        u->copies++;
    if (op->may_block || (op->copies && u->copies > COPIES_INLINE))
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, op);
}

static int uring_wait(struct reader *r, struct read_op **done, unsigned max) {
    struct uring *u = (struct uring *)r;
    if (!u->armed) {
        struct io_uring_sqe *sqe = next_sqe(u);
        io_uring_prep_poll_add(sqe, u->wakeup, POLLIN);
        io_uring_sqe_set_data(sqe, NULL);
        u->armed = true;
    }
    int submitted = io_uring_submit_and_wait(&u->ring, 1);
    /* EAGAIN, EBUSY: no room for more until completions are taken, as below. */
    if (submitted < 0 && submitted != -EINTR && submitted != -EAGAIN && submitted != -EBUSY && submitted != -ETIME)
        return submitted;
    unsigned head, seen = 0;
    int n = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        if ((unsigned)n == max)
            break;
        seen++;
        struct read_op *op = io_uring_cqe_get_data(cqe);
        if (!op) {
            eventfd_t count;
            (void)eventfd_read(u->wakeup, &count);
            u->armed = false;
            continue;
        }
        if (op->copies)
            u->copies--;
        op->result = cqe->res;
        done[n++] = op;
    }
    io_uring_cq_advance(&u->ring, seen);
    return n;
}

static void uring_wake(struct reader *r) {
    (void)eventfd_write(((struct uring *)r)->wakeup, 1);
}

static void uring_free(struct reader *r) {
    struct uring *u = (struct uring *)r;
    io_uring_queue_exit(&u->ring);
    close_fd(u->wakeup);
    free(u);
}

static int refused(int sys_errno, struct hearth_error *err) {
    char why[256];
    if (!uring_refusal("", sys_errno, why, sizeof(why)))
        return error_errno(err, sys_errno, "cannot make an io_uring");
    error_errno(err, sys_errno, "io_uring is not available");
    if (err)
        err->code = HEARTH_E_UNSUPPORTED;
    error_hint(err, "%s", why);
    return HEARTH_E_UNSUPPORTED;
}

int uring_new(unsigned depth, struct reader **out, struct hearth_error *err) {
    static const unsigned flags[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0};
    struct uring *u = calloc(1, sizeof(*u));
    if (!u)
        return error_errno(err, ENOMEM, "cannot make an io_uring");
    u->reader = (struct reader){"io_uring", depth, uring_queue, uring_wait, uring_wake, uring_free};
    u->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = u->wakeup < 0 ? -errno : -EINVAL;
    for (size_t i = 0; u->wakeup >= 0 && r == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++)
        r = io_uring_queue_init(depth + 1, &u->ring, flags[i]); /* one more for the eventfd */
    if (r < 0) {
        close_fd(u->wakeup);
        free(u);
        return refused(-r, err);
    }
    /* Threads that the ring may use for reads that block: one each, as all but one may be held by storage that hangs.
     */
    unsigned workers[2] = {depth, 0};
    (void)io_uring_register_iowq_max_workers(&u->ring, workers);
    *out = &u->reader;
    return 0;
}
