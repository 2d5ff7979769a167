/* loader/loader.h: the engine, from storage to sealed, verified memory. It knows no sockets.
 *
 * One engine has one I/O thread with one io_uring, populator threads, and hash workers, all made when the engine is.
 * Each load has a coordinator thread for as long as it lasts: it runs the load's steps in order (open, make blobs,
 * parse, wait, seal) as straight code, and blocks where it must; so a storage that hangs holds up one load and no
 * other.
 *
 * Rules of the road:
 * - completions are reported by callbacks on the coordinator thread: hand them to your loop, do not work there;
 * - every byte of memory, every descriptor and every thread is given back when a load fails, whatever the step;
 * - nothing is published that is not sealed, and, where policy asks, verified.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>
#include <hearth/protocol.h>

#include "artifact/artifact.h"
#include "artifact/record.h"

struct engine;
struct load;

/* What blobs are made of. AUTO: huge pages on shared memory where the system allows (by MADV_HUGEPAGE, else by
 * MADV_COLLAPSE), else small pages. */
enum backing_choice { BACKING_AUTO = 0, BACKING_SMALL = 1, BACKING_HUGETLB = 2 };

/* What reads. AUTO: io_uring, where it is refused threads that call pread(2). */
enum reader_choice { READER_AUTO = 0, READER_URING = 1, READER_PREAD = 2 };

/* Zero means the default. */
struct engine_options {
    enum reader_choice reader;
    enum backing_choice backing;
    unsigned hash_workers;     /* threads; default: cores */
    unsigned populators;       /* threads; default: 2, 1 on a single core */
    uint64_t bytes_in_flight;  /* of one device; default 64 MiB */
    uint64_t populate_ahead;   /* bytes that memory may be ahead of one device's reads; default 256 MiB */
    const char *parser_helper; /* NULL: found beside the program */
};

/* Errors: UNSUPPORTED (READER_URING, and it is refused: says by what), NO_MEMORY, SYSTEM. Thread rule: made and freed
 * by one thread. */
int engine_new(const struct engine_options *options, struct engine **out, struct hearth_error *err);
/* Cancels what runs, waits for it, frees. Returns NULL. */
struct engine *engine_free(struct engine *e);
/* Holds so much populated memory in advance, or as much of it as leaves enough to others; 0: none. It is filled a
 * second after the last load has ended, step by step; loads give it back, piece by piece, for what they populate. On a
 * host that takes free memory back (a VM with free page reporting), fresh pages cost seconds per GiB, and these do not.
 * What is held counts as free when a load is admitted. Any thread. */
void engine_hold(struct engine *e, uint64_t bytes);
/* How much is held. Any thread. */
uint64_t engine_held(struct engine *e);
/* Memory is short: what is held goes, but what loads under way were promised, and nothing is held anew for half a
 * minute. Any thread. */
void engine_pressure(struct engine *e);
/* Nobody will call engine_pressure(): a thread looks at the memory available itself, every two seconds while something
 * is held. Any thread. */
void engine_look_for_pressure(struct engine *e);
/* One line for status: what reads, and why where it is not io_uring; what blobs are made of, and why. */
void engine_describe(struct engine *e, char *reader, size_t reader_size, char *backing, size_t backing_size);

/* What storage has not answered for the longest time. */
struct stalled {
    char path[4096]; /* as in struct hearth_error */
    uint64_t offset; /* of a read; HEARTH_NO_OFFSET: it is being opened, or read whole */
    uint64_t since_ns;
};
/* True when there is something that storage has been asked for at least `older_ns` ago. Any thread. */
bool engine_stalled(struct engine *e, uint64_t older_ns, struct stalled *out);

/* One file's bytes in memory, after its load: sealed, with one O_RDONLY description, and no mapping but what keeps it
 * out of swap. */
struct blob {
    int fd;                  /* O_RDONLY */
    uint64_t bytes;          /* the exact size of the file */
    uint64_t resident_bytes; /* memory it holds: pages rounded up */
    uint64_t huge_bytes;     /* of those, on huge pages */
    enum hearth_backing backing;
    enum hearth_verified verified;
    bool has_sha256;
    uint8_t sha256[32];
    uint32_t n_chunks;         /* of CHUNK_BYTES; 0 when nothing was hashed */
    struct chunk_hash *chunks; /* of each */
    bool lasting;              /* a record of it can be trusted later: artifact/record.h */
    void *locked;              /* a mapping, or NULL: loader/lock.c */
};

