/* artifact/format/index_build.c: see index_build.h. */
#include "artifact/format/index_build.h"

#include <stdlib.h>
#include <string.h>

#include "artifact/format/index_builder.h"
#include "artifact/format/index_sort.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

/* Room for n more entries, which it appends; NULL when there is no memory. */
static void *append(struct table *t, size_t n, size_t size, struct hearth_error *err) {
    if (t->capacity - t->count < n) {
        size_t capacity = t->capacity + t->capacity / 4 + 64;
        capacity = capacity < t->count + n ? t->count + n : capacity;
        void *data = reallocarray(t->data, capacity, size);
        if (!data) {
            error_set(err, HEARTH_E_NO_MEMORY, "no memory for an index of %zu entries of %zu bytes", capacity, size);
            return NULL;
        }
        t->data = data;
        t->capacity = capacity;
    }
    void *entry = (char *)t->data + t->count * size;
    t->count += n;
    return entry;
}

static const char *file_path(const struct index_builder *b, uint32_t file) {
    const struct hearth_index_file *files = b->files.data;
    return file < b->files.count ? index_string(b, files[file].path) : NULL;
}

struct index_builder *index_builder_new(void) {
    struct index_builder *b = calloc(1, sizeof(*b));
    char *nul = b ? append(&b->pool, 1, 1, NULL) : NULL;
    if (!nul)
        return index_builder_free(b);
    *nul = '\0';
    return b;
}

struct index_builder *index_builder_free(struct index_builder *b) {
    if (!b)
        return NULL;
    free(b->files.data);
    free(b->tensors.data);
    free(b->dims.data);
    free(b->metadata.data);
    free(b->findings.data);
    free(b->pool.data);
    free(b->order);
    free(b);
    return NULL;
}

int index_add_string(struct index_builder *b, const char *text, size_t length, uint32_t file, uint64_t where,
                     struct hearth_str *out, struct hearth_error *err) {
    *out = (struct hearth_str){0};
    if (length == 0)
        return 0;
    if (memchr(text, '\0', length)) {
        char shown[128];
        error_set(err, HEARTH_E_MALFORMED, "a name or text with a NUL character inside: \"%s\"",
                  format_printable(text, length, shown, sizeof(shown)));
        error_at(err, file_path(b, file), where);
        return HEARTH_E_MALFORMED;
    }
    if (length >= UINT32_MAX - b->pool.count) {
        error_set(err, HEARTH_E_TOO_LARGE, "the names and texts of the artifact exceed 4 GiB");
        error_at(err, file_path(b, file), where);
        return HEARTH_E_TOO_LARGE;
    }
    *out = (struct hearth_str){(uint32_t)b->pool.count, (uint32_t)length};
    char *p = append(&b->pool, length + 1, 1, err);
    if (!p)
        return HEARTH_E_NO_MEMORY;
    memcpy(p, text, length);
    p[length] = '\0';
    return 0;
}

const char *index_string(const struct index_builder *b, struct hearth_str s) {
    return (const char *)b->pool.data + s.offset;
}

static int add_text(struct index_builder *b, const char *text, struct hearth_str *out, struct hearth_error *err) {
    return index_add_string(b, text, strlen(text), UINT32_MAX, HEARTH_NO_OFFSET, out, err);
}

int index_set_ref(struct index_builder *b, const char *ref, struct hearth_error *err) {
    return add_text(b, ref, &b->ref, err);
}

int index_add_file(struct index_builder *b, const char *path, enum hearth_role role, uint64_t bytes,
                   struct hearth_error *err) {
    struct hearth_index_file f = {.role = (uint32_t)role, .bytes = bytes};
    int r = add_text(b, path, &f.path, err);
    if (r != 0)
        return r;
    struct hearth_index_file *slot = append(&b->files, 1, sizeof(f), err);
    if (!slot)
        return HEARTH_E_NO_MEMORY;
    *slot = f;
    b->bytes += bytes;
    return 0;
}

/* A dtype or format, which the pool holds once. */
static int intern(struct index_builder *b, const char *text, unsigned *number, struct hearth_error *err) {
    size_t length = strlen(text);
    for (unsigned i = 0; i < b->n_dtypes; i++)
        if (b->dtypes[i].length == length && memcmp(index_string(b, b->dtypes[i]), text, length) == 0) {
            *number = i;
            return 0;
        }
    if (b->n_dtypes == DTYPES_MAX)
        return error_set(err, HEARTH_E_TOO_LARGE, "the artifact has more than %d kinds of tensors", DTYPES_MAX);
    int r = add_text(b, text, &b->dtypes[b->n_dtypes], err);
    if (r == 0)
        *number = b->n_dtypes++;
    return r;
}

