/* The formats, fed with files in memory. One input holds up to three: a byte says which (a safetensors file, a second
 * one, or the index that names both), then come two bytes of length, then the file. What is accepted must make an index
 * that passes every rule: whatever the formats let through, index_check() has the last word in production too.
 *
 * Files that an input does not give are small valid ones, so no corpus is needed to begin with. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "artifact/format/format.h"
#include "artifact/parse.h"
#include "util/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

#define N_FILES 3

struct slice {
    const uint8_t *data;
    size_t bytes;
};

static const struct format_file names[N_FILES] = {
    {"a.safetensors", HEARTH_ROLE_WEIGHTS, 0},
    {"b.safetensors", HEARTH_ROLE_WEIGHTS, 0},
    {"m.safetensors.index.json", HEARTH_ROLE_METADATA, 0},
};

static int read_slice(void *user, uint32_t file, uint64_t offset, void *buffer, size_t length,
                      struct hearth_error *err) {
    const struct slice *s = (const struct slice *)user + file;
    (void)err;
    if (offset > s->bytes || length > s->bytes - offset)
        abort(); /* a format may not read outside of its file */
    memcpy(buffer, s->data + offset, length);
    return 0;
}

/* The index through a memfd, as in production, and through its rules. */
static void check(struct index_builder *b) {
    static int fd = -1;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (fd < 0)
        fd = memfd_create("index", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0 || index_write(b, fd, &err) != 0)
        abort();
    off_t bytes = lseek(fd, 0, SEEK_END);
    void *index = malloc((size_t)bytes);
    if (!index || pread(fd, index, (size_t)bytes, 0) != bytes)
        abort();
    if (index_check(index, (size_t)bytes, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    free(index);
}

static void parse(const struct slice *slices) {
    struct index_builder *b = index_builder_new();
    struct format_file files[N_FILES];
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (!b)
        return;
    for (uint32_t i = 0; i < N_FILES; i++) {
        files[i] = names[i];
        files[i].bytes = slices[i].bytes;
        if (index_add_file(b, files[i].path, files[i].role, files[i].bytes, &err) != 0)
            abort();
    }
    struct format_input in = {.files = files, .n_files = N_FILES, .read = read_slice, .user = (void *)slices};
    int r = format_parse(&in, b, &err);
    if (r != (int)err.code || (r != 0 && err.message[0] == '\0'))
        abort(); /* an error says what it is */
    if (r == 0)
        check(b);
    index_builder_free(b);
}

/* A file's own header length is put right, or no mutation would get past it. */
static void put_length(uint8_t *file, size_t bytes, size_t data) {
    uint64_t n = bytes >= 8 + data ? bytes - 8 - data : 0;
    for (int i = 0; i < 8 && i < (int)bytes; i++)
        file[i] = (uint8_t)(n >> 8 * i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char whole[] = "........{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}x";
    static const char map[] = "{\"weight_map\":{\"t\":\"a.safetensors\"}}";
    uint8_t first[sizeof(whole) - 1];
    memcpy(first, whole, sizeof(first));
    put_length(first, sizeof(first), 1);
    /* What the input does not give is a valid file: then the others are reached. */
    struct slice slices[N_FILES] = {
        {first, sizeof(first)}, {first, sizeof(first)}, {(const uint8_t *)map, sizeof(map) - 1}};
    uint8_t *copies[N_FILES] = {NULL};
    while (size >= 3) {
        unsigned which = data[0] % N_FILES;
        size_t bytes = data[1] | (size_t)data[2] << 8;
        bool right = data[0] & 0x80;
        data += 3;
        size -= 3;
        bytes = bytes < size ? bytes : size;
        free(copies[which]);
        copies[which] = malloc(bytes + 1);
        if (!copies[which])
            abort();
        memcpy(copies[which], data, bytes);
        if (which < 2 && right)
            put_length(copies[which], bytes, bytes > 0 ? data[bytes - 1] % 16 : 0);
        slices[which] = (struct slice){copies[which], bytes};
        data += bytes;
        size -= bytes;
    }
    parse(slices);
    for (unsigned i = 0; i < N_FILES; i++)
        free(copies[i]);
    return 0;
}

/* Now and then a whole word of the format is put somewhere: letters alone would not find them. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
    static const char *const words[] = {
        "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
        "\"__metadata__\":{\"k\":\"v\"},",
        "\"dtype\":\"F4\"",
        "\"shape\":[2,0]",
        "\"data_offsets\":[0,0]",
        "18446744073709551615",
        "9223372036854775808",
        "\\ud83d\\ude00",
        "{\"weight_map\":{\"t\":\"b.safetensors\"}}",
        "null",
        "\"\\u0000\"",
        "[[[[",
        "-0.5e+3",
        "\xc3\xa4",
        "\x80\x40\x00",
    };
    if (seed % 4 != 0)
        return LLVMFuzzerMutate(data, size, max);
    const char *word = words[seed / 4 % (sizeof(words) / sizeof(words[0]))];
    size_t n = strlen(word), at = size > 0 ? (seed >> 8) % (size + 1) : 0;
    if (n > max - size)
        return LLVMFuzzerMutate(data, size, max);
    memmove(data + at + n, data + at, size - at);
    memcpy(data + at, word, n);
    return size + n;
}