/* What a load makes. Owned by who took it from load_take(). */
struct resident {
    struct artifact *artifact;
    int index_fd; /* sealed memfd, O_RDONLY description */
    uint64_t index_bytes;
    struct blob *blobs; /* one for each of artifact->files, in their order */
    size_t n_blobs;
    uint64_t bytes, resident_bytes, huge_bytes;
    uint64_t swappable_bytes; /* of the memory it holds: what nothing keeps out of swap, were there any */
    void *index_locked;
    enum hearth_backing backing;
    enum hearth_verified verified;
    bool direct_io;      /* there are large files, and all of them could be read O_DIRECT; small ones never are */
    char not_direct[64]; /* why one of the large files could not, for people */
    uint64_t from_disk, from_page_cache;
    struct hearth_span phases[HEARTH_PHASES]; /* relative to load_request.start_ns */
};
/* True when it is what a load of `a` would make: the same files, verified at least as well. */
bool resident_serves(const struct resident *r, const struct artifact *a, enum hearth_verify verify);
/* Giving back gigabytes takes as long as supplying them (0.15 s a GiB of small pages). Returns NULL; NULL is allowed.
 */
struct resident *resident_free(struct resident *r);
/* The same on the engine's threads, blob by blob, after what loads want of them. In the caller's memory until done(),
 * which comes from one of those threads. What others have open or mapped (memfd_is_held()) does not come back with our
 * descriptor: it is kept, so that it can be asked for again, by a retirement of what this one left. */
struct retirement {
    struct resident *resident; /* taken over; after done() what is left of it, or NULL */
    void (*done)(void *user);
    void *user;
    uint64_t held_bytes; /* 0; after done(), what the blobs (and the index) that are left take */
    unsigned held_fds;   /* 0; likewise their number */
    size_t next_blob;    /* 0 */
    struct retirement *next;
};
/* Any thread. */
void resident_retire(struct engine *e, struct retirement *r);

struct load_request {
    uint64_t id;                /* goes into the index */
    uint64_t start_ns;          /* CLOCK_MONOTONIC: when the request was taken up; phases count from here */
    struct hearth_span resolve; /* how long resolving took, relative to start_ns */
    struct artifact *artifact;  /* taken over, also on failure */
    enum hearth_verify verify;  /* not DEFAULT */
    /* NULL, or what is remembered of each file, by its number; one without chunks is none. Borrowed until done(). */
    const struct record *records;
    bool background; /* nobody waits for it: urgent loads go first, and find little in their way */
    /* Called at most once, on the coordinator thread, before done(): load_stream() can be asked from now on. May be
     * NULL. */
    void (*streams)(void *user, struct load *l);
    /* Called once, on the coordinator thread, when the load has ended either way. */
    void (*done)(void *user, struct load *l);
    void *user;
};

/* Starts a load. Before it makes a blob it checks the artifact's size against every limit of memory that applies
 * (util/memory_limit.h). Errors: NO_MEMORY, SYSTEM when it cannot even start; all else comes through done().
 * Thread rule: any thread. */
int load_start(struct engine *e, const struct load_request *request, struct load **out, struct hearth_error *err);
/* Asks it to end as soon as it can; done() still comes, with HEARTH_E_CANCELLED unless it was already over. Any
 * thread, as long as the engine lives. */
void load_cancel(struct load *l);
/* Somebody waits for it now: from here on it is as urgent as one that was not started in the background. Any thread, as
 * long as the load has not been freed. */
void load_hasten(struct load *l);
/* Bytes that have landed so far. Any thread. */
uint64_t load_progress(const struct load *l);
/* From streams() to the load's end. Any thread. */
bool load_streams(struct load *l);
/* Descriptors of the index and of the progress page (hearth/progress.h), for a client: owned by the caller. The index
 * lacks what is known at the end only: digests, and how far was verified. Errors: BUSY when load_streams() is
 * false; the load's own; NO_FDS, SYSTEM. Any thread, until load_take(). */
int load_stream(struct load *l, int *index, int *page, struct hearth_error *err);
/* The same for a file. While it fills, all that are given out share one description, whose write lease makes whoever
 * opens the file wait. */
int load_stream_file(struct load *l, size_t file, int *out, struct hearth_error *err);
/* Somebody waits for these bytes: they are read before everything else of the load. A hint: a range that does not exist
 * is ignored, and where many are asked for the last ones count. Any thread. */
void load_want(struct load *l, size_t file, uint64_t offset, uint64_t length);
/* After done(): 0 and the resident (owned by the caller), or the load's error. */
int load_take(struct load *l, struct resident **out, struct hearth_error *err);
/* After done(), of a load that failed and had been streamed: what clients may hold of it, to be given back by
 * resident_retire(); NULL when there is nothing. Owned by the caller. */
struct resident *load_take_shared(struct load *l);
/* After done(): joins the coordinator, frees. Returns NULL. */
struct load *load_free(struct load *l);
