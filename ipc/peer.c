/* ipc/peer.c: one connection: receiving, sending, ending.
 *
 * A peer that is to end is *doomed*: it gets nothing any more, and is freed at the end of the turn, never from inside a
 * reply. So the daemon can answer ten peers in a loop, and none of them vanishes under its hands.
 *
 * Descriptors on their way to a client count against our own limit until it receives them (ETOOMANYREFS for everybody
 * when one never does). SIOCOUTQ tells when a peer has received all that was sent.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"

/* Packets that a doomed peer may have sent and nobody read: closing on them would hide our last word from it. */
#define DRAIN_MAX 64

struct ipc_peer *peer_new(struct ipc_server *s, int fd, struct ipc_cred cred) {
    struct ipc_peer *p = calloc(1, sizeof(*p));
    struct account *account = p ? account_enter(&s->accounts, cred.uid) : NULL;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = p};
    if (!account || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        account_leave(&s->accounts, account);
        free(p);
        close_fd(fd);
        return NULL;
    }
    *p = (struct ipc_peer){.server = s, .fd = fd, .cred = cred, .account = account, .next = s->peers};
    p->queue_end = &p->queue;
    if (s->peers)
        s->peers->previous = p;
    s->peers = p;
    s->n_peers++;
    return p;
}

static void drop_first(struct ipc_peer *p) {
    struct ipc_packet *packet = p->queue;
    p->queue = packet->next;
    if (!p->queue)
        p->queue_end = &p->queue;
    p->queued--;
    p->queued_bytes -= packet->bytes;
    p->account->queued_bytes -= packet->bytes;
    free(packet);
}

static void refund_fds(struct ipc_peer *p) {
    p->account->unread_fds -= p->unread_fds;
    p->unread_fds = 0;
}

void peer_free(struct ipc_peer *p) {
    struct ipc_server *s = p->server;
    s->handler.gone(s->user, p);
    while (p->queue)
        drop_first(p);
    refund_fds(p);
    p->account = account_leave(&s->accounts, p->account);
    if (p->previous)
        p->previous->next = p->next;
    else
        s->peers = p->next;
    if (p->next)
        p->next->previous = p->previous;
    s->n_peers--;
    char byte;
    for (int i = 0; i < DRAIN_MAX && recv(p->fd, &byte, 1, MSG_DONTWAIT) > 0; i++)
        ;
    close_fd(p->fd);
    free(p);
}

void peer_doom(struct ipc_peer *p) {
    if (p->doomed)
        return;
    p->doomed = true;
    if (!p->server->any_doomed) {
        p->server->any_doomed = true;
        eventfd_write(p->server->wake, 1); /* in case nobody is in dispatch */
    }
}

void peer_refuse(struct ipc_peer *p, uint32_t serial, enum hearth_code code, const char *message) {
    struct hearth_error err;
    error_set(&err, code, "%s", message);
    log_notice("ended a connection: %s (uid %u, pid %d)", message, (unsigned)p->cred.uid, (int)p->cred.pid);
    wire_error(&p->server->out, serial, &err);
    peer_send(p, false);
    peer_doom(p);
}

static void ask_for_output(struct ipc_peer *p, bool wanted) {
    if (p->wants_output == wanted)
        return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (wanted ? (uint32_t)EPOLLOUT : 0), .data.ptr = p};
    if (epoll_ctl(p->server->epoll, EPOLL_CTL_MOD, p->fd, &event) < 0)
        peer_doom(p);
    p->wants_output = wanted;
}

static void enqueue(struct ipc_peer *p, const struct wire_out *w) {
    if (p->queued >= QUEUE_PACKETS_MAX || p->queued_bytes + w->used > QUEUE_BYTES_MAX ||
        p->account->queued_bytes + w->used > QUEUE_BYTES_UID_MAX) {
        log_notice("ended a connection: it does not read its replies (uid %u, pid %d)", (unsigned)p->cred.uid,
                   (int)p->cred.pid);
        peer_doom(p);
        return;
    }
    struct ipc_packet *packet = malloc(sizeof(*packet) + w->used);
    if (!packet) {
        peer_doom(p);
        return;
    }
    packet->next = NULL;
    packet->bytes = w->used;
    memcpy(packet->data, w->buffer, w->used);
    *p->queue_end = packet;
    p->queue_end = &packet->next;
    p->queued++;
    p->queued_bytes += packet->bytes;
    p->account->queued_bytes += packet->bytes;
    ask_for_output(p, true);
}

