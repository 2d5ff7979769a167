/* artifact/index_check.c: every rule an index must keep (hearth/index.h), whoever wrote it.
 *
 * - The header: magic, version, its size, the total size; unused fields zero.
 * - The tables lie behind the header in the order of the header, each padded with zeros to 8 bytes, with no gap and
 *   nothing behind the last.
 * - A string lies in the pool, has no NUL inside and one behind it. The pool's first byte is NUL. Strings other than
 *   dtypes, formats and codes (at most 64 bytes each) do not share storage: their lengths together fit the pool. That
 *   bounds the work here, and in everybody who walks the table.
 * - Files: paths are relative, without empty, "." or ".." parts, and unique; roles and states are known values; the sum
 *   of the sizes is the header's.
 * - Tensors: strictly ascending by (name, file); the file exists and holds [offset, offset + bytes); dims are in the
 *   table, at most HEARTH_DIMS_MAX; with a dtype of known size (artifact/format/index_dtype.h) they make up exactly
 *   `bytes`, since a client may go by either.
 * - Metadata and findings: the file exists; a code is not empty.
 *
 * Time: linear in the size of the index, but for sorting the paths.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/format/index_dtype.h"
#include "artifact/parse.h"
#include "util/cleanup.h"
#include "util/error.h"

#define SHORT_MAX 64u

struct view {
    const uint8_t *base;
    size_t bytes;
    struct hearth_index_header h;
    const struct hearth_index_file *files;
    const struct hearth_index_tensor *tensors;
    const struct hearth_index_meta *metadata;
    const struct hearth_index_finding *findings;
    const uint64_t *dims;
    const char *pool;
    uint64_t text_left; /* what the strings may still take of the pool */
    struct hearth_error *err;
};

static int refuse(const struct view *v, uint64_t entry, const char *rule) {
    if (entry == UINT64_MAX)
        return error_set(v->err, HEARTH_E_PARSER, "the index breaks a rule: %s", rule);
    return error_set(v->err, HEARTH_E_PARSER, "the index breaks a rule: %s (entry %" PRIu64 ")", rule, entry);
}

static bool zero(const void *data, size_t bytes) {
    const uint8_t *p = data;
    while (bytes > 0 && *p == 0)
        p++, bytes--;
    return bytes == 0;
}

/* The next table begins at *at. Sets *start to it. */
static bool take_table(const struct view *v, const struct hearth_index_table *t, size_t size, uint64_t *at,
                       const void **start) {
    if (t->offset != *at || t->count > (v->bytes - *at) / size)
        return false;
    uint64_t end = *at + t->count * size, padded = (end + 7) / 8 * 8;
    if (padded > v->bytes || !zero(v->base + end, (size_t)(padded - end)))
        return false;
    *start = v->base + *at;
    *at = padded;
    return true;
}

