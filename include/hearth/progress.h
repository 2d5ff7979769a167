/* hearth/progress.h: the progress page, by which a client follows a load through memory that it can only read.
 *
 * A client that attaches an artifact which is still loading gets, beside the index and the files, one more descriptor:
 * a memfd that the daemon writes through a mapping of its own and nobody else can write, grow, shrink or seal
 * (F_SEAL_SEAL|SHRINK|GROW|FUTURE_WRITE). The client maps it shared and read-only.
 *
 *     header | files | words of bitmaps
 *
 * Little endian; sizes asserted below. Fields said to be fixed do not change after the page was handed out; the others
 * are written by the daemon alone.
 *
 * BITS. A file is cut into chunks of `chunk_bytes`, the last one shorter. Each file has two bitmaps of one bit a chunk;
 * chunk i is bit i % 64 of word i / 64. A bit never goes back to 0.
 *
 *     exposed    the bytes are there, and policy's state is reached: they may be used
 *     landed     the bytes are there; whether they are what they should be is not known yet. For who asked for
 *                speculative ranges, and has to look at `state` once more before what was made of them counts.
 *
 * ORDER. The daemon writes a chunk's bytes, then sets its bit by a release store; it writes the error, then `state` by
 * a release store. A client that loads a bit, or the state, by an acquire load sees what was written before. FAILED is
 * set once, after which no bit is worth anything: look at `state` after the bits, not before.
 *
 * WAITING. After bits or the state have changed the daemon adds 1 to `sequence`, and wakes. A client loads `sequence`,
 * then looks at bits and state, then waits by futex(FUTEX_WAIT) on `sequence` with the value it loaded: not
 * FUTEX_PRIVATE_FLAG, the page is shared. Any change of any file wakes, and so may any process that maps the page:
 * look again after each wake. A daemon that dies never wakes anybody: look at the socket too, now and then.
 */
#pragma once

#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEARTH_PROGRESS_MAGIC "HRTHPRG1" /* 8 bytes, no NUL */
#define HEARTH_PROGRESS_VERSION 1u

enum hearth_progress_state {
    HEARTH_PROGRESS_LOADING = 1,
    HEARTH_PROGRESS_RESIDENT = 2, /* final: every byte may be used, and all descriptors are sealed for good */
    HEARTH_PROGRESS_FAILED = 3,   /* final: nothing of it may be used; `error` says why */
};

struct hearth_progress_header {
    uint8_t magic[8];      /* fixed */
    uint32_t version;      /* fixed: HEARTH_PROGRESS_VERSION */
    uint32_t header_bytes; /* fixed: sizeof(struct hearth_progress_header) of the writer */
    uint64_t total_bytes;  /* fixed: of the whole page */
    uint64_t id;           /* fixed: the artifact's */
    uint64_t chunk_bytes;  /* fixed */
    uint64_t files;        /* fixed: bytes from the start of the page to struct hearth_progress_file[n_files] */
    uint32_t n_files;      /* fixed: as many as the index has, in its order */
    uint32_t state;        /* atomic: enum hearth_progress_state */
    uint32_t sequence;     /* atomic: counts changes, wrapping */
    uint32_t reserved;
    struct hearth_error error; /* why it failed: valid once `state` is FAILED */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_progress_header) == 64 + 6160, "progress header layout");

/* The descriptor that streaming clients have of it carries a write lease of the daemon's: an open(2) of the file
 * (through /proc/PID/fd) waits until the lease goes, which it does when the file is resident, or when
 * fs.lease-break-time has passed since the open. Without this flag opening it does not wait. */
#define HEARTH_PROGRESS_LEASED 1u
/* The file is complete, and as verified as policy asks. Its lease is gone. It is sealed for good when all is RESIDENT.
 */
#define HEARTH_PROGRESS_SETTLED 2u

struct hearth_progress_file {
    uint64_t bytes;    /* fixed: the file's size */
    uint64_t exposed;  /* fixed: bytes from the start of the page to its bitmap's first word, a multiple of 8 */
    uint64_t landed;   /* fixed: likewise */
    uint32_t n_chunks; /* fixed: bits of each */
    uint32_t verified; /* atomic, stored before bits: enum hearth_verified, of what is exposed; it may rise */
    uint32_t flags;    /* atomic: HEARTH_PROGRESS_LEASED, HEARTH_PROGRESS_SETTLED */
    uint32_t reserved;
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_progress_file) == 40, "progress file layout");

#ifdef __cplusplus
}
#endif
