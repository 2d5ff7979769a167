/* loader/internal.h: what the engine's threads share. Not for anybody outside of loader/.
 *
 * A load is a set of files. Small ones are read by the load's own thread (small.c). Each other file is a *stream*: it
 * goes, range by range, from storage through memory to its hashes, moved on by three kinds of threads:
 *
 *     populators        the I/O thread          hash workers
 *     blocks: EMPTY     pieces: WAITING         chunks: landed
 *       -> BUSY           -> READING              -> being hashed
 *       -> READY          -> LANDED               -> hashed
 *
 * A *block* is what is populated at a time (whole huge pages), a *piece* is one read, a *chunk* has one XXH3. A piece
 * is read once all blocks under it are READY; a chunk is hashed once all its pieces have LANDED.
 *
 * One lock guards everything here but the bytes themselves. It is held for decisions, never for work; a few thousand
 * of them a second is all there is. schedule.c makes them: which block, piece or chunk is next.
 *
 * `users` counts the work under way on a load: whoever takes something up under the lock adds one, and its memory stays
 * until they have let go. A load that fails is skipped by every decision, so that `users` falls to 0 by itself.
 */
#pragma once

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/blob.h"
#include "loader/hold.h"
#include "loader/loader.h"
#include "loader/reader.h"

#define LARGE_PIECE_BYTES CHUNK_BYTES /* few reads, where nothing depends on their order */
/* Finer, where a serial hash follows the reads, or the page cache holds a part. */
#define SMALL_PIECE_BYTES (CHUNK_BYTES / 4)
#define BLOCK_BYTES (UINT64_C(2) << 20) /* populated at a time, at least */
#define POPULATE_STEP_MAX (UINT64_C(8) << 20)
/* A file up to this size goes through small.c: below it the set-up of a stream costs more than the copy it saves. */
#define SMALL_FILE_MAX (UINT64_C(256) << 10)
/* Ranges of one load that somebody waits for: the parser's, and the last ones that clients asked for; and how many
 * pieces of each go before everything else at one time. */
#define WANTED_MAX 16u
#define WANTED_PIECES_MAX 8u
/* Streams of one load that are open at once: each holds three or four descriptors and a mapping. */
#define STREAMS_OPEN_MAX 256u
/* Reads under way of one device, and in all, whatever their size: fifteen devices may hang and leave enough to others.
 */
#define DEVICE_READS_MAX 64u
#define READ_DEPTH (16 * DEVICE_READS_MAX)

enum progress { TODO = 0, BUSY = 1, DONE = 2, CACHED = 3 /* a piece that is to be copied from the page cache */ };
/* What takes up a stream's work. */
enum way_name { POPULATE, READ, COPY, WAYS };

/* What bounds reads and memory ahead of them: one storage that hangs must not hold up loads from another. */
struct device {
    uint64_t id;        /* st_dev */
    uint64_t in_flight; /* bytes of reads under way */
    unsigned reads;     /* likewise, their number */
    uint64_t ahead;     /* bytes populated, or about to be, that no read has been started for */
    struct device *next;
};

struct stream {
    struct load *load;
    size_t file; /* number in the artifact */
    struct stream *next;
    struct device *device;
    uint64_t bytes;

    /* storage */
    int source;  /* O_DIRECT as long as `direct` */
    int cached;  /* the same file through the page cache, which holds some of it; or -1 */
    bool direct; /* cleared for good when the file system refuses */
    char not_direct[sizeof(((struct resident *)0)->not_direct)];
    uint32_t align; /* of lengths, with `direct` */
    bool may_block; /* see struct read_op */
    /* Without `direct`: what the page cache had of the pieces that are to be read, before our reads, whose readahead
     * also fills it; less what has been counted. */
    uint64_t cached_before;

