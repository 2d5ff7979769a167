/* ipc/peer.c: one connection: its life, and what it sends.
 *
 * A peer that is to end is *doomed*: it gets nothing any more, and is freed at the end of the turn, never from inside a
 * reply. So the daemon can answer ten peers in a loop, and none of them vanishes under its hands. One that broke the
 * protocol is doomed once its last ERROR has left the queue.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"

struct ipc_peer *peer_new(struct ipc_server *s, int fd, struct ipc_cred cred) {
    struct ipc_peer *p = calloc(1, sizeof(*p));
    struct account *account = p ? account_enter(&s->accounts, cred.uid) : NULL;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = p};
    if (!account || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        account_leave(&s->accounts, account);
        free(p);
        return NULL;
    }
    *p = (struct ipc_peer){
        .server = s, .fd = fd, .cred = cred, .account = account, .next = s->peers, .events = event.events};
    p->queue_end = &p->queue;
    if (s->peers)
        s->peers->previous = p;
    s->peers = p;
    s->n_peers++;
    silent_add(p);
    return p;
}

/* Closing a Unix socket with unread packets in it resets the connection: the client's next receive is ECONNRESET, and
 * our last word comes behind that or is never read. So nothing more is let in, and what is there is dropped. */
void hang_up(int fd) {
    char byte;
    shutdown(fd, SHUT_RD);
    while (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) > 0)
        ;
    close_fd(fd);
}

void peer_free(struct ipc_peer *p) {
    struct ipc_server *s = p->server;
    s->handler.gone(s->user, p);
    send_forget(p);
    silent_remove(p);
    while (p->requests > 0)
        peer_answered(p);
    p->account = account_leave(&s->accounts, p->account);
    if (p->previous)
        p->previous->next = p->next;
    else
        s->peers = p->next;
    if (p->next)
        p->next->previous = p->previous;
    s->n_peers--;
    /* Closing alone does not end the watch while a child between fork and exec still has the descriptor: epoll would
     * report a peer that is freed. */
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, p->fd, NULL);
    hang_up(p->fd);
    free(p);
}

void peer_doom(struct ipc_peer *p) {
    if (p->doomed)
        return;
    p->doomed = true;
    silent_remove(p);
    if (!p->server->any_doomed) {
        p->server->any_doomed = true;
        eventfd_write(p->server->wake, 1); /* in case no turn is under way */
    }
}

static void refuse(struct ipc_peer *p, uint32_t serial, const struct hearth_error *err) {
    count_error(p->server, err->code);
    if (log_may(&p->server->log_limit))
        log_notice("ended a connection: %s (uid %u, pid %d)", err->message, (unsigned)p->cred.uid, (int)p->cred.pid);
    wire_error(&p->server->out, serial, err);
    send_packet(p, SEND_QUEUED);
    p->closing = true;
    if (p->queue)
        send_watch(p);
    else
        peer_doom(p);
}

void peer_refuse(struct ipc_peer *p, uint32_t serial, enum hearth_code code, const char *message) {
    struct hearth_error err;
    error_set(&err, code, "%s", message);
    refuse(p, serial, &err);
}

void ipc_peer_dismiss(struct ipc_peer *p, const struct hearth_error *err) {
    if (!p->doomed && !p->closing)
        refuse(p, 0, err);
}

void peer_asked(struct ipc_peer *p) {
    p->requests++;
    p->account->requests++;
}

void peer_answered(struct ipc_peer *p) {
    if (p->requests == 0)
        return;
    p->requests--;
    p->account->requests--;
}

static void receive(struct ipc_peer *p, bool ended) {
    struct ipc_server *s = p->server;
    struct fdlist fds;
    fds.count = 0; /* the rest of it need not be zeroed */
    long n = fdlist_receive(p->fd, s->in, sizeof(s->in), &fds);
    bool sent_fds = fds.count > 0 || n == -EMFILE;
    const char *why = NULL;
    fdlist_deinit(&fds);
    if (n == -EAGAIN)
        return;
    if (sent_fds)
        why = "clients must not send file descriptors"; /* kernels with SO_PASSRIGHTS stop them at the client */
    else if (n == -EMSGSIZE)
        why = "the packet is larger than the protocol allows";
    else if (n == 0 && !ended)
        why = "the packet is empty";
    else if (n > 0 && decode(p, (size_t)n, &why))
        return;
    if (why)
        peer_refuse(p, 0, HEARTH_E_PROTOCOL, why);
    else
        peer_doom(p); /* it hung up */
}

void peer_serve(struct ipc_peer *p, uint32_t events) {
    if (events & EPOLLOUT && !p->doomed)
        send_flush(p);
    if (p->doomed)
        return;
    if (events & EPOLLIN && !p->closing)
        receive(p, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)); /* one packet a turn: fair to all */
    else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        peer_doom(p);
}

bool ipc_peer_has_room(const struct ipc_peer *p) {
    return !p->queue && !p->closing && !p->doomed;
}
void ipc_peer_await_room(struct ipc_peer *p) {
    p->awaits_room = true;
    send_watch(p);
}
struct ipc_cred ipc_peer_cred(const struct ipc_peer *p) {
    return p->cred;
}
int ipc_peer_fd(const struct ipc_peer *p) {
    return p->fd;
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
