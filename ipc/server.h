/* ipc/server.h: the daemon's side of the socket. It decodes, checks, charges and queues; it decides nothing.
 *
 * The server owns listening sockets and connections (peers). What a client sends is untrusted: a packet that breaks
 * protocol.h gets one ERROR and its connection ends; limits on connections, on requests under way and on unread
 * descriptors are charged to the peer and to its uid, and refunded when the peer goes. Decoded requests reach the
 * daemon through `struct ipc_handler`; the daemon answers with ipc_reply_*(), now or later. HELLO is answered here.
 *
 * A connection that does not say HELLO is ended after a while, or when another client needs its place.
 *
 * A reply that the socket cannot take at once is queued on the peer (bounded; PROGRESS is dropped rather than queued);
 * a peer that does not read is disconnected when its queue is full. An answer of any length (LIST) is therefore sent in
 * pieces, as the client reads: while ipc_peer_has_room(), and on in the handler's room().
 *
 * Thread rule: everything on the event loop's thread. Nothing blocks. Bounded turns: each ready peer is served once
 * a turn.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "util/fdlist.h"

struct ipc_server;
struct ipc_peer; /* one connection; valid until the handler's gone() returns */

/* The uid or gid of a client that has none in the daemon's user namespace. To such a one the kernel gives 65534 there,
 * which may be somebody's: where ids are missing at all, 65534 is this too. */
#define IPC_STRANGER 4294967294u