static int check_header(struct view *v) {
    struct hearth_index_header *h = &v->h;
    if (v->bytes < sizeof(*h))
        return refuse(v, UINT64_MAX, "it is shorter than its header");
    memcpy(h, v->base, sizeof(*h));
    if (memcmp(h->magic, HEARTH_INDEX_MAGIC, sizeof(h->magic)) != 0)
        return refuse(v, UINT64_MAX, "it begins with its magic");
    if (h->version != HEARTH_INDEX_VERSION || h->header_bytes != sizeof(*h))
        return refuse(v, UINT64_MAX, "its version is known");
    if (h->total_bytes != v->bytes || v->bytes % 8 != 0)
        return refuse(v, UINT64_MAX, "it is as long as it says");
    if (h->verified > HEARTH_VERIFIED_SIGNED || h->verdict > HEARTH_VERDICT_REFUSED ||
        !zero(h->reserved, sizeof(h->reserved)))
        return refuse(v, UINT64_MAX, "its header has known values");

    const void *files, *tensors, *dims, *metadata, *findings, *pool;
    uint64_t at = sizeof(*h);
    if (!take_table(v, &h->files, sizeof(struct hearth_index_file), &at, &files) ||
        !take_table(v, &h->tensors, sizeof(struct hearth_index_tensor), &at, &tensors) ||
        !take_table(v, &h->dims, sizeof(uint64_t), &at, &dims) ||
        !take_table(v, &h->metadata, sizeof(struct hearth_index_meta), &at, &metadata) ||
        !take_table(v, &h->findings, sizeof(struct hearth_index_finding), &at, &findings) ||
        !take_table(v, &h->strings, 1, &at, &pool) || at != v->bytes)
        return refuse(v, UINT64_MAX, "its tables follow one another and fill it");
    if (h->files.count > UINT32_MAX || h->tensors.count > UINT32_MAX)
        return refuse(v, UINT64_MAX, "files and tensors can be numbered");
    v->files = files;
    v->tensors = tensors;
    v->dims = dims;
    v->metadata = metadata;
    v->findings = findings;
    v->pool = pool;
    v->text_left = h->strings.count;
    if (h->strings.count == 0 || v->pool[0] != '\0' || v->pool[h->strings.count - 1] != '\0')
        return refuse(v, UINT64_MAX, "its strings are enclosed by NULs");
    return 0;
}

static bool well_formed(const struct view *v, struct hearth_str s) {
    uint64_t pool = v->h.strings.count;
    return s.offset < pool && s.length < pool - s.offset && v->pool[s.offset + s.length] == '\0' &&
           !memchr(v->pool + s.offset, '\0', s.length);
}

static bool short_ok(const struct view *v, struct hearth_str s) {
    return s.length <= SHORT_MAX && well_formed(v, s);
}

/* Charged before it is looked at, so that strings laid over one another cannot cost more than the pool is long. */
static bool text_ok(struct view *v, struct hearth_str s) {
    if (s.length == 0)
        return well_formed(v, s);
    if (v->text_left <= s.length)
        return false;
    v->text_left -= (uint64_t)s.length + 1;
    return well_formed(v, s);
}

static bool path_ok(const struct view *v, struct hearth_str s) {
    const char *p = v->pool + s.offset, *end = p + s.length;
    while (p < end) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        if (!slash)
            return true;
        p = slash + 1;
    }
    return false; /* empty, or a slash at the end */
}

static int compare_paths(const void *a, const void *b, void *pool) {
    const struct hearth_str *x = a, *y = b;
    return strcmp((const char *)pool + x->offset, (const char *)pool + y->offset);
}

static int check_files(struct view *v) {
    uint64_t n = v->h.files.count, sum = 0;
    _cleanup_free_ struct hearth_str *paths = malloc((size_t)(n + 1) * sizeof(*paths));
    if (!paths)
        return error_set(v->err, HEARTH_E_NO_MEMORY, "no memory to check an index of %" PRIu64 " files", n);
    for (uint64_t i = 0; i < n; i++) {
        const struct hearth_index_file *f = &v->files[i];
        if (!text_ok(v, f->path) || !path_ok(v, f->path) || !short_ok(v, f->format))
            return refuse(v, i, "a file has a relative path and a format");
        if (f->role > HEARTH_ROLE_CODE || f->verified > HEARTH_VERIFIED_SIGNED || f->flags & ~HEARTH_FILE_HAS_SHA256 ||
            f->reserved != 0)
            return refuse(v, i, "a file's fields have known values");
        if (!(f->flags & HEARTH_FILE_HAS_SHA256) && !zero(f->sha256, sizeof(f->sha256)))
            return refuse(v, i, "a file without a digest has none");
        if (__builtin_add_overflow(sum, f->bytes, &sum))
            return refuse(v, i, "the files' sizes have a sum");
        paths[i] = f->path;
    }
    if (sum != v->h.bytes)
        return refuse(v, UINT64_MAX, "the files' sizes add up to the artifact's");
    qsort_r(paths, (size_t)n, sizeof(*paths), compare_paths, (void *)v->pool);
    for (uint64_t i = 1; i < n; i++)
        if (compare_paths(&paths[i - 1], &paths[i], (void *)v->pool) == 0)
            return refuse(v, UINT64_MAX, "no two files have one path");
    return 0;
}

