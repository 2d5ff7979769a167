/* daemon/generation.h: one generation of an artifact, as a value: what is known of it, and who waits for it.
 *
 * Its fields are read by everybody and written alone by the files that daemon/life.h names, which make all the steps of
 * its life; the spare descriptors are daemon/handout.c's.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "daemon/budget.h"
#include "daemon/resolve.h"
#include "daemon/store.h"
#include "loader/loader.h"

struct artifacts;

/* A request that waits for the end of a load. */
struct waiter {
    TAILQ_ENTRY(waiter) link;
    void *client; /* whose it is */
    uid_t uid;    /* whose client: 0 for the daemon's own user and root */
    uint32_t serial;
    bool progress;        /* wants PROGRESS */
    bool no_wait;         /* is answered as soon as the load has its id */
    bool background;      /* is in no hurry: what others wait for goes first */
    bool pin;             /* wants it pinned */
    bool all;             /* follows every artifact */
    bool evicts;          /* asked for the eviction: is answered when the memory has come back */
    uint32_t attach;      /* HEARTH_ATTACH_*: wants to attach it as soon as it can be streamed */
    bool shared;          /* found it resident, or joined a load under way */
    bool found_resident;  /* of those, the first */
    uint64_t start_ns;    /* when the request came */
    uint64_t progress_ns; /* when it was last told */
    struct hearth_span resolve;
};

/* Descriptors made ready for the next reply: slot 0 is the index, slot i + 1 is file i. */
#define SPARES_PER_GENERATION HEARTH_PACKET_FDS_MAX
struct spares {
    int *fds; /* NULL: none yet */
    unsigned count;
    TAILQ_ENTRY(generation) recent;
    bool listed, due;
};

struct generation {
    struct artifacts *artifacts;
    LIST_ENTRY(generation) bucket; /* by id */
    TAILQ_ENTRY(generation) link;  /* all, oldest first */
    TAILQ_ENTRY(generation) used;  /* RESIDENT: all of those, the least recently used first */
    uint64_t id;
    uid_t owner;     /* whose request began it (daemon/share.h) */
    uint64_t number; /* in the order in which they are made, from 1 on */
    enum hearth_state state;
    bool stale;      /* a file on disk is no longer what was loaded */
    bool superseded; /* the same files are resident, verified at least as well */
    bool ending;     /* cancelled, and its load has not ended yet; or dropped, and its memory has not come back yet */
    bool retiring;   /* the engine's threads give its memory back */
    bool held;       /* dropped, but clients hold some of it */
    bool keep;       /* it loads on although nobody waits */
    bool pinned;     /* is not to be evicted */
    bool preload;    /* nobody asked for it but the configuration, or a pin of an earlier run */
    bool background; /* nobody who is in a hurry waits for it, nor ever has */
    struct load_spec *spec;
    uint64_t start_ns, seconds_ns; /* when it was asked for; how long it took, once it ended */
    struct hearth_span resolved;
    unsigned leases;
    TAILQ_HEAD(waiters, waiter) waiters;
    uint8_t key[32]; /* from QUEUED on */
    uint64_t bytes;  /* likewise */
    uint64_t device; /* likewise: of its first file */
    uint32_t n_files;
    uint64_t list_bytes;    /* QUEUED: of memory that the list of its files takes */
    enum hearth_wait waits; /* QUEUED: for what */
    uint64_t lacks;         /* likewise: how much of it */
    uint64_t cancelled_ns;  /* LOADING and ending: since when */
    struct charge charged;
    /* What it has, by its state. */
    struct resolve *resolve;      /* RESOLVING */
    struct artifact *artifact;    /* QUEUED */
    struct store_lookup *lookup;  /* QUEUED: what is remembered of its files is being looked up */
    struct record *records;       /* QUEUED, LOADING: what was found; n_files of them, or NULL */
    struct load *load;            /* LOADING */
    struct loop_job shown;        /* LOADING: it can be streamed */
    struct loop_job ended;        /* LOADING, or dropped */
    struct resident *resident;    /* RESIDENT, GONE */
    struct retirement retirement; /* dropped; with a resident while clients hold some of it */
    struct hearth_error *reason;  /* FAILED */
    uint64_t retry_ns;            /* FAILED and preload: when it is tried again; 0: never */
    struct spares spares;         /* RESIDENT, GONE */
};

/* For a new one, if nothing has it. Ids are random, so that one that a client kept over a restart names nothing rather
 * than another artifact. */
uint64_t generation_random_id(void);
/* A span of the clock's in time since `start`. */
struct hearth_span span_since(struct hearth_span s, uint64_t start);
/* A new one in no list, RESOLVING; NULL when there is no memory. The spec is copied. */
struct generation *generation_new(uint64_t id, const struct load_spec *spec);
/* The number of the newest one that was made. */
uint64_t generation_newest(void);
/* Frees it with all it has, its spare descriptors excepted. It must have no waiters, no leases, nothing under way.
 * Returns NULL. */
struct generation *generation_free(struct generation *g);

/* It is loading, and can be attached already. Another thread may end that at any time. */
bool generation_streams(const struct generation *g);

/* What LIST says of it; `now` is the clock's. */
void generation_info(const struct generation *g, uint64_t now, struct hearth_msg_info *out);
/* The same as the answer to one request. */
void generation_info_for(const struct generation *g, const struct waiter *w, uint64_t now, struct hearth_msg_info *out);

/* True when files that both artifacts have differ, or when the same selection now gives other files. */
bool generation_is_stale(const struct generation *g, const struct load_spec *spec, const struct artifact *now);
