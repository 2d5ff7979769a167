/* artifact/format/index_build.h: making an index (hearth/index.h) record by record.
 *
 * Files come first, in the order of their numbers; then tensors, metadata and findings in any order. Strings go into
 * the pool as they are met, so a format writes what it reads straight into its place. index_sort() puts the tensors in
 * the index's order and refuses a name that a file has twice; index_write() writes it all to a descriptor.
 *
 * Ownership: everything is copied. Thread rule: one thread at a time. Errors: NO_MEMORY; TOO_LARGE (the pool is full);
 * MALFORMED (a name with a NUL, too many dimensions, a duplicate).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

struct index_builder;

/* A tensor while the index is built. `bytes` and `offset` are the format's to correct until index_sort(). */
struct index_draft {
    struct hearth_str name;
    uint16_t dtype; /* private: a number among the dtypes seen */
    uint16_t n_dims;
    uint32_t dims_first;
    uint32_t file;
    uint32_t reserved;
    uint64_t offset;
    uint64_t bytes;
    uint64_t where; /* what states it: an offset in its file, for messages */
};

/* NULL when there is no memory. */
struct index_builder *index_builder_new(void);
/* Returns NULL; NULL is allowed. */
struct index_builder *index_builder_free(struct index_builder *b);

int index_set_ref(struct index_builder *b, const char *ref, struct hearth_error *err);
int index_add_file(struct index_builder *b, const char *path, enum hearth_role role, uint64_t bytes,
                   struct hearth_error *err);
/* `format`: a static name. The first format of a file with the role of weights becomes the artifact's. */
int index_set_format(struct index_builder *b, uint32_t file, const char *format, struct hearth_error *err);

/* Puts bytes into the pool. `file` and `where` are for the error. */
int index_add_string(struct index_builder *b, const char *text, size_t length, uint32_t file, uint64_t where,
                     struct hearth_str *out, struct hearth_error *err);
const char *index_string(const struct index_builder *b, struct hearth_str s);

struct index_tensor_args {
    struct hearth_str name; /* from index_add_string() */
    const char *dtype;      /* the format's spelling */
    uint64_t offset, bytes;
    const uint64_t *dims;
    uint32_t n_dims;
    uint32_t file;
    uint64_t where;
};
int index_add_tensor(struct index_builder *b, const struct index_tensor_args *t, struct hearth_error *err);
/* The tensors added so far, in the order they were; valid until the next one is added. */
struct index_draft *index_drafts(struct index_builder *b, size_t *count);
const uint64_t *index_dims(const struct index_builder *b, const struct index_draft *t);

/* Both strings from index_add_string(). */
int index_add_meta(struct index_builder *b, struct hearth_str key, struct hearth_str value, uint32_t file,
                   uint64_t where, struct hearth_error *err);
int index_add_finding(struct index_builder *b, const char *code, const char *file, uint64_t offset, const char *message,
                      struct hearth_error *err);
/* The finding "skipped", of a file that selection left out. They come before all other findings and ascend by path. */
int index_add_skipped(struct index_builder *b, const char *path, const char *reason, struct hearth_error *err);
/* Is there one? By binary search: what is asked for comes from files, as often as they like. */
bool index_was_skipped(const struct index_builder *b, const char *path);

/* Sorts tensors by (name, file); refuses tensors and metadata keys that one file has twice. */
int index_sort(struct index_builder *b, struct hearth_error *err);
/* After index_sort(): the place of (name, file) among the sorted tensors, or SIZE_MAX. */
size_t index_find(const struct index_builder *b, const char *name, size_t length, uint32_t file);
/* The tensor at a place. */
const struct index_draft *index_at(const struct index_builder *b, size_t place);

/* After index_sort(): writes the whole index with write(2), from the descriptor's position on. Errors also: SYSTEM. */
int index_write(const struct index_builder *b, int fd, struct hearth_error *err);
