/* artifact/format/index_write.c: a builder's tables to a descriptor, in one pass through a small buffer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/format/index_build.h"
#include "artifact/format/index_builder.h"
#include "util/cleanup.h"
#include "util/error.h"

struct output {
    int fd;
    size_t used;
    char buffer[65536];
};

static int flush(struct output *o, struct hearth_error *err) {
    for (size_t done = 0; done < o->used;) {
        ssize_t n = write(o->fd, o->buffer + done, o->used - done);
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "the index cannot be written");
        done += n > 0 ? (size_t)n : 0;
    }
    o->used = 0;
    return 0;
}

static int put(struct output *o, const void *data, size_t bytes, struct hearth_error *err) {
    for (const char *p = data; bytes > 0;) {
        size_t n = sizeof(o->buffer) - o->used;
        n = n < bytes ? n : bytes;
        memcpy(o->buffer + o->used, p, n);
        o->used += n;
        p += n;
        bytes -= n;
        int r = o->used == sizeof(o->buffer) ? flush(o, err) : 0;
        if (r != 0)
            return r;
    }
    return 0;
}

static struct hearth_index_table place(uint64_t *at, size_t count, size_t size) {
    struct hearth_index_table t = {.offset = *at, .count = count};
    *at += (count * size + 7) / 8 * 8;
    return t;
}

static int put_tensors(const struct index_builder *b, struct output *o, struct hearth_error *err) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < b->tensors.count; i++) {
        const struct index_draft *d = index_at(b, i);
        struct hearth_index_tensor t = {.name = d->name,
                                        .dtype = b->dtypes[d->dtype],
                                        .offset = d->offset,
                                        .bytes = d->bytes,
                                        .dims_first = d->dims_first,
                                        .n_dims = d->n_dims,
                                        .file = d->file};
        r = put(o, &t, sizeof(t), err);
    }
    return r;
}

static int put_metadata(const struct index_builder *b, struct output *o, struct hearth_error *err) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < b->metadata.count; i++) {
        const struct meta_draft *d = (const struct meta_draft *)b->metadata.data + i;
        struct hearth_index_meta m = {.key = d->key, .value = d->value, .file = d->file};
        r = put(o, &m, sizeof(m), err);
    }
    return r;
}

int index_write(const struct index_builder *b, int fd, struct hearth_error *err) {
    struct hearth_index_header h = {.version = HEARTH_INDEX_VERSION,
                                    .header_bytes = sizeof(h),
                                    .verified = HEARTH_VERIFIED_NONE,
                                    .verdict = HEARTH_VERDICT_OK,
                                    .bytes = b->bytes,
                                    .ref = b->ref,
                                    .format = b->format};
    memcpy(h.magic, HEARTH_INDEX_MAGIC, sizeof(h.magic));
    uint64_t at = sizeof(h);
    h.files = place(&at, b->files.count, sizeof(struct hearth_index_file));
    h.tensors = place(&at, b->tensors.count, sizeof(struct hearth_index_tensor));
    h.dims = place(&at, b->dims.count, sizeof(uint64_t));
    h.metadata = place(&at, b->metadata.count, sizeof(struct hearth_index_meta));
    h.findings = place(&at, b->findings.count, sizeof(struct hearth_index_finding));
    h.strings = place(&at, b->pool.count, 1);
    h.total_bytes = at;

    _cleanup_free_ struct output *o = malloc(sizeof(*o));
    if (!o)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory to write the index");
    o->fd = fd;
    o->used = 0;
    static const char padding[8];
    int r = put(o, &h, sizeof(h), err);
    r = r ? r : put(o, b->files.data, b->files.count * sizeof(struct hearth_index_file), err);
    r = r ? r : put_tensors(b, o, err);
    r = r ? r : put(o, b->dims.data, b->dims.count * sizeof(uint64_t), err);
    r = r ? r : put_metadata(b, o, err);
    r = r ? r : put(o, b->findings.data, b->findings.count * sizeof(struct hearth_index_finding), err);
    r = r ? r : put(o, b->pool.data, b->pool.count, err);
    r = r ? r : put(o, padding, (size_t)(at - h.strings.offset - h.strings.count), err);
    return r ? r : flush(o, err);
}
