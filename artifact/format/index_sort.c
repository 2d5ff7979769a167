/* artifact/format/index_sort.c: see index_sort.h.
 *
 * Names of tensors are long and alike ("model.layers.17.mlp.up_proj.weight"), so comparing whole names costs a cache
 * miss or two for each of n log n comparisons. Instead eight bytes of each name are held beside its number and sorted
 * as integers; only runs that are equal in those eight bytes look at the next eight. A run that is already in order,
 * as a shared prefix is, costs one pass. Names that defeat this (made to share prefix upon prefix) fall back to whole
 * comparisons after MAX_LEVELS, which bounds the recursion and the work.
 */
#include "artifact/format/index_sort.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define MAX_LEVELS 32
#define SMALL_RUN 12

int sort_compare(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t shared = a_length < b_length ? a_length : b_length;
    int c = shared == 0 ? 0 : memcmp(a, b, shared);
    return c != 0 ? c : (a_length > b_length) - (a_length < b_length);
}

/* Whole names when `in` is given, keys alone otherwise. */
static inline bool in_order(const struct sort_input *in, const struct sort_item *a, const struct sort_item *b) {
    if (!in)
        return a->key <= b->key;
    const struct hearth_str *x = sort_name(in, a->record), *y = sort_name(in, b->record);
    return sort_compare(in->pool + x->offset, x->length, in->pool + y->offset, y->length) <= 0;
}

static void merge_sort(const struct sort_input *in, struct sort_item *items, size_t count, struct sort_item *spare) {
    if (count <= SMALL_RUN) {
        for (size_t i = 1; i < count; i++) {
            struct sort_item item = items[i];
            size_t j = i;
            for (; j > 0 && !in_order(in, &items[j - 1], &item); j--)
                items[j] = items[j - 1];
            items[j] = item;
        }
        return;
    }
    size_t half = count / 2;
    merge_sort(in, items, half, spare);
    merge_sort(in, items + half, count - half, spare);
    if (in_order(in, &items[half - 1], &items[half]))
        return;
    memcpy(spare, items, half * sizeof(*items));
    size_t left = 0, right = half, out = 0;
    while (left < half && right < count) {
        if (in_order(in, &spare[left], &items[right]))
            items[out++] = spare[left++];
        else
            items[out++] = items[right++];
    }
    memcpy(items + out, spare + left, (half - left) * sizeof(*items));
}

void sort_by_key(struct sort_item *items, size_t count, struct sort_item *spare) {
    size_t i = 1;
    while (i < count && items[i - 1].key <= items[i].key)
        i++;
    if (i < count)
        merge_sort(NULL, items, count, spare);
}

/* Eight bytes of the name from `depth` on, so that integers compare as the bytes do. Padding with zeros is
 * unambiguous, because names have no NUL. */
static uint64_t key_at(const struct sort_input *in, uint32_t record, size_t depth) {
    const struct hearth_str *name = sort_name(in, record);
    if (name->length <= depth)
        return 0;
    size_t left = name->length - depth;
    uint8_t bytes[8] = {0};
    memcpy(bytes, in->pool + name->offset + depth, left < 8 ? left : 8);
    uint64_t key = 0;
    for (int i = 0; i < 8; i++)
        key = key << 8 | bytes[i];
    return key;
}

/* Items of a run are equal in their first `depth` bytes. */
static void sort_run(const struct sort_input *in, struct sort_item *items, size_t count, struct sort_item *spare,
                     size_t depth, unsigned level) {
    if (count <= SMALL_RUN || level == MAX_LEVELS) {
        merge_sort(in, items, count, spare);
        return;
    }
    for (size_t i = 0; i < count; i++)
        items[i].key = key_at(in, items[i].record, depth);
    sort_by_key(items, count, spare);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && items[end].key == items[first].key; end++)
            ;
        bool names_go_on = (items[first].key & 0xff) != 0;
        if (end - first > 1 && names_go_on)
            sort_run(in, items + first, end - first, spare, depth + 8, level + 1);
    }
}

int sort_by_name(const struct sort_input *in, struct sort_item **out) {
    _cleanup_free_ struct sort_item *items = calloc(in->count + 1, sizeof(*items));
    _cleanup_free_ struct sort_item *spare = malloc((in->count / 2 + 1) * sizeof(*spare));
    if (!items || !spare)
        return -ENOMEM;
    for (size_t i = 0; i < in->count; i++)
        items[i].record = (uint32_t)i;
    sort_run(in, items, in->count, spare, 0, 0);
    *out = steal_ptr(&items);
    return 0;
}
