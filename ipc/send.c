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
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "ipc/internal.h"
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
    int r = p->queue ? -EAGAIN : fdlist_send(p->fd, w->buffer, w->used, NULL);
    if (r == -EAGAIN && mode == SEND_QUEUED)
        enqueue(p, w);
    else if (r < 0 && r != -EAGAIN)
        peer_doom(p);
}

/* Whether this peer, and its user, may have `more` descriptors under way: 0, -EBUSY or -EDQUOT. */
static int charge_fds(struct ipc_peer *p, unsigned more) {
    struct ipc_server *s = p->server;
    struct account *a = p->account;
    if (p->unread_fds + more > UNREAD_FDS_MAX && unread_bytes(p) == 0)
        refund_fds(p);
    if (p->unread_fds + more > UNREAD_FDS_MAX)
        return -EBUSY;
    if (a->unread_fds + more > s->unread_fds_uid_max)
        for (struct ipc_peer *q = s->peers; q; q = q->next)
            if (q->account == a && q->unread_fds > 0 && unread_bytes(q) == 0)
                refund_fds(q);
    if (a->unread_fds + more > s->unread_fds_uid_max)
        return -EDQUOT;
    p->unread_fds += more;
    a->unread_fds += more;
    return 0;
}

int send_fds(struct ipc_peer *p, const struct fdlist *fds) {
    const struct wire_out *w = &p->server->out;
    unsigned count = (unsigned)fds->count;
    if (p->doomed || p->closing)
        return 0;
    if (p->queue)
        return -EAGAIN;
    int r = charge_fds(p, count);
    if (r < 0)
        return r;
    r = fdlist_send(p->fd, w->buffer, w->used, fds);
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
        int r = fdlist_send(p->fd, p->queue->data, p->queue->bytes, NULL);
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
