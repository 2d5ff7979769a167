/* ipc/send.c: packets on their way to one client.
 *
 * A packet goes out at once where the socket takes it: the usual case, one sendmsg. What it does not take is queued,
 * within bounds, and sent when epoll says that there is room; PROGRESS is dropped instead. Packets with descriptors are
 * never queued: that would hold each descriptor twice.
 *
 * Descriptors on their way to a client count against our own limit until the client receives them, and a client that
 * never does could make sends to everybody fail (ETOOMANYREFS). So they are charged to the peer and to its uid. Nothing
 * tells when they are received; SIOCOUTQ says whether anything is unread. It is asked only when a charge would not
 * fit: then of every peer of the uid, because those that read theirs long ago and are idle since are still charged.
 * Those that have unread packets then are suspects: from then on each send to them, too, looks whether they read. One
 * that has not read a byte for a while when the next charge does not fit is ended, so that nobody who reads is refused
 * for longer because of those who do not. The kernel counts what such a client has in its socket until the client
 * closes that, and nobody can take it back; what we let a user have is a quarter of what the kernel does.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "ipc/internal.h"
#include "util/clock.h"
#include "util/log.h"

/* A client that reads nothing for a while gets no more PROGRESS above this, so that the socket has room for replies. In
 * the kernel's measure, which counts the buffers that hold the bytes. */
#define PROGRESS_UNREAD_MAX (32 << 10)
#define FLUSH_A_TURN 64

/* What the client has not received yet, in the kernel's measure. 0: it has received all. */
static int unread_bytes(const struct ipc_peer *p) {
    int unread;
    return ioctl(p->fd, SIOCOUTQ, &unread) == 0 ? unread : 1;
}

void send_watch(struct ipc_peer *p) {
    uint32_t events = EPOLLRDHUP | (p->closing ? 0u : (uint32_t)EPOLLIN);
    if (p->queue || (p->awaits_room && !p->closing))
        events |= EPOLLOUT;
    if (events == p->events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = p};
    if (epoll_ctl(p->server->epoll, EPOLL_CTL_MOD, p->fd, &event) < 0)
        peer_doom(p);
    p->events = events;
}

static void drop_first(struct ipc_peer *p) {
    struct ipc_packet *packet = p->queue;
    p->queue = packet->next;
    if (!p->queue)
        p->queue_end = &p->queue;
    p->queued--;
    p->queued_bytes -= sizeof(*packet) + packet->bytes;
    p->account->queued_bytes -= sizeof(*packet) + packet->bytes;
    free(packet);
}

static void refund_fds(struct ipc_peer *p) {
    p->account->unread_fds -= p->unread_fds;
    p->unread_fds = 0;
    p->unread_ns = 0;
}

void send_forget(struct ipc_peer *p) {
    while (p->queue)
        drop_first(p);
    refund_fds(p);
}

static void enqueue(struct ipc_peer *p, const struct wire_out *w) {
    struct ipc_packet *packet = NULL;
    size_t bytes = sizeof(*packet) + w->used;
    const char *why = "it does not read its replies";
    if (p->queued < QUEUE_PACKETS_MAX && p->queued_bytes + bytes <= QUEUE_BYTES_MAX &&
        p->account->queued_bytes + bytes <= QUEUE_BYTES_UID_MAX) {
        packet = malloc(bytes);
        why = "no memory to queue its replies";
    }
    if (!packet) {
        log_notice("ended a connection: %s (uid %u, pid %d)", why, (unsigned)p->cred.uid, (int)p->cred.pid);
        peer_doom(p);
        return;
    }
    packet->next = NULL;
    packet->bytes = w->used;
    memcpy(packet->data, w->buffer, w->used);
    *p->queue_end = packet;
    p->queue_end = &packet->next;
    p->queued++;
    p->queued_bytes += bytes;
    p->account->queued_bytes += bytes;
    send_watch(p);
}