struct ipc_cred {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/* A LOAD as decoded. Pointers are valid during the call. */
struct ipc_load {
    uint32_t flags; /* HEARTH_LOAD_* */
    enum hearth_verify verify;
    const char *ref;
    const char *const *include;
    size_t n_include;
    const char *const *exclude;
    size_t n_exclude;
    const struct ipc_digest {
        const char *path;
        uint8_t sha256[32];
    } * digests;
    size_t n_digests;
    bool seen; /* the client sees this at the reference; links are followed */
    uint64_t seen_device, seen_inode, seen_bytes;
};

struct ipc_handler {
    void (*load)(void *user, struct ipc_peer *p, uint32_t serial, const struct ipc_load *request);
    void (*watch)(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags);
    void (*attach)(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags);
    void (*files)(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, const uint32_t *files, size_t n);
    void (*detach)(void *user, struct ipc_peer *p, uint64_t id);                    /* has no reply */
    void (*want)(void *user, struct ipc_peer *p, const struct hearth_msg_want *m);  /* likewise */
    void (*list)(void *user, struct ipc_peer *p, uint32_t serial, const char *ref); /* "": all */
    void (*status)(void *user, struct ipc_peer *p, uint32_t serial);
    void (*history)(void *user, struct ipc_peer *p, uint32_t serial, const char *ref, uint32_t limit); /* ref: or "" */
    void (*evict)(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags);
    void (*pin)(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags);
    void (*stop)(void *user, struct ipc_peer *p, uint32_t serial);
    void (*cancel)(void *user, struct ipc_peer *p, uint32_t serial); /* of the request to end; has no reply itself */
    /* The connection has ended: forget every wait and lease of this peer. Called exactly once a peer, never from inside
     * an ipc_reply_*() call. */
    void (*gone)(void *user, struct ipc_peer *p);
    /* What ipc_peer_await_room() asked for, once each. */
    void (*room)(void *user, struct ipc_peer *p);
};

/* Zero means the default, but for epoll. */
struct ipc_options {
    unsigned peers_max;         /* connections; default 1024 */
    unsigned peers_max_per_uid; /* default: peers_max for the daemon's own uid and root, else a quarter */
    /* Why a client is not served, or NULL when it is: static text. Called for each connection. NULL: all are. */
    const char *(*refuses)(void *user, int fd, struct ipc_cred cred);
    const char *server_version;               /* "hearthd 0.1.0" for WELCOME; borrowed, static */
    uint64_t mounts, root_device, root_inode; /* for WELCOME; 0: not told */
    const int *epoll;                         /* the event loop's set, read by ipc_server_new; not NULL */
};

/* Errors: NO_MEMORY, NO_FDS, SYSTEM. `handler` is copied. */
int ipc_server_new(const struct ipc_options *options, const struct ipc_handler *handler, void *user,
                   struct ipc_server **out, struct hearth_error *err);
/* Ends all connections (gone() is called for each), removes the socket file it made. Returns NULL. */
struct ipc_server *ipc_server_free(struct ipc_server *s);

/* Makes and listens on a socket file with this mode, with PATH.lock beside it; the server's end removes both. A stale
 * socket (nobody answers) is replaced; a living one is refused. One listener a server. It sets the umask, which is the
 * whole process's, for a moment: call it before there are other threads that make files. Errors: BUSY (another daemon
 * has it), DENIED, NOT_FOUND (no such directory), INVALID (path too long, relative, or taken by another file). */
int ipc_server_listen(struct ipc_server *s, const char *path, mode_t mode, struct hearth_error *err);
/* Takes over a listening socket (socket activation); on failure it stays the caller's. Errors: INVALID when it is not a
 * listening SOCK_SEQPACKET. */
int ipc_server_adopt(struct ipc_server *s, int fd, struct hearth_error *err);
/* The path clients connect to. Owned by the server. */
const char *ipc_server_path(const struct ipc_server *s);

/* The server puts its descriptors into the event loop's epoll set. This serves one of their events, whose data.ptr the
 * server put there; and ends a turn, once all the events of one wait have been served. A set of its own inside of that
 * would cost two calls a request, and let the scheduler take the daemon to another CPU than its client's: the kernel
 * passes on the hint that the waker is about to sleep for one level only. */
struct epoll_event;
void ipc_server_event(struct ipc_server *s, const struct epoll_event *event);
void ipc_server_turn(struct ipc_server *s);
unsigned ipc_server_peers(const struct ipc_server *s);
/* How many ERRORs of this code have been sent, or would have been had there been somebody to read them. */
uint64_t ipc_server_errors(const struct ipc_server *s, enum hearth_code code);

struct ipc_cred ipc_peer_cred(const struct ipc_peer *p);
/* For what the kernel says about the other end. Owned by the peer. */
int ipc_peer_fd(const struct ipc_peer *p);
/* What the client called itself in HELLO, made printable. Owned by the peer. */
const char *ipc_peer_name(const struct ipc_peer *p);
/* A pointer of the daemon's own. */
void ipc_peer_set_data(struct ipc_peer *p, void *data);
void *ipc_peer_data(const struct ipc_peer *p);

/* True while the client has all that was sent to it, or the socket holds it: nothing is queued. */
bool ipc_peer_has_room(const struct ipc_peer *p);
/* Has room() called in a later turn, when that is so and the socket takes more; never for a peer that is to end. */
void ipc_peer_await_room(struct ipc_peer *p);

/* Replies. Each final reply ends the request `serial`. If the peer is already doomed they do nothing. */
void ipc_reply_error(struct ipc_peer *p, uint32_t serial, const struct hearth_error *err);
void ipc_reply_info(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref);
void ipc_reply_progress(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref);
/* One INFO of a LIST: not final. */
void ipc_reply_item(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref);
/* One PAST of a HISTORY: not final. */
void ipc_reply_past(struct ipc_peer *p, uint32_t serial, int64_t ended_ns, const struct hearth_msg_info *info,
                    const char *ref, const struct hearth_error *err);
void ipc_reply_done(struct ipc_peer *p, uint32_t serial, uint64_t count);
/* The texts of a STATUS_REPLY; NULL is "". */
struct ipc_status_texts {
    const char *version, *socket, *reader, *direct_io, *backing, *configuration, *swap, *state, *stalled;
};
void ipc_reply_status(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_status_reply *fixed,
                      const struct ipc_status_texts *texts);
/* The peer's last ERROR, with serial 0; then it is hung up on. */
void ipc_peer_dismiss(struct ipc_peer *p, const struct hearth_error *err);
/* fds are borrowed: the caller closes them afterwards. True when they are on their way. Else the client is told BUSY,
 * because it has not read what it was sent, or is gone; and what was taken for this reply (a lease) is the caller's to
 * give back. */
bool ipc_reply_attached(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_attached *m,
                        const struct fdlist *fds);
bool ipc_reply_fds(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_fds *m, const struct fdlist *fds);
