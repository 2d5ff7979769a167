/* ipc/client/index.c: the mapped index, and looking things up in it.
 *
 * The daemon has checked the index, so this does not check every rule again. But it sits in other people's servers:
 * what is cheap is checked when it is mapped (magic, version, each table inside the mapping), and every accessor stays
 * inside those tables whatever the entries say. Nothing here touches a connection: any number of threads may call it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "ipc/client/client.h"

static bool table_fits(const struct hearth_index_header *x, const struct hearth_index_table *t, size_t entry) {
    return t->offset % 8 == 0 && t->offset <= x->total_bytes && t->count <= (x->total_bytes - t->offset) / entry;
}

static int bad_index(struct hearth_error *err, const char *what) {
    error_set(err, HEARTH_E_PROTOCOL, "hearthd sent an index that %s", what);
    error_hint(err, "do the library (%s) and hearthd come from the same release?", hearth_version());
    return HEARTH_E_PROTOCOL;
}

static int check_header(const struct hearth_index_header *x, uint64_t bytes, struct hearth_error *err) {
    if (memcmp(x->magic, HEARTH_INDEX_MAGIC, sizeof(x->magic)) != 0)
        return bad_index(err, "does not begin as one");
    if (x->version != HEARTH_INDEX_VERSION) {
        error_set(err, HEARTH_E_UNSUPPORTED, "hearthd writes another version of the index");
        error_expected(err, "%u", HEARTH_INDEX_VERSION);
        error_found(err, "%" PRIu32, x->version);
        return HEARTH_E_UNSUPPORTED;
    }
    if (x->header_bytes < sizeof(*x) || x->total_bytes > bytes || x->header_bytes > x->total_bytes)
        return bad_index(err, "is cut short");
    if (!table_fits(x, &x->files, sizeof(struct hearth_index_file)) ||
        !table_fits(x, &x->tensors, sizeof(struct hearth_index_tensor)) || !table_fits(x, &x->dims, sizeof(uint64_t)) ||
        !table_fits(x, &x->metadata, sizeof(struct hearth_index_meta)) ||
        !table_fits(x, &x->findings, sizeof(struct hearth_index_finding)) || !table_fits(x, &x->strings, 1))
        return bad_index(err, "has a table outside of itself");
    return 0;
}

int index_map(int fd, int seals, struct mapped_index *out, struct hearth_error *err) {
    uint64_t bytes;
    int code = map_check_seals(fd, seals, &bytes, err);
    if (code)
        return code;
    if (bytes < sizeof(struct hearth_index_header) || bytes > SIZE_MAX)
        return bad_index(err, "is cut short");
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_errno(err, errno, "cannot map the artifact's index (%" PRIu64 " bytes)", bytes);
    const struct hearth_index_header *x = map;
    code = check_header(x, bytes, err);
    if (code) {
        munmap(map, bytes);
        return code;
    }
    const char *base = map;
    *out = (struct mapped_index){
        .header = x,
        .map_bytes = bytes,
        .files = (const void *)(base + x->files.offset),
        .tensors = (const void *)(base + x->tensors.offset),
        .dims = (const void *)(base + x->dims.offset),
        .strings = base + x->strings.offset,
        .n_files = x->files.count,
        .n_tensors = x->tensors.count,
        .n_dims = x->dims.count,
        .n_strings = x->strings.count,
    };
    return 0;
}

void index_unmap(struct mapped_index *index) {
    if (index->header)
        munmap((void *)index->header, index->map_bytes);
    *index = (struct mapped_index){0};
}

/* A string whose NUL is in its place; else the empty string. *length: without the NUL. */
static const char *string_at(const struct mapped_index *x, struct hearth_str s, size_t *length) {
    if (s.offset < x->n_strings && s.length < x->n_strings - s.offset && x->strings[s.offset + s.length] == '\0') {
        *length = s.length;
        return x->strings + s.offset;
    }
    *length = 0;
    return "";
}

const struct hearth_index_header *hearth_index(const struct hearth_artifact *a) {
    return a->index.header;
}

const char *hearth_index_string(const struct hearth_artifact *a, struct hearth_str s) {
    size_t length;
    return string_at(&a->index, s, &length);
}

size_t hearth_file_count(const struct hearth_artifact *a) {
    return a->index.n_files;
}

size_t hearth_tensor_count(const struct hearth_artifact *a) {
    return a->index.n_tensors;
}

