/* ipc/client/client.h: libhearth inside.
 *
 * A connection sends requests and matches replies to them by serial. There is one way in for packets (connection_turn)
 * and everything stands on it: a blocking call starts a request and takes turns until it is finished or its deadline
 * has passed; hearth_dispatch takes turns while there is something to read. So a server's own loop and blocking calls
 * mix.
 *
 * A request is a struct of its caller: on the stack of a blocking call, on the heap for hearth_load_start. It is in
 * h->requests from its start until its final reply, its deadline or the connection's end. A packet whose serial is not
 * there (any more) is a late reply: it and its descriptors are dropped, and a lease it brings is given back.
 *
 * User callbacks run in the middle of a turn and may start requests, even blocking ones. Hence three rules: whoever
 * calls a callback touches neither the packet nor the request afterwards; it hands the callback nothing that lies in a
 * request under way, which may end and be freed in the meantime; and what is sent is built after the last turn.
 *
 * At most one request whose reply carries descriptors is under way (protocol.h: read them before you ask for more).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include <hearth/hearth.h>
#include <hearth/progress.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/fdlist.h"
#include "util/wire.h"

enum taken {
    TAKEN_PART,  /* PROGRESS, or an item of a list */
    TAKEN_FINAL, /* the request is answered */
    TAKEN_WRONG, /* no reply to this request: the connection cannot be trusted any more */
};

struct request {
    struct request *next;
    uint32_t serial;
    bool brings_fds;  /* its reply carries descriptors */
    bool cancellable; /* a LOAD or WATCH: goes on in the daemon unless it is told otherwise */
    bool finished;
    int code;                 /* when finished: 0 or a hearth_code */
    struct hearth_error *err; /* where its error goes; may be NULL */
    /* Takes a reply that is not an ERROR. With TAKEN_FINAL it has called no callback. May take descriptors. */
    enum taken (*take)(struct request *r, const struct wire_in *in, struct fdlist *fds);
    /* Called once, last, when an asynchronous request is finished; frees it. NULL for blocking calls. */
    void (*done)(struct request *r, const struct hearth_error *err);
};

/* A DETACH of an artifact, or a CANCEL of a request: has no reply. */
struct farewell {
    enum hearth_msg_type type;
    uint64_t what;
};

struct hearth {
    int fd;
    pid_t pid; /* who may use it: not a child */
    uint32_t last_serial;
    uint32_t fds_serial;        /* of the request whose descriptors have not come yet, abandoned or not; 0: none */
    int64_t receive_us;         /* SO_RCVTIMEO as it is set; 0: none */
    uintptr_t map_floor;        /* where the last aligned mapping begins; 0: none yet */
    struct farewell *farewells; /* to be sent once the socket takes packets again */
    size_t n_farewells, farewells_room;
    struct request *requests;
    struct hearth_artifact *artifacts;
    struct hearth_error dead; /* with a code: why nothing can be asked any more */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    uint64_t mounts, root_device, root_inode; /* of the daemon's paths, by its WELCOME */
    struct wire_out out;
    _Alignas(8) uint8_t in[HEARTH_PACKET_MAX];
};

/* ---- connection.c: packets in and out ---- */

/* Receives and handles one packet, waiting for it until `deadline` (0: not at all). 0; HEARTH_E_TIMEOUT when none came;
 * else the connection is dead and the code says why. */
int connection_turn(struct hearth *h, uint64_t deadline, struct hearth_error *err);
/* Sends the packet in h->out, waiting until `deadline` if the socket is full. Takes turns, and so calls back, only when
 * the daemon has hung up: what it sent before may say why, and the connection is dead afterwards. */
int connection_send(struct hearth *h, uint64_t deadline, struct hearth_error *err);
/* Gives a lease (DETACH, an id) or a request (CANCEL, a serial) up, now or as soon as the socket takes it. Never waits,
 * never fails. */
void connection_give_up(struct hearth *h, enum hearth_msg_type type, uint64_t what);
/* Ends the connection: no request will be answered. */
void connection_kill(struct hearth *h, const struct hearth_error *why);
/* The error of a deadline that has passed. */
int connection_late(const struct hearth *h, struct hearth_error *err);
/* 0 while it lives, else why not. */
int connection_dead(const struct hearth *h, struct hearth_error *err);

/* ---- hub.c: the caller's Hugging Face cache ---- */

#define HUB_PREFIX "hf/"
/* The path of the snapshot that an argument with this prefix means. Errors: INVALID, NOT_FOUND. */
int hub_reference(const char *argument, char *out, size_t size, struct hearth_error *err);

/* ---- request.c: requests and their replies ---- */

/* To be called before a request is built: refuses a dead connection and a forked child; where r brings descriptors,
 * waits until earlier ones have been received. */
