/* ipc/internal.h: what the files of ipc/ share. */
#pragma once

#include <sys/queue.h>
#include <sys/un.h>

#include "ipc/account.h"
#include "ipc/server.h"
#include "util/log.h"
#include "util/wire.h"

#define REQUESTS_MAX 64u                           /* of one peer, unanswered */
#define REQUESTS_UID_MAX 4096u                     /* of all peers of one uid */
#define QUEUE_PACKETS_MAX 16384u                   /* replies waiting for one peer */
#define QUEUE_BYTES_MAX ((size_t)8 << 20)          /* of one peer */
#define QUEUE_BYTES_UID_MAX ((size_t)64 << 20)     /* of all peers of one uid */
#define UNREAD_FDS_MAX (2 * HEARTH_PACKET_FDS_MAX) /* of one peer */
/* Every string of a packet, each with its NUL: the reference, and the entries of three lists. */
#define STRINGS_BYTES (HEARTH_PACKET_MAX + 1 + 3 * HEARTH_LIST_MAX)

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
    bool silent;       /* HELLO has not come */
    bool closing;      /* has its last ERROR in the queue, is not heard any more, and is doomed once that is sent */
    bool doomed;       /* ends at the end of this turn; nothing is sent any more */
    bool awaits_room;  /* the handler's room() is to be called */
    unsigned requests; /* unanswered */
    unsigned unread_fds;
    uint64_t unread_ns; /* a suspect: since when it has read nothing; 0: none */
    int unread_bytes;   /* of a suspect: what it had not read then, or after the last send */
    uint32_t events;    /* that epoll watches for */
    uint64_t since_ns;  /* when it was accepted */
    TAILQ_ENTRY(ipc_peer) silent_link;
    struct ipc_packet *queue, **queue_end;
    unsigned queued;
    size_t queued_bytes; /* of memory: struct ipc_packet included */
    void *data;
    char name[64];
};

/* Where lists of strings of one request are unpacked to. */
struct ipc_scratch {
    const char *include[HEARTH_LIST_MAX], *exclude[HEARTH_LIST_MAX];
    struct ipc_digest digests[HEARTH_LIST_MAX];
    char strings[STRINGS_BYTES];
};

struct ipc_server {
    struct ipc_options options;
    struct ipc_handler handler;
    void *user;
    int epoll;
    int wake;    /* eventfd: a peer was doomed outside of a turn */
    int pause;   /* timerfd: accept again */
    int hello;   /* timerfd: somebody has been silent for too long */
    int reserve; /* a descriptor to give up when the table is full */
    int listener;
    int lock;                                                   /* PATH.lock */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1]; /* an adopted one may come without its NUL */
    bool remove_path;                                           /* the socket file is ours: this one */
    dev_t device;
    ino_t inode;
    bool any_doomed;
    struct ipc_peer *peers;
    unsigned n_peers;
    TAILQ_HEAD(, ipc_peer) silent; /* those of them that have not said HELLO, oldest first */
    uint64_t hello_ns;             /* what they have for it */
    bool hello_on;                 /* the timer */
    struct account *accounts;
    bool strangers; /* some users have no id in our user namespace */
    unsigned unread_fds_uid_max;
    uint64_t errors[HEARTH_E_PARSER + 1]; /* sent, by code */
    struct log_limit log_limit;           /* of what clients can have logged as often as they like */
    uint64_t unread_ns_max;               /* how long who holds what others need may read nothing */
    struct wire_out out;                  /* the packet being built: one for all, as nothing recurses */
    struct ipc_scratch *scratch;          /* made with the first LOAD */
    _Alignas(8) uint8_t in[HEARTH_PACKET_MAX];
};

/* ---- server.c ---- */
void count_error(struct ipc_server *s, enum hearth_code code);

/* ---- listen.c ---- */
void listen_remove(struct ipc_server *s);

/* ---- accept.c ---- */
/* False where our user namespace has an id for everybody. */
bool accept_has_strangers(void);
/* Accepts a bounded number of connections. */
void accept_some(struct ipc_server *s);
/* The pause is over. */
void accept_resume(struct ipc_server *s);

/* ---- silent.c ---- */
void silent_add(struct ipc_peer *p);
/* It has said HELLO, or ends. May run twice. */
void silent_remove(struct ipc_peer *p);
/* Ends the one of this user that has been silent for longest, so that another has its place once this turn is over.
 * False: there is none. */
#define ANY_UID ((uid_t)-1)
bool silent_make_room(struct ipc_server *s, uid_t uid);
/* The timer has come. */
void silent_expire(struct ipc_server *s);

/* ---- peer.c ---- */
/* Takes the fd over, unless there is no memory: NULL then. */
struct ipc_peer *peer_new(struct ipc_server *s, int fd, struct ipc_cred cred);
/* Only from a turn or the server's end. */
void peer_free(struct ipc_peer *p);
void peer_doom(struct ipc_peer *p);
/* Serves one event of the peer's socket. */
void peer_serve(struct ipc_peer *p, uint32_t events);
/* One ERROR, then the end of the connection. */
void peer_refuse(struct ipc_peer *p, uint32_t serial, enum hearth_code code, const char *message);
/* A request is under way, or has its final reply. */
void peer_asked(struct ipc_peer *p);
void peer_answered(struct ipc_peer *p);
/* Ends a connection so that the client reads what was sent to it last. */
void hang_up(int fd);

/* ---- send.c ---- */
/* What to do with a packet that the socket does not take at once. */
enum send_mode { SEND_QUEUED, SEND_DROPPABLE };
/* Sends or queues server->out. */
void send_packet(struct ipc_peer *p, enum send_mode mode);
/* Charges a packet with so many descriptors, before it is built; may end other peers for it. 0, or -EBUSY: the client
 * has not read those it has; -EAGAIN: it has not read its replies; -EDQUOT: its user's clients have not read theirs. */
int send_charge_fds(struct ipc_peer *p, unsigned count);
/* Sends server->out with the descriptors that were charged, now or never. 0 when it is sent or nobody is there any
 * more, else they are refunded: -EAGAIN, as above; -ETOOMANYREFS: nobody has read theirs. */
int send_fds(struct ipc_peer *p, const struct fdlist *fds);
/* Sends what is queued. */
void send_flush(struct ipc_peer *p);
/* Refunds what the peer still holds. */
void send_forget(struct ipc_peer *p);
/* Watches for what the peer's state needs. */
void send_watch(struct ipc_peer *p);

/* ---- decode.c ---- */
/* Decodes one packet and hands it to the handler. False when it breaks the protocol: `*why` says how. */
bool decode(struct ipc_peer *p, size_t bytes, const char **why);
