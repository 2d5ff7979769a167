/* artifact/format/index_builder.h: what a builder holds, for the files that implement it (index_build.c,
 * index_write.c).
 *
 * Memory is what bounds a parser, so a tensor costs 48 bytes, its dims and its name until the sort, and 24 more after
 * it. Tables grow by a quarter: large ones are moved by mremap(2), which copies nothing.
 */
#pragma once

#include "artifact/format/index_build.h"
#include "artifact/format/index_sort.h"

#define DTYPES_MAX 256

struct table {
    void *data;
    size_t count, capacity;
};

struct meta_draft {
    struct hearth_str key, value;
    uint32_t file;
    uint32_t reserved;
    uint64_t where;
};

struct index_builder {
    struct hearth_str ref, format;
    struct table files;    /* struct hearth_index_file */
    struct table tensors;  /* struct index_draft */
    struct table dims;     /* uint64_t */
    struct table metadata; /* struct meta_draft */
    struct table findings; /* struct hearth_index_finding; first those of index_add_skipped() */
    struct table pool;     /* char; begins with a NUL, which is the empty string */
    size_t n_skipped;
    struct sort_item *order;
    uint64_t bytes;
    unsigned n_dtypes;
    struct hearth_str dtypes[DTYPES_MAX];
};