    struct blob_memory memory;
    uint64_t block_bytes;
    uint32_t n_blocks, n_pieces, n_chunks;
    uint64_t piece_bytes;
    uint8_t *blocks;      /* enum progress */
    uint8_t *pieces;      /* enum progress */
    uint32_t place[WAYS]; /* how far each is, in the order of pieces: stream_nth() */
    uint64_t populate_step;
    uint32_t blocks_done;
    uint64_t claimed, submitted; /* bytes of blocks taken up, of pieces taken up */
    uint32_t pieces_landed;

    /* hashes */
    const struct record *record; /* what its chunks are compared to, or NULL */
    bool hashed, sha256;
    uint8_t *missing; /* pieces of each chunk that have not landed */
    uint32_t *ready;  /* landed chunks in the order they did (not with sha256: that goes in the file's order) */
    uint32_t ready_from, ready_to;
    uint32_t chunks_done, chunk_next;
    bool hash_busy; /* with sha256: one worker at a time */
    EVP_MD_CTX *sha_ctx;
    struct blob result; /* what is known of the blob so far */
    bool settled;       /* complete, and found to be what was expected */

    /* share.c */
    bool at_once; /* its bytes may be used before all of them are there */
    bool leased;  /* its O_RDONLY description carries a lease */
    bool shared;  /* clients have dups of that */
    bool sealed;  /* it may be opened again */
};

/* Pieces that somebody waits for, inclusive; those in front have not all landed. No stream: nothing is wanted. */
struct wanted {
    struct stream *stream;
    uint32_t from, to;
};

/* The page of hearth/progress.h. */
struct progress_page {
    uint8_t *at; /* NULL: there is none */
    uint64_t bytes;
    int fd;      /* O_RDONLY */
    bool shared; /* somebody may be waiting on it */
};

struct load {
    struct engine *engine;
    struct load *next; /* the engine's list */
    pthread_t thread;
    struct load_request request;
    struct resident *resident; /* being built; load_take() hands it out */
    int64_t start_real_ns;     /* CLOCK_REALTIME: before any file of it was read */
    struct hearth_error error; /* the first one */
    bool failed, over;
    bool background; /* urgent ones go first */
    unsigned users;
    struct stream *open[STREAMS_OPEN_MAX]; /* changed by the load's own thread alone; NULL: sealed a moment ago */
    unsigned n_open;
    uint64_t reserved; /* bytes that will be populated yet */
    pthread_cond_t changed;
    struct wanted wanted[WANTED_MAX]; /* the first one is the parser's */
    unsigned wanted_turn;             /* whose place the next one of a client takes */
    int parser_stop;                  /* an eventfd while the parser runs, else -1 */
    bool parsed;                      /* it will want nothing any more */
    uint64_t asks_since;              /* what its own thread asks storage about, and since when; 0: nothing */
    size_t asks_file;
    _Atomic uint64_t landed;
    struct progress_page page;
    uint8_t *index; /* mapped, between the parser and publish() */
};

struct engine {
    struct engine_options options;
    struct backing backing;
    const char *limits_root; /* memory_limit.h: "" but in tests */
    char *parser_helper;

    pthread_mutex_t admission; /* held while a new load asks whether there is memory for it; taken before `lock` */
    pthread_mutex_t lock;
    /* For the first of their threads, and for the others, which help where it does not keep up: more threads than are
     * needed take CPU time from the one that starts reads. */
    pthread_cond_t populate_wanted, populate_help, hash_wanted, hash_help, quiet;
    bool has_populator, has_hasher; /* the first ones */
    bool stopping;
    struct load *loads;
    struct stream *streams; /* in the order they came */
    struct device *devices;
    uint64_t reserved; /* of all loads */
    /* Bytes supplied since the limits of memory were looked at, and after how many they are looked at again. */
    uint64_t unlooked, look_bytes;
    struct retirement *retired;
    struct hold hold;
    bool swap_forbidden; /* to this process, by a control group */

    struct reader *reader;
    struct io *io;        /* io.c */
    char reader_why[256]; /* for people */
    bool reader_starving; /* it could read more, were there populated memory */
    pthread_t io_thread, *populators, *hashers;
    unsigned n_populators, n_hashers;
    /* How the I/O thread's start went. */
    bool io_started;
    struct hearth_error io_error;
    EVP_MD *sha256;
};