int index_set_format(struct index_builder *b, uint32_t file, const char *format, struct hearth_error *err) {
    struct hearth_index_file *f = (struct hearth_index_file *)b->files.data + file;
    unsigned number;
    int r = intern(b, format, &number, err);
    if (r != 0)
        return r;
    f->format = b->dtypes[number];
    if (f->role == HEARTH_ROLE_WEIGHTS && b->format.length == 0)
        b->format = f->format;
    return 0;
}

int index_add_tensor(struct index_builder *b, const struct index_tensor_args *t, struct hearth_error *err) {
    unsigned dtype;
    if (t->n_dims > HEARTH_DIMS_MAX) {
        error_set(err, HEARTH_E_MALFORMED, "a tensor with too many dimensions");
        error_at(err, file_path(b, t->file), t->where);
        error_expected(err, "at most %u", HEARTH_DIMS_MAX);
        error_found(err, "%u", t->n_dims);
        return HEARTH_E_MALFORMED;
    }
    int r = intern(b, t->dtype, &dtype, err);
    if (r != 0)
        return r;
    if (b->dims.count > UINT32_MAX - HEARTH_DIMS_MAX || b->tensors.count == UINT32_MAX)
        return error_set(err, HEARTH_E_TOO_LARGE, "the artifact has more than 4294967295 tensors or dimensions");
    uint32_t dims_first = (uint32_t)b->dims.count;
    if (t->n_dims > 0) {
        uint64_t *dims = append(&b->dims, t->n_dims, sizeof(*dims), err);
        if (!dims)
            return HEARTH_E_NO_MEMORY;
        memcpy(dims, t->dims, t->n_dims * sizeof(*dims));
    }
    struct index_draft *slot = append(&b->tensors, 1, sizeof(*slot), err);
    if (!slot)
        return HEARTH_E_NO_MEMORY;
    *slot = (struct index_draft){.name = t->name,
                                 .dtype = (uint16_t)dtype,
                                 .n_dims = (uint16_t)t->n_dims,
                                 .dims_first = dims_first,
                                 .file = t->file,
                                 .offset = t->offset,
                                 .bytes = t->bytes,
                                 .where = t->where};
    return 0;
}

struct index_draft *index_drafts(struct index_builder *b, size_t *count) {
    *count = b->tensors.count;
    return b->tensors.data;
}

const uint64_t *index_dims(const struct index_builder *b, const struct index_draft *t) {
    return (const uint64_t *)b->dims.data + t->dims_first;
}

int index_add_meta(struct index_builder *b, struct hearth_str key, struct hearth_str value, uint32_t file,
                   uint64_t where, struct hearth_error *err) {
    struct meta_draft *slot = append(&b->metadata, 1, sizeof(*slot), err);
    if (!slot)
        return HEARTH_E_NO_MEMORY;
    *slot = (struct meta_draft){.key = key, .value = value, .file = file, .where = where};
    return 0;
}

int index_add_finding(struct index_builder *b, const char *code, const char *file, uint64_t offset, const char *message,
                      struct hearth_error *err) {
    struct hearth_index_finding f = {.offset = offset};
    int r = add_text(b, code, &f.code, err);
    r = r ? r : add_text(b, file, &f.file, err);
    r = r ? r : add_text(b, message, &f.message, err);
    if (r != 0)
        return r;
    struct hearth_index_finding *slot = append(&b->findings, 1, sizeof(f), err);
    if (!slot)
        return HEARTH_E_NO_MEMORY;
    *slot = f;
    return 0;
}

static const char *finding_path(const struct index_builder *b, size_t i) {
    return index_string(b, ((const struct hearth_index_finding *)b->findings.data)[i].file);
}

int index_add_skipped(struct index_builder *b, const char *path, const char *reason, struct hearth_error *err) {
    size_t n = b->n_skipped;
    if (n != b->findings.count || (n > 0 && strcmp(finding_path(b, n - 1), path) > 0))
        return error_set(err, HEARTH_E_SYSTEM, "the files that were left out are not listed in order");
    int r = index_add_finding(b, "skipped", path, HEARTH_NO_OFFSET, reason, err);
    b->n_skipped += r == 0;
    return r;
}