static int transmit(struct ipc_peer *p, const void *packet, size_t bytes, const struct fdlist *fds) {
    if (p->unread_ns && unread_bytes(p) < p->unread_bytes)
        p->unread_ns = 0;
    int r = fdlist_send(p->fd, packet, bytes, fds);
    if (p->unread_ns)
        p->unread_bytes = unread_bytes(p);
    return r;
}

void send_packet(struct ipc_peer *p, enum send_mode mode) {
    const struct wire_out *w = &p->server->out;
    if (p->doomed || p->closing)
        return;
    if (mode == SEND_DROPPABLE) {
        int unread = unread_bytes(p);
        if (p->queue || unread > PROGRESS_UNREAD_MAX)
            return;
        if (unread == 0)
            refund_fds(p); /* who reads PROGRESS all the time is hardly ever seen to have read all */
    }
    int r = p->queue ? -EAGAIN : transmit(p, w->buffer, w->used, NULL);
    if (r == -EAGAIN && mode == SEND_QUEUED)
        enqueue(p, w);
    else if (r < 0 && r != -EAGAIN)
        peer_doom(p);
}

static void look_at(struct ipc_peer *p, uint64_t now) {
    int unread = unread_bytes(p);
    if (unread == 0) {
        refund_fds(p);
    } else if (!p->unread_ns || unread < p->unread_bytes) {
        p->unread_ns = now;
        p->unread_bytes = unread;
    }
}

/* The one that holds most of the user's peers that do not read, or NULL. */
static struct ipc_peer *worst_of(const struct ipc_server *s, const struct account *a, uint64_t now) {
    struct ipc_peer *worst = NULL;
    for (struct ipc_peer *p = s->peers; p; p = p->next)
        if (p->account == a && p->unread_ns && now - p->unread_ns >= s->unread_ns_max &&
            (!worst || p->unread_fds > worst->unread_fds))
            worst = p;
    return worst;
}

static bool fits(const struct ipc_peer *p, unsigned more) {
    return p->account->unread_fds + more <= p->server->unread_fds_uid_max;
}

static void make_room(struct ipc_peer *p, unsigned more) {
    struct ipc_server *s = p->server;
    struct ipc_peer *worst;
    uint64_t now = clock_now();
    for (struct ipc_peer *q = s->peers; q; q = q->next)
        if (q->account == p->account && q->unread_fds > 0)
            look_at(q, now);
    while (!fits(p, more) && (worst = worst_of(s, p->account, now))) {
        peer_refuse(worst, 0, HEARTH_E_BUSY, "the descriptors it was sent are not read, and others need theirs");
        peer_doom(worst); /* whether that is read or not */
        refund_fds(worst);
    }
}

int send_charge_fds(struct ipc_peer *p, unsigned count) {
    if (p->queue)
        return -EAGAIN;
    if (p->unread_fds + count > UNREAD_FDS_MAX && unread_bytes(p) == 0)
        refund_fds(p);
    if (p->unread_fds + count > UNREAD_FDS_MAX)
        return -EBUSY;
    if (!fits(p, count))
        make_room(p, count);
    if (p->doomed || !fits(p, count))
        return -EDQUOT;
    p->unread_fds += count;
    p->account->unread_fds += count;
    return 0;
}

int send_fds(struct ipc_peer *p, const struct fdlist *fds) {
    const struct wire_out *w = &p->server->out;
    unsigned count = (unsigned)fds->count;
    int r = transmit(p, w->buffer, w->used, fds);
    if (r == 0)
        return 0;
    p->unread_fds -= count;
    p->account->unread_fds -= count;
    if (r != -EAGAIN && r != -ETOOMANYREFS) {
        peer_doom(p);
        return 0;
    }
    return r;
}

void send_flush(struct ipc_peer *p) {
    for (int i = 0; p->queue && i < FLUSH_A_TURN; i++) {
        int r = transmit(p, p->queue->data, p->queue->bytes, NULL);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            peer_doom(p);
            return;
        }
        drop_first(p);
    }
    if (p->queue)
        return;
    if (p->closing) {
        peer_doom(p);
        return;
    }
    if (p->awaits_room) {
        p->awaits_room = false;
        p->server->handler.room(p->server->user, p);
    }
    send_watch(p);
}
