/* util/kernel_file.c: see kernel_file.h. */
#include "util/kernel_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

bool kernel_line(const char *path, char *out, size_t size) {
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f || !fgets(out, (int)size, f))
        return false;
    size_t length = strcspn(out, "\n");
    bool whole = out[length] == '\n' || feof(f);
    out[length] = '\0';
    return whole;
}

bool kernel_number(const char *path, uint64_t *out) {
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    return f && fscanf(f, "%" SCNu64, out) == 1;
}

static void take_line(const char *line, const char *const *keys, uint64_t *values, size_t n_keys) {
    for (size_t i = 0; i < n_keys; i++) {
        size_t n = strlen(keys[i]);
        uint64_t value;
        if (strncmp(line, keys[i], n) == 0 && (line[n] == ' ' || line[n] == ':') &&
            sscanf(line + n + 1, "%" SCNu64, &value) == 1)
            values[i] = value;
    }
}

bool kernel_keys(const char *path, const char *const *keys, uint64_t *values, size_t n) {
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char line[256];
    while (f && fgets(line, sizeof(line), f))
        take_line(line, keys, values, n);
    return f;
}

uint64_t kernel_keyed(const char *path, const char *key) {
    uint64_t value = 0;
    kernel_keys(path, &key, &value, 1);
    return value;
}

bool kernel_word(const char *path, char *out, size_t size) {
    char line[256];
    if (!kernel_line(path, line, sizeof(line)))
        return false;
    char *from = strchr(line, '['), *to = from ? strchr(from, ']') : NULL;
    if (!to)
        return false;
    *to = '\0';
    return snprintf(out, size, "%s", from + 1) < (int)size;
}
