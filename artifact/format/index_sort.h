/* artifact/format/index_sort.h: sorting records by name, fast for millions that share long prefixes.
 *
 * A record is anything that begins with a `struct hearth_str`. The order is memcmp's, shorter first on a tie; records
 * with equal names keep the order they had.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <hearth/index.h>

struct sort_item {
    uint64_t key; /* private */
    uint32_t record;
    uint32_t reserved;
};

/* Where records are and where their names point. */
struct sort_input {
    const char *pool;
    const void *records;
    size_t stride; /* bytes a record */
    size_t count;  /* at most UINT32_MAX */
};

static inline const struct hearth_str *sort_name(const struct sort_input *in, uint32_t record) {
    return (const struct hearth_str *)((const char *)in->records + record * in->stride);
}

/* Like memcmp; names have no NUL inside. */
int sort_compare(const char *a, size_t a_length, const char *b, size_t b_length);

/* *out: `count` items in order, to be freed by the caller. 0 or -ENOMEM. */
int sort_by_name(const struct sort_input *in, struct sort_item **out);
/* Sorts items by `key`, stable. `spare` has room for half of them. */
void sort_by_key(struct sort_item *items, size_t count, struct sort_item *spare);