int hearth_file_at(const struct hearth_artifact *a, size_t file, struct hearth_file *out, struct hearth_error *err) {
    if (file >= a->index.n_files)
        return error_set(err, HEARTH_E_INVALID, "the artifact has no file %zu: there are %zu", file, a->index.n_files);
    const struct hearth_index_file *f = &a->index.files[file];
    *out = (struct hearth_file){
        .path = hearth_index_string(a, f->path),
        .format = hearth_index_string(a, f->format),
        .role = (enum hearth_role)f->role,
        .verified = (enum hearth_verified)f->verified,
        .bytes = f->bytes,
        .sha256 = f->flags & HEARTH_FILE_HAS_SHA256 ? f->sha256 : NULL,
    };
    bool resident;
    if (stream_look(a, &resident, NULL) || !resident) { /* what the index says of it is not final */
        out->verified = (enum hearth_verified)__atomic_load_n(&a->progress.files[file].verified, __ATOMIC_ACQUIRE);
        out->sha256 = NULL;
    }
    return 0;
}

static bool path_is(const struct mapped_index *x, size_t file, const char *path, size_t path_length) {
    size_t length;
    const char *p = file < x->n_files ? string_at(x, x->files[file].path, &length) : NULL;
    return p && length == path_length && memcmp(p, path, length) == 0;
}

int index_find_file(const struct hearth_artifact *a, const char *path, size_t start, size_t *out,
                    struct hearth_error *err) {
    size_t n = a->index.n_files, length = strlen(path);
    for (size_t i = 0; i < n; i++) {
        size_t file = start < n - i ? start + i : start + i - n;
        if (path_is(&a->index, file, path, length)) {
            *out = file;
            return 0;
        }
    }
    error_set(err, HEARTH_E_NOT_FOUND, "the artifact %s has no such file",
              hearth_index_string(a, a->index.header->ref));
    error_at(err, path, HEARTH_NO_OFFSET);
    return HEARTH_E_NOT_FOUND;
}

int hearth_file_find(const struct hearth_artifact *a, const char *path, size_t *out, struct hearth_error *err) {
    return index_find_file(a, path, 0, out, err);
}

/* The order of index.h: memcmp, shorter first on a tie. */
static int compare_name(const struct mapped_index *x, size_t tensor, const char *name, size_t name_length) {
    size_t length;
    const char *p = string_at(x, x->tensors[tensor].name, &length);
    int c = memcmp(p, name, length < name_length ? length : name_length);
    return c ? c : (length > name_length) - (length < name_length);
}

int index_find_tensor(const struct hearth_artifact *a, const char *file, const char *name, size_t *out,
                      struct hearth_error *err) {
    const struct mapped_index *x = &a->index;
    size_t length = strlen(name), low = 0, high = x->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_name(x, middle, name, length) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    /* Those of one name are neighbours. */
    size_t i = low, file_length = file ? strlen(file) : 0;
    while (file && i < x->n_tensors && compare_name(x, i, name, length) == 0 &&
           !path_is(x, x->tensors[i].file, file, file_length))
        i++;
    if (i >= x->n_tensors || compare_name(x, i, name, length) != 0) {
        const char *ref = hearth_index_string(a, x->header->ref);
        error_set(err, HEARTH_E_NOT_FOUND, "the artifact %s has no tensor \"%s\"", ref, name);
        error_at(err, file, HEARTH_NO_OFFSET);
        return HEARTH_E_NOT_FOUND;
    }
    if (!file && i + 1 < x->n_tensors && compare_name(x, i + 1, name, length) == 0) {
        struct hearth_file first = {.path = ""}, second = {.path = ""};
        (void)hearth_file_at(a, x->tensors[i].file, &first, NULL);
        (void)hearth_file_at(a, x->tensors[i + 1].file, &second, NULL);
        error_set(err, HEARTH_E_INVALID, "several files have a tensor \"%s\"", name);
        error_found(err, "one in %s, one in %s", first.path, second.path);
        error_hint(err, "say which file is meant");
        return HEARTH_E_INVALID;
    }
    *out = i;
    return 0;
}

int index_tensor_at(const struct hearth_artifact *a, size_t i, struct hearth_tensor *out, struct hearth_error *err) {
    const struct mapped_index *x = &a->index;
    if (i >= x->n_tensors)
        return error_set(err, HEARTH_E_INVALID, "the artifact has no tensor %zu: there are %zu", i, x->n_tensors);
    const struct hearth_index_tensor *t = &x->tensors[i];
    if (t->file >= x->n_files || t->n_dims > x->n_dims || t->dims_first > x->n_dims - t->n_dims)
        return bad_index(err, "has a tensor that leads out of its tables");
    uint64_t file_bytes = x->files[t->file].bytes;
    if (t->offset > file_bytes || t->bytes > file_bytes - t->offset)
        return bad_index(err, "has a tensor that leads out of its file");
    *out = (struct hearth_tensor){
        .name = hearth_index_string(a, t->name),
        .dtype = hearth_index_string(a, t->dtype),
        .bytes = t->bytes,
        .shape = x->dims + t->dims_first,
        .n_dims = t->n_dims,
        .file = t->file,
        .offset = t->offset,
    };
    return 0;
}