void peer_send(struct ipc_peer *p, bool droppable) {
    const struct wire_out *w = &p->server->out;
    if (p->doomed)
        return;
    if (!p->queue) {
        int r = fdlist_send(p->fd, w->buffer, w->used, NULL);
        if (r == 0)
            return;
        if (r != -EAGAIN && r != -ENOBUFS) {
            peer_doom(p);
            return;
        }
    }
    if (!droppable)
        enqueue(p, w);
}

/* Whether this peer, and its user, may have `more` descriptors under way. */
static bool may_send_fds(struct ipc_peer *p, unsigned more) {
    int unread = 0;
    if (p->unread_fds > 0 && ioctl(p->fd, SIOCOUTQ, &unread) == 0 && unread == 0)
        refund_fds(p);
    return p->unread_fds + more <= UNREAD_FDS_MAX && p->account->unread_fds + more <= p->server->unread_fds_uid_max;
}

int peer_send_fds(struct ipc_peer *p, const struct fdlist *fds) {
    const struct wire_out *w = &p->server->out;
    if (p->doomed)
        return 0;
    /* Never queued: they would be held twice, and a client that reads has room. */
    if (p->queue || !may_send_fds(p, (unsigned)fds->count))
        return -EBUSY;
    int r = fdlist_send(p->fd, w->buffer, w->used, fds);
    if (r == -EAGAIN || r == -ENOBUFS)
        return -EBUSY;
    if (r == -ETOOMANYREFS)
        return r;
    if (r < 0) {
        peer_doom(p);
        return 0;
    }
    p->unread_fds += (unsigned)fds->count;
    p->account->unread_fds += (unsigned)fds->count;
    return 0;
}

static void flush(struct ipc_peer *p) {
    while (p->queue && !p->doomed) {
        int r = fdlist_send(p->fd, p->queue->data, p->queue->bytes, NULL);
        if (r == -EAGAIN || r == -ENOBUFS)
            return;
        if (r < 0)
            peer_doom(p);
        else
            drop_first(p);
    }
    ask_for_output(p, false);
}

static void receive(struct ipc_peer *p) {
    struct ipc_server *s = p->server;
    struct fdlist fds;
    fds.count = 0;
    long n = fdlist_receive(p->fd, s->in, sizeof(s->in), &fds);
    bool sent_fds = fds.count > 0 || n == -EMFILE;
    fdlist_deinit(&fds);
    const char *why = "the packet is larger than the protocol allows";
    if (n == -EAGAIN)
        return;
    if (sent_fds)
        peer_refuse(p, 0, HEARTH_E_PROTOCOL, "clients must not send file descriptors");
    else if (n == -EMSGSIZE || (n > 0 && !decode(p, (size_t)n, &why)))
        peer_refuse(p, 0, HEARTH_E_PROTOCOL, why);
    else if (n <= 0)
        peer_doom(p); /* it hung up */
}

void peer_serve(struct ipc_peer *p, uint32_t events) {
    if (p->doomed)
        return;
    if (events & EPOLLOUT)
        flush(p);
    if (events & EPOLLIN)
        receive(p); /* one packet a turn: fair to all */
    else if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        peer_doom(p);
}

struct ipc_cred ipc_peer_cred(const struct ipc_peer *p) {
    return p->cred;
}
const char *ipc_peer_name(const struct ipc_peer *p) {
    return p->name;
}
void ipc_peer_set_data(struct ipc_peer *p, void *data) {
    p->data = data;
}
void *ipc_peer_data(const struct ipc_peer *p) {
    return p->data;
}
