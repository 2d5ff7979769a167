/* Files in memory for the tests of artifact/format/: parsed in this process, written as an index, checked. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "artifact/format/format.h"
#include "artifact/parse.h"
#include "util/error.h"

struct memory_file {
    const char *path;
    const void *data;
    size_t bytes;
};

static int memory_read(void *user, uint32_t file, uint64_t offset, void *buffer, size_t length,
                       struct hearth_error *err) {
    const struct memory_file *f = (const struct memory_file *)user + file;
    (void)err;
    assert_true(offset <= f->bytes && length <= f->bytes - offset);
    memcpy(buffer, (const char *)f->data + offset, length);
    return 0;
}

/* A whole index in memory of exactly its size, so that a sanitizer sees every byte read beyond it. Freed by the
 * caller. NULL, with err set, when the files are refused. */
static struct hearth_index_header *parse_files(const struct memory_file *files, uint32_t n, const char *skipped,
                                               struct hearth_error *err) {
    struct index_builder *b = index_builder_new();
    struct format_file *list = calloc(n + 1, sizeof(*list));
    struct hearth_index_header *index = NULL;
    assert_non_null(b);
    assert_non_null(list);
    error_clear(err);
    for (uint32_t i = 0; i < n; i++) {
        list[i] = (struct format_file){files[i].path, HEARTH_ROLE_WEIGHTS, files[i].bytes};
        assert_int_equal(index_add_file(b, list[i].path, list[i].role, list[i].bytes, NULL), 0);
    }
    if (skipped)
        assert_int_equal(index_add_skipped(b, skipped, "left out", NULL), 0);
    struct format_input in = {.files = list, .n_files = n, .read = memory_read, .user = (void *)files};
    int r = format_parse(&in, b, err);
    assert_int_equal(r, err->code);
    if (r == 0) {
        int fd = memfd_create("index", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(index_write(b, fd, err), 0);
        off_t bytes = lseek(fd, 0, SEEK_END);
        index = malloc((size_t)bytes);
        assert_non_null(index);
        assert_int_equal(pread(fd, index, (size_t)bytes, 0), bytes);
        close(fd);
        if (index_check(index, (size_t)bytes, err) != 0)
            fail_msg("%s", err->message);
    }
    free(list);
    index_builder_free(b);
    return index;
}

static inline const void *table_of(const struct hearth_index_header *h, struct hearth_index_table t) {
    return (const char *)h + t.offset;
}

static inline const char *text_of(const struct hearth_index_header *h, struct hearth_str s) {
    return (const char *)h + h->strings.offset + s.offset;
}

static inline const struct hearth_index_tensor *tensor_named(const struct hearth_index_header *h, const char *name) {
    const struct hearth_index_tensor *t = table_of(h, h->tensors);
    for (uint64_t i = 0; i < h->tensors.count; i++)
        if (strcmp(text_of(h, t[i].name), name) == 0)
            return &t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* A safetensors file: the header's text, and `data` zeros behind it. */
static inline struct memory_file safetensors(const char *path, const char *header, size_t data) {
    size_t n = strlen(header);
    uint8_t *bytes = calloc(8 + n + data + 1, 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    return (struct memory_file){path, bytes, 8 + n + data};
}