bool index_was_skipped(const struct index_builder *b, const char *path) {
    size_t low = 0, high = b->n_skipped;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = strcmp(finding_path(b, middle), path);
        if (c == 0)
            return true;
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static int duplicate(const struct index_builder *b, const char *what, struct hearth_str name, uint32_t file,
                     uint64_t first, uint64_t second, struct hearth_error *err) {
    char shown[256];
    error_set(err, HEARTH_E_MALFORMED, "duplicate key: %s \"%s\" is there twice, at offsets %llu and %llu", what,
              format_printable(index_string(b, name), name.length, shown, sizeof(shown)), (unsigned long long)first,
              (unsigned long long)second);
    error_at(err, file_path(b, file), second);
    error_hint(err, "two readers may see two different models in such a file: have it written again");
    return HEARTH_E_MALFORMED;
}

static bool same_name(const struct index_builder *b, struct hearth_str x, struct hearth_str y) {
    return x.length == y.length && memcmp(index_string(b, x), index_string(b, y), x.length) == 0;
}

static int no_memory_to_sort(struct hearth_error *err, size_t count) {
    return error_set(err, HEARTH_E_NO_MEMORY, "no memory to sort %zu names", count);
}

static int check_metadata(const struct index_builder *b, struct hearth_error *err) {
    const struct meta_draft *m = b->metadata.data;
    struct sort_input in = {b->pool.data, m, sizeof(*m), b->metadata.count};
    _cleanup_free_ struct sort_item *order = NULL;
    if (in.count > UINT32_MAX || sort_by_name(&in, &order) < 0)
        return no_memory_to_sort(err, in.count);
    for (size_t i = 1; i < in.count; i++) {
        const struct meta_draft *x = &m[order[i - 1].record], *y = &m[order[i].record];
        if (x->file == y->file && same_name(b, x->key, y->key))
            return duplicate(b, "the metadata key", y->key, y->file, x->where, y->where, err);
    }
    return 0;
}

/* Equal names by file number. The sort is stable, so a format that goes file by file has them so already. */
static int order_files(struct index_builder *b, size_t first, size_t count, struct hearth_error *err) {
    struct sort_item *run = b->order + first;
    bool ascending = true;
    for (size_t i = 0; i < count; i++) {
        run[i].key = index_at(b, first + i)->file;
        ascending = ascending && (i == 0 || run[i - 1].key <= run[i].key);
    }
    if (!ascending) {
        _cleanup_free_ struct sort_item *spare = malloc((count / 2 + 1) * sizeof(*spare));
        if (!spare)
            return no_memory_to_sort(err, count);
        sort_by_key(run, count, spare);
    }
    for (size_t i = 1; i < count; i++) {
        const struct index_draft *x = index_at(b, first + i - 1), *y = index_at(b, first + i);
        if (x->file == y->file)
            return duplicate(b, "the tensor", y->name, y->file, x->where, y->where, err);
    }
    return 0;
}

int index_sort(struct index_builder *b, struct hearth_error *err) {
    int r = check_metadata(b, err);
    if (r != 0)
        return r;
    const struct index_draft *t = b->tensors.data;
    struct sort_input in = {b->pool.data, t, sizeof(*t), b->tensors.count};
    free(steal_ptr(&b->order));
    if (sort_by_name(&in, &b->order) < 0)
        return no_memory_to_sort(err, in.count);
    for (size_t first = 0, end; r == 0 && first < in.count; first = end) {
        struct hearth_str name = index_at(b, first)->name;
        for (end = first + 1; end < in.count && same_name(b, name, index_at(b, end)->name); end++)
            ;
        if (end - first > 1)
            r = order_files(b, first, end - first, err);
    }
    return r;
}

const struct index_draft *index_at(const struct index_builder *b, size_t place) {
    return (const struct index_draft *)b->tensors.data + b->order[place].record;
}

size_t index_find(const struct index_builder *b, const char *name, size_t length, uint32_t file) {
    size_t low = 0, high = b->tensors.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct index_draft *t = index_at(b, middle);
        int c = sort_compare(index_string(b, t->name), t->name.length, name, length);
        if (c == 0)
            c = (t->file > file) - (t->file < file);
        if (c == 0)
            return middle;
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}