int request_ready(struct hearth *h, const struct request *r, uint64_t deadline, struct hearth_error *err);
/* Begins the packet of r in h->out. Returns its zeroed fixed struct. */
void *request_begin(struct hearth *h, struct request *r, enum hearth_msg_type type, size_t fixed_bytes);
/* Sends it. From now on r is under way, unless this fails. */
int request_start(struct hearth *h, struct request *r, uint64_t deadline, struct hearth_error *err);
/* Sends it and waits for the end. */
int request_call(struct hearth *h, struct request *r, uint64_t deadline, struct hearth_error *err);
/* Hands one received packet to its request. HEARTH_E_PROTOCOL when it is not allowed. */
int request_handle(struct hearth *h, size_t bytes, struct fdlist *fds, bool lost, struct hearth_error *err);
/* Finishes whatever is under way with this error. */
void request_fail_all(struct hearth *h, const struct hearth_error *why);
/* Frees what is under way without calling back: for a forked child. */
void request_forget_all(struct hearth *h);
/* The serial of what has no reply. */
uint32_t request_serial(struct hearth *h);
/* The error of a forked child. */
int request_not_ours(const struct hearth *h, struct hearth_error *err);
/* A `take` for requests that are answered by DONE. */
enum taken request_take_done(struct request *r, const struct wire_in *in, struct fdlist *fds);

/* ---- admin.c ---- */

/* The fixed struct and reference of an INFO or PROGRESS. */
bool info_decode(const struct wire_in *in, struct hearth_info *out);

/* ---- artifact.c, map.c, index.c: attached artifacts ---- */

struct mapped_index {
    const struct hearth_index_header *header;
    size_t map_bytes;
    const struct hearth_index_file *files;
    const struct hearth_index_tensor *tensors;
    const uint64_t *dims;
    const char *strings;
    size_t n_files, n_tensors, n_dims, n_strings;
};

/* The progress page of an artifact that was attached while it loaded; all 0 for others. */
struct mapped_progress {
    const struct hearth_progress_header *header; /* NULL: it was resident */
    const struct hearth_progress_file *files;
    size_t map_bytes;
    int index_fd;         /* the index's: to see that it was sealed in the end */
    bool speculative;     /* bytes that are not proven will do */
    atomic_bool resident; /* seen to be so, and sealed */
};

struct hearth_artifact {
    struct hearth *h;
    struct hearth_artifact *next, **previous;
    uint64_t id;
    struct mapped_index index;
    struct mapped_progress progress;
    struct mapped_file {
        int fd;             /* -1: not fetched */
        bool checked;       /* sealed (while it fills, against others), and as long as the index says */
        uint64_t map_bytes; /* of the memfd; on hugetlb more than the file's */
        const void *map;    /* NULL: not mapped */
    } files[];
};

/* Maps and checks an index. The caller keeps the fd. */
int index_map(int fd, int seals, struct mapped_index *out, struct hearth_error *err);
void index_unmap(struct mapped_index *index);
/* The number of a file; the search begins at number `start`. */
int index_find_file(const struct hearth_artifact *a, const char *path, size_t start, size_t *out,
                    struct hearth_error *err);
int index_find_tensor(const struct hearth_artifact *a, const char *file, const char *name, size_t *out,
                      struct hearth_error *err);
/* Everything of a tensor but its data. */
int index_tensor_at(const struct hearth_artifact *a, size_t i, struct hearth_tensor *out, struct hearth_error *err);

/* Checks that `fd` is a memfd with SEALS_FINAL, so that it can never change nor shrink; with SEALS_FILLING for `seals`
 * those will do, so that only the daemon can change it. Sets *bytes to its size. */
int map_check_seals(int fd, int seals, uint64_t *bytes, struct hearth_error *err);
/* Checks the descriptor of a file, once. */
int map_check_file(struct hearth_artifact *a, size_t file, struct hearth_error *err);
/* Checks and maps a file whose descriptor is here. */
int map_file(struct hearth_artifact *a, size_t file, const void **out, struct hearth_error *err);
void map_release(struct hearth_artifact *a, size_t file);
/* Makes sure that the descriptor of a file is here and checked. */
int artifact_need_file(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err);

/* ---- stream.c: artifacts that are attached while they load ---- */

/* Maps the progress page. The caller keeps both fds, and calls stream_end() also after an error. */
int stream_begin(struct hearth_artifact *a, int index_fd, int page_fd, bool speculative, struct hearth_error *err);
void stream_end(struct hearth_artifact *a);
/* How the load stands: its error if it has failed; else whether it is over. */
int stream_look(const struct hearth_artifact *a, bool *resident, struct hearth_error *err);
/* True when the bytes are there and may be used, as far as the page says: stream_look() after it. */
bool stream_has(const struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length);
/* Waits for that. The range lies inside of the file; STREAM_WHOLE: until all is resident. */
#define STREAM_WHOLE SIZE_MAX
int stream_wait(struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length, uint64_t deadline,
                struct hearth_error *err);
