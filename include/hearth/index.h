/* hearth/index.h: the flat table that says what is in an artifact.
 *
 * An index is one sealed, read-only memfd. The parser helper writes it, the daemon checks and completes it, and
 * every client maps it and uses it without parsing: offsets, no pointers; little endian; sizes asserted below.
 *
 *     header | files | tensors | dims | metadata | findings | strings
 *
 * Every table is 8-byte aligned and given by its offset from the start of the index and its number of entries.
 * Strings live in one pool; a `struct hearth_str` points into it, the byte after each string is NUL, and no
 * string has a NUL inside. Names are bytes as the file had them: usually, but not always, UTF-8.
 *
 * Tensors are sorted by (name bytes as memcmp, shorter first on a tie; then file number), so that a lookup is a
 * binary search on the mapped table. A name is unique inside a file, not inside an artifact: a pipeline's parts
 * may each have an "embed.weight".
 *
 * Thread rule: immutable once mapped; any number of threads may read it.
 * Errors: an index from a daemon has been checked by the daemon (artifact/index_check.c states every rule).
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
#define HEARTH_STATIC_ASSERT static_assert
extern "C" {
#else
#define HEARTH_STATIC_ASSERT _Static_assert
#endif

#define HEARTH_INDEX_MAGIC "HRTHIDX1" /* 8 bytes, no NUL */
#define HEARTH_INDEX_VERSION 1u
#define HEARTH_DIMS_MAX 64u /* of one tensor */

/* What a file is for. JSON names in brackets. Never renumber. */
enum hearth_role {
    HEARTH_ROLE_OTHER = 0,         /* "other" */
    HEARTH_ROLE_WEIGHTS = 1,       /* "weights" */
    HEARTH_ROLE_CONFIG = 2,        /* "config": architecture, generation settings */
    HEARTH_ROLE_TOKENIZER = 3,     /* "tokenizer" */
    HEARTH_ROLE_PREPROCESSING = 4, /* "preprocessing" */
    HEARTH_ROLE_METADATA = 5,      /* "metadata": model cards, licences, metrics, digests, indexes of shards */
    HEARTH_ROLE_CODE = 6,          /* "code" */
};

/* How far content has been verified; an artifact reports the weakest of its files, those aside
 * that only hold the digests of others. Never renumber. */
enum hearth_verified {
    HEARTH_VERIFIED_NONE = 0,     /* "none": only read */
    HEARTH_VERIFIED_RECORDED = 1, /* "recorded": XXH3 computed, nothing to compare it to */
    HEARTH_VERIFIED_MATCHED = 2,  /* "matched": XXH3 equal to the record of what was proven before */
    HEARTH_VERIFIED_SHA256 = 3,   /* "sha256": equal to an expected SHA-256 */
    HEARTH_VERIFIED_SIGNED = 4,   /* "signed": covered by a verified signature */
};

enum hearth_verdict {
    HEARTH_VERDICT_OK = 0,      /* "ok" */
    HEARTH_VERDICT_UNSAFE = 1,  /* "unsafe": something in it may execute code */
    HEARTH_VERDICT_REFUSED = 2, /* "refused": malformed */
};

struct hearth_str {
    uint32_t offset; /* bytes from the start of the string pool */
    uint32_t length; /* bytes, the NUL not counted */
};

struct hearth_index_table {
    uint64_t offset; /* bytes from the start of the index; a multiple of 8 */
    uint64_t count;  /* entries */
};

struct hearth_index_header {
    uint8_t magic[8];
    uint32_t version;                   /* HEARTH_INDEX_VERSION */
    uint32_t header_bytes;              /* sizeof(struct hearth_index_header) of the writer */
    uint64_t total_bytes;               /* of the whole index */
    uint64_t id;                        /* the artifact's id; 0 until a daemon sets it */
    uint32_t verified;                  /* enum hearth_verified: the weakest of the files */
    uint32_t verdict;                   /* enum hearth_verdict */
    uint64_t bytes;                     /* the sum of the files' sizes */
    struct hearth_str ref;              /* the resolved reference */
    struct hearth_str format;           /* of the weights: "safetensors", ... ; empty when there are none we know */
    struct hearth_index_table files;    /* struct hearth_index_file */
    struct hearth_index_table tensors;  /* struct hearth_index_tensor, sorted */
    struct hearth_index_table dims;     /* uint64_t */
    struct hearth_index_table metadata; /* struct hearth_index_meta */
    struct hearth_index_table findings; /* struct hearth_index_finding */
    struct hearth_index_table strings;  /* bytes; count = bytes in the pool */
    uint64_t reserved[8];               /* 0 */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_index_header) == 224, "index header layout");

#define HEARTH_FILE_HAS_SHA256 1u /* `sha256` was computed by the daemon over the bytes it serves */

struct hearth_index_file {
    struct hearth_str path;   /* relative to the artifact, '/' between parts; unique */
    struct hearth_str format; /* "safetensors", "json", "text", ...; empty when not known */
    uint32_t role;            /* enum hearth_role */
    uint32_t verified;        /* enum hearth_verified */
    uint32_t flags;           /* HEARTH_FILE_* */
    uint32_t reserved;
    uint64_t bytes;
    uint8_t sha256[32]; /* valid with HEARTH_FILE_HAS_SHA256 */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_index_file) == 72, "index file layout");

struct hearth_index_tensor {
    struct hearth_str name;
    struct hearth_str dtype; /* the format's own spelling: "BF16", "F8_E4M3", ... */
    uint64_t offset;         /* bytes from the start of the file */
    uint64_t bytes;          /* offset + bytes <= the file's size */
    uint64_t dims_first;     /* index into the dims table */
    uint32_t n_dims;         /* 0 for a scalar; <= HEARTH_DIMS_MAX */
    uint32_t file;           /* index into the files table */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_index_tensor) == 48, "index tensor layout");

/* A fact a file states about the artifact, e.g. safetensors' __metadata__. */
struct hearth_index_meta {
    struct hearth_str key;
    struct hearth_str value;
    uint32_t file; /* index into the files table */
    uint32_t reserved;
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_index_meta) == 24, "index metadata layout");

/* Something a person should know: a file left out and why ("skipped"), a shard that is missing, ... */
struct hearth_index_finding {
    struct hearth_str code; /* "skipped", ... */
    struct hearth_str file; /* path inside the artifact; may name a file that is not in the files table */
    struct hearth_str message;
    uint64_t offset; /* in that file, or UINT64_MAX */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_index_finding) == 32, "index finding layout");

#ifdef __cplusplus
}
#endif