/* Threads. Each takes the engine. */
void *io_main(void *engine);
void *populate_main(void *engine);
void *hash_main(void *engine);
void *load_main(void *load);
/* Signals blocked: those are for the program's own threads. 0 or an errno. */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);

/* ---- stream.c ---- */
/* Opens the file, makes its memory; the stream is not scheduled yet. */
int stream_open(struct load *l, size_t file, struct stream **out, struct hearth_error *err);
/* From here on through the page cache: the file system `does` something. */
void stream_go_buffered(struct stream *s, const char *does);
/* With the lock held: lets the threads at it; takes it away from them (nobody may be at work on it). */
void stream_schedule(struct stream *s);
void stream_unschedule(struct stream *s);
struct stream *stream_free(struct stream *s);
/* Reading starts with the head and the tail, where formats keep their headers; then it goes from front to back. */
uint32_t stream_nth(const struct stream *s, uint32_t place);
static inline bool stream_complete(const struct stream *s) {
    return s->pieces_landed == s->n_pieces && (!s->hashed || s->chunks_done == s->n_chunks);
}
static inline uint64_t stream_piece_length(const struct stream *s, uint32_t piece) {
    uint64_t at = piece * s->piece_bytes;
    return s->bytes - at < s->piece_bytes ? s->bytes - at : s->piece_bytes;
}
/* ---- page_cache.c ---- */
/* Bytes of a range of an open file that the page cache holds; 0 when the kernel does not tell. */
uint64_t cached_bytes(int fd, uint64_t offset, uint64_t length);
/* Before it is scheduled: tells which of its pieces are CACHED. */
void page_cache_mark(struct stream *s);
/* Pieces of one chunk that are to be copied from the page cache, and what of the memory under them is not there yet. */
struct copy_work {
    struct stream *stream;
    uint32_t piece, n_pieces;
    bool whole; /* the chunk, and it may be hashed by itself */
    uint64_t populate_from, populate_bytes;
};
/* With the lock held, which it gives up meanwhile. */
void copy_cached(struct engine *e, const struct copy_work *w);

/* ---- populate.c ---- */
/* With the lock held: what must still be found, in addition to what is held. */
uint64_t memory_needed(const struct engine *e, uint64_t more);
/* With the lock held, which it gives up meanwhile: supplies memory of blocks that are BUSY. */
void supply(struct engine *e, struct stream *s, uint64_t offset, uint64_t length);

/* ---- schedule.c: all with the lock held; each marks what it returns as BUSY and adds a user ---- */
/* `first`: for the thread that is always at it. Others take what it is behind with. */
bool schedule_populate(struct engine *e, bool first, struct stream **s, uint64_t *offset, uint64_t *length);
bool schedule_read(struct engine *e, struct stream **s, uint32_t *piece);
/* `first` likewise; what is serial is for all. */
bool schedule_hash(struct engine *e, bool first, struct stream **s, uint32_t *chunk);
bool schedule_copy(struct engine *e, struct copy_work *w);
/* Tells those who copy that there may be something. */
void copies_wanted(struct stream *s);
void populated(struct stream *s, uint64_t offset, uint64_t length);
/* `hashed`: its chunk has been, in advance. */
void piece_landed(struct stream *s, uint32_t piece, bool hashed);
/* They could not be copied: they are to be read. */
void copy_returned(struct stream *s, uint32_t piece, uint32_t n);
/* Nothing of it can be copied: all that has not been is to be read. */
void copies_end(struct stream *s);
/* What schedule_*() gave out for this load has been done, or given up. */
void work_ended(struct load *l);
/* Takes pieces up as what wanted[place] is to be; the load's `changed` tells when its stream is NULL again: landed. */
void want(struct load *l, unsigned place, struct stream *s, uint32_t from, uint32_t to);

