/* ipc/client/connection.c: packets in and out of one connection.
 *
 * The socket stays in blocking mode: a reply is waited for in recvmsg itself, under SO_RCVTIMEO, which saves the
 * poll(2) in front of each reply. What must not wait says MSG_DONTWAIT.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/client/client.h"
#include "util/array.h"
#include "util/clock.h"

#define US_PER_S 1000000

void connection_kill(struct hearth *h, const struct hearth_error *why) {
    if (h->dead.code != HEARTH_OK)
        return;
    h->dead = *why;
    shutdown(h->fd, SHUT_RDWR); /* the daemon learns at once; the fd keeps its number until hearth_close */
    request_fail_all(h, &h->dead);
}

/* Kills the connection for a reason of our own. `sys_errno` may be 0. Returns why it is dead. */
static int fail(struct hearth *h, enum hearth_code code, int sys_errno, const char *message, struct hearth_error *err) {
    struct hearth_error why;
    if (sys_errno)
        (void)error_errno(&why, sys_errno, "%s", message);
    else
        (void)error_set(&why, code, "%s", message);
    why.code = code;
    error_at(&why, h->path, HEARTH_NO_OFFSET);
    connection_kill(h, &why);
    return connection_dead(h, err);
}

int connection_dead(const struct hearth *h, struct hearth_error *err) {
    if (h->dead.code != HEARTH_OK && err)
        *err = h->dead;
    return (int)h->dead.code;
}

int connection_late(const struct hearth *h, struct hearth_error *err) {
    error_set(err, HEARTH_E_TIMEOUT, "hearthd did not answer before the deadline");
    error_at(err, h->path, HEARTH_NO_OFFSET);
    error_hint(err, "allow it more time; if it never answers, its process may be stopped");
    return HEARTH_E_TIMEOUT;
}

/* Lets recvmsg wait until `deadline`. False when that has passed. */
static bool set_receive_timeout(struct hearth *h, uint64_t deadline) {
    int64_t us = 0;
    if (deadline != HEARTH_NO_DEADLINE) {
        uint64_t now = clock_now();
        if (now >= deadline)
            return false;
        uint64_t rest = (deadline - now + 999) / 1000;
        us = rest > INT32_MAX ? INT32_MAX : (int64_t)rest; /* an early wake-up only means another round */
    }
    if (us == h->receive_us)
        return true;
    struct timeval t = {.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};
    if (setsockopt(h->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0)
        return false;
    h->receive_us = us;
    return true;
}

static int send_farewell(struct hearth *h, struct farewell f) {
    uint32_t serial = request_serial(h);
    if (f.type == HEARTH_MSG_DETACH) {
        struct hearth_msg_detach *m = wire_begin(&h->out, f.type, serial, sizeof(*m));
        m->id = f.what;
    } else {
        struct hearth_msg_cancel *m = wire_begin(&h->out, f.type, serial, sizeof(*m));
        m->serial = (uint32_t)f.what;
    }
    return fdlist_send(h->fd, h->out.buffer, (size_t)wire_end(&h->out), NULL);
}

static void flush_farewells(struct hearth *h) {
    while (h->n_farewells > 0 && send_farewell(h, h->farewells[h->n_farewells - 1]) != -EAGAIN)
        h->n_farewells--;
}

void connection_give_up(struct hearth *h, enum hearth_msg_type type, uint64_t what) {
    const struct farewell f = {type, what};
    if (h->dead.code != HEARTH_OK || send_farewell(h, f) != -EAGAIN)
        return;
    struct farewell *list = grow_array(h->farewells, h->n_farewells, &h->farewells_room, sizeof(*list));
    if (!list)
        return; /* it then ends with the connection */
    h->farewells = list;
    list[h->n_farewells++] = f;
}

int connection_turn(struct hearth *h, uint64_t deadline, struct hearth_error *err) {
    if (h->n_farewells > 0)
        flush_farewells(h);
    for (bool reset = false;;) {
        _cleanup_(fdlist_deinit) struct fdlist fds = FDLIST_NULL;
        bool lost = false;
        bool wait = deadline > 0 && set_receive_timeout(h, deadline);
        long n = fdlist_receive_wait(h->fd, h->in, sizeof(h->in), &fds, wait, &lost);
        if (n > 0) {
            struct hearth_error why;
            if (request_handle(h, (size_t)n, &fds, lost, &why))
                connection_kill(h, &why);
            return connection_dead(h, err);
        }
        switch (n) {
        case -EAGAIN:
            if (!wait)
                return connection_late(h, err);
            break;
        case -EINTR:
            break;
        case -ECONNRESET:
            /* The other side closed with packets of ours unread. The kernel says so once, ahead of what it had sent
             * before: read that first, it may say why. */
            if (reset)
                return fail(h, HEARTH_E_DISCONNECTED, ECONNRESET, "hearthd hung up", err);
            reset = true;
            break;
        case 0:
            return fail(h, HEARTH_E_DISCONNECTED, 0, "hearthd hung up", err);
        case -EMSGSIZE:
            return fail(h, HEARTH_E_PROTOCOL, 0, "hearthd sent a packet longer than the protocol allows", err);
        default:
            return fail(h, HEARTH_E_DISCONNECTED, (int)-n, "cannot receive from hearthd", err);
        }
    }
}

int connection_send(struct hearth *h, uint64_t deadline, struct hearth_error *err) {
    long bytes = wire_end(&h->out);
    if (bytes < 0) {
        error_set(err, HEARTH_E_INVALID, "the request does not fit into one packet");
        error_expected(err, "at most %u bytes of names, globs and digests", HEARTH_PACKET_MAX);
        return HEARTH_E_INVALID;
    }
    for (;;) {
        int r = fdlist_send(h->fd, h->out.buffer, (size_t)bytes, NULL);
        if (r == 0)
            return 0;
        if (r != -EAGAIN) {
            /* What it sent before it hung up may say why. */
            while (connection_turn(h, 0, NULL) == 0)
                ;
            return fail(h, HEARTH_E_DISCONNECTED, -r, "cannot send to hearthd", err);
        }
        /* The kernel lets about ten packets wait for a reader. Nothing needs to be received meanwhile: the daemon
         * never waits for us before it reads. */
        struct pollfd p = {.fd = h->fd, .events = POLLOUT};
        if (poll(&p, 1, clock_poll_ms(deadline)) == 0) {
            error_set(err, HEARTH_E_TIMEOUT, "hearthd did not read the request before the deadline");
            error_at(err, h->path, HEARTH_NO_OFFSET);
            return HEARTH_E_TIMEOUT;
        }
    }
}