/* Both have passed text_ok(), so comparing neighbours costs no more than the pool is long, twice. */
static bool ascending(const struct view *v, const struct hearth_index_tensor *a, const struct hearth_index_tensor *b) {
    size_t shared = a->name.length < b->name.length ? a->name.length : b->name.length;
    int c = memcmp(v->pool + a->name.offset, v->pool + b->name.offset, shared);
    if (c == 0)
        c = (a->name.length > b->name.length) - (a->name.length < b->name.length);
    return c < 0 || (c == 0 && a->file < b->file);
}

/* Multiplied in the order of the dimensions and refused where that overflows, as a reader of safetensors does: a zero
 * that comes later mends nothing. */
static bool size_ok(const struct view *v, const struct hearth_index_tensor *t, const struct dtype *dtype) {
    const uint64_t *dims = v->dims + t->dims_first;
    uint64_t bits = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(bits, dims[i], &bits))
            return false;
    return !__builtin_mul_overflow(bits, (uint64_t)dtype->bits, &bits) && bits % 8 == 0 && bits / 8 == t->bytes;
}

static int check_tensors(struct view *v) {
    struct hearth_str known = {0}; /* most tensors have the dtype of the one before */
    const struct dtype *dtype = NULL;
    for (uint64_t i = 0; i < v->h.tensors.count; i++) {
        const struct hearth_index_tensor *t = &v->tensors[i];
        if (!text_ok(v, t->name) || !short_ok(v, t->dtype))
            return refuse(v, i, "a tensor has a name and a dtype");
        if (t->file >= v->h.files.count)
            return refuse(v, i, "a tensor's file exists");
        uint64_t bytes = v->files[t->file].bytes;
        if (t->offset > bytes || t->bytes > bytes - t->offset)
            return refuse(v, i, "a tensor lies inside its file");
        if (t->n_dims > HEARTH_DIMS_MAX || t->dims_first > v->h.dims.count ||
            t->n_dims > v->h.dims.count - t->dims_first)
            return refuse(v, i, "a tensor's dimensions lie in their table");
        if (i == 0 || t->dtype.offset != known.offset || t->dtype.length != known.length) {
            known = t->dtype;
            dtype = dtype_named(v->pool + known.offset, known.length);
        }
        if (dtype && !size_ok(v, t, dtype))
            return refuse(v, i, "a tensor is as long as its dimensions and dtype say");
        if (i > 0 && !ascending(v, t - 1, t))
            return refuse(v, i, "tensors ascend by name and file");
    }
    return 0;
}

static int check_facts(struct view *v) {
    for (uint64_t i = 0; i < v->h.metadata.count; i++) {
        const struct hearth_index_meta *m = &v->metadata[i];
        if (!text_ok(v, m->key) || !text_ok(v, m->value) || m->file >= v->h.files.count || m->reserved != 0)
            return refuse(v, i, "metadata has a key, a value and a file");
    }
    for (uint64_t i = 0; i < v->h.findings.count; i++) {
        const struct hearth_index_finding *f = &v->findings[i];
        if (f->code.length == 0 || !short_ok(v, f->code) || !text_ok(v, f->file) || !text_ok(v, f->message))
            return refuse(v, i, "a finding has a code, a file and a message");
    }
    return 0;
}

int index_check(const void *index, size_t bytes, struct hearth_error *err) {
    struct view v = {.base = index, .bytes = bytes, .err = err};
    int r = check_header(&v);
    if (r == 0 && (!text_ok(&v, v.h.ref) || !short_ok(&v, v.h.format)))
        r = refuse(&v, UINT64_MAX, "its reference and its format are strings");
    r = r ? r : check_files(&v);
    r = r ? r : check_tensors(&v);
    return r ? r : check_facts(&v);
}