/* ---- load.c: with the lock held ---- */
/* NULL: it is small, not open yet, or sealed already. */
struct stream *open_stream_of(const struct load *l, size_t file);
/* The first error stays. */
void load_fail(struct load *l, const struct hearth_error *err);
/* Without the lock: its own thread asks storage about a file, and has its answer. */
void load_asks(struct load *l, size_t file);
void load_answered(struct load *l);
/* Extends a phase to [start, end]. */
void load_phase(struct load *l, enum hearth_phase phase, uint64_t start, uint64_t end);

/* ---- small.c: on the load's thread; reads all small files into the resident's blobs ---- */
int small_files(struct load *l, struct hearth_error *err);
/* Asks again whether what is yet to be populated fits, or the next `most` bytes of that. */
int memory_still_fits(struct engine *e, uint64_t most, struct hearth_error *err);
/* So many bytes have become part of what the kernel counts as used. */
void load_unreserve(struct load *l, uint64_t bytes);

/* ---- hash.c ---- */
/* XXH3-128 of one chunk. */
void hash_chunk(struct blob *b, uint32_t chunk, const void *data, size_t bytes);
/* Hashes a chunk of a stream; then, with the lock held, tells that it has been. */
bool chunk_hash(struct stream *s, uint32_t chunk);
void chunk_hashed(struct stream *s, uint32_t chunk, uint64_t start, uint64_t end);
/* Whether the file is to be hashed by SHA-256 under this policy, if nothing is remembered of it. */
bool wants_sha256(const struct artifact_file *f, enum hearth_verify verify);
/* Compares with the expected digest, if no record (whose chunks have all been compared) stands in for that; fills in
 * b->verified. Errors: INTEGRITY. */
int judge(const struct load *l, size_t file, const struct record *r, struct blob *b, struct hearth_error *err);

/* ---- remembered.c ---- */
/* The record that an open file's chunks are to be compared to, in place of SHA-256, or NULL. *lasting: what this load
 * finds can be remembered. */
const struct record *remembered(const struct load *l, size_t file, int fd, bool *lasting);
/* Errors: INTEGRITY. */
int chunk_compare(const struct load *l, size_t file, const struct record *r, const struct blob *b, uint32_t chunk,
                  struct hearth_error *err);

/* ---- progress.c: with the lock held, but for the first two. Without a page they do nothing. ---- */
/* Makes the page of a load that reads any large file. Small ones are there within milliseconds. */
int progress_make(struct load *l, struct hearth_error *err);
void progress_deinit(struct progress_page *p);
/* Opening the file waits. */
void progress_leased(struct load *l, size_t file);
void progress_landed(struct load *l, size_t file, uint32_t chunk);
/* The chunk may be used. */
void progress_exposed(struct load *l, size_t file, uint32_t chunk, enum hearth_verified verified);
/* All of the file may be. */
void progress_settled(struct load *l, size_t file, enum hearth_verified verified);
void progress_resident(struct load *l);
void progress_failed(struct load *l, const struct hearth_error *err);

/* ---- share.c: on the load's thread ---- */
/* Before anybody else has its description. */
void share_lease(struct stream *s);
/* All of it may be used: whoever opens it need not wait any longer. */
int share_settle(struct stream *s, struct hearth_error *err);
/* It is sealed for good: what its clients hold is theirs alone. */
int share_seal(struct stream *s, struct hearth_error *err);
/* The parser's index can be used, though publish() will complete it. Maps it. */
int share_index(struct load *l, int index_fd, struct hearth_error *err);
void share_index_end(struct load *l);

/* ---- lock.c ---- */
/* All that may be; what could not is in r->swappable_bytes. */
void lock_resident(const struct engine *e, struct resident *r);
/* May run twice. */
void unlock_blob(struct blob *b);
void unlock_index(struct resident *r);

/* ---- publish.c: the index completed and sealed, the sums ---- */
int publish(struct load *l, int index_fd, struct hearth_error *err);
