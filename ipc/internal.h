/* ipc/internal.h: what the files of ipc/ share. */
#pragma once

#include "ipc/account.h"
#include "ipc/server.h"
#include "util/wire.h"

#define REQUESTS_MAX 64u                           /* of one peer, unanswered */
#define QUEUE_PACKETS_MAX 16384u                   /* replies waiting for one peer: a long LIST fits */
#define QUEUE_BYTES_MAX ((size_t)8 << 20)          /* of one peer */
#define QUEUE_BYTES_UID_MAX ((size_t)64 << 20)     /* of all peers of one uid */
#define UNREAD_FDS_MAX (2 * HEARTH_PACKET_FDS_MAX) /* of one peer */
#define LISTS_MAX 1024u                            /* entries of a list in a request */
#define STRINGS_BYTES (HEARTH_PACKET_MAX + 2 * LISTS_MAX + HEARTH_PACKET_MAX / 8)

struct ipc_packet {
    struct ipc_packet *next;
    size_t bytes;
    uint8_t data[];
};

struct ipc_peer {
    struct ipc_server *server;
    struct ipc_peer *next, *previous;
    struct account *account;
    int fd;
    struct ipc_cred cred;
    bool greeted;      /* HELLO has been answered */
    bool doomed;       /* ends at the end of this turn; nothing is sent any more */
    bool wants_output; /* EPOLLOUT is asked for */
    unsigned requests; /* unanswered */
    unsigned unread_fds;
    struct ipc_packet *queue, **queue_end;
    unsigned queued;
    size_t queued_bytes;
    void *data;
    char name[64];
};

/* Where lists of strings of one request are unpacked to. */
struct ipc_scratch {
    const char *include[LISTS_MAX], *exclude[LISTS_MAX];
    struct ipc_digest digests[LISTS_MAX];
    char strings[STRINGS_BYTES];
};

struct ipc_server {
    struct ipc_options options;
    struct ipc_handler handler;
    void *user;
    int epoll;
    int wake;    /* eventfd: a peer was doomed outside of dispatch */
    int pause;   /* timerfd: accept again */
    int reserve; /* a descriptor to give up when the table is full */
    int listener;
    char path[108];
    bool remove_path; /* the socket file is ours */
    dev_t device;
    ino_t inode;
    bool any_doomed;
    struct ipc_peer *peers;
    unsigned n_peers;
    struct account *accounts;
    unsigned unread_fds_uid_max;
    struct wire_out out;         /* the packet being built */
    struct ipc_scratch *scratch; /* made with the first LOAD */
    _Alignas(8) uint8_t in[HEARTH_PACKET_MAX];
};

/* ---- listen.c ---- */
void listen_remove(struct ipc_server *s);
/* Accepts a bounded number of connections. */
void listen_accept(struct ipc_server *s);
void listen_resume(struct ipc_server *s);

/* ---- peer.c ---- */
/* Takes the fd over. NULL without memory, the fd closed. */
struct ipc_peer *peer_new(struct ipc_server *s, int fd, struct ipc_cred cred);
/* Only from dispatch or the server's end. */
void peer_free(struct ipc_peer *p);
void peer_doom(struct ipc_peer *p);
/* Serves one event of the peer's socket. */
void peer_serve(struct ipc_peer *p, uint32_t events);
/* Sends or queues server->out. */
void peer_send(struct ipc_peer *p, bool droppable);
/* Sends server->out with descriptors, now or never. 0, or -EBUSY, -ETOOMANYREFS: answer with an error instead. */
int peer_send_fds(struct ipc_peer *p, const struct fdlist *fds);
/* One ERROR, then the end of the connection. */
void peer_refuse(struct ipc_peer *p, uint32_t serial, enum hearth_code code, const char *message);

/* ---- decode.c ---- */
/* Decodes one packet and hands it to the handler. False when it breaks the protocol: `*why` says how. */
bool decode(struct ipc_peer *p, size_t bytes, const char **why);
