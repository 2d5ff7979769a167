/* artifact/format/format.c: see format.h. */
#include "artifact/format/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/error.h"

bool format_ends_with(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && memcmp(path + n - m, suffix, m) == 0;
}

int format_refuse(const struct format_input *in, uint32_t file, uint64_t offset, struct hearth_error *err,
                  const char *rule, const char *text, ...) {
    char what[768];
    va_list ap;
    va_start(ap, text);
    vsnprintf(what, sizeof(what), text, ap);
    va_end(ap);
    error_set(err, HEARTH_E_MALFORMED, "%s: %s", rule, what);
    error_at(err, in->files[file].path, offset);
    return HEARTH_E_MALFORMED;
}

/* The format of a file, or NULL. */
static int choose(const struct format_input *in, uint32_t file, const struct format **out, struct hearth_error *err) {
    const struct format_file *f = &in->files[file];
    *out = NULL;
    for (size_t i = 0; formats[i]; i++)
        if (formats[i]->claims(f)) {
            *out = formats[i];
            return 0;
        }
    if (f->role != HEARTH_ROLE_WEIGHTS || f->bytes == 0)
        return 0;
    uint8_t head[FORMAT_HEAD_BYTES];
    size_t n = f->bytes < sizeof(head) ? (size_t)f->bytes : sizeof(head);
    int r = in->read(in->user, file, 0, head, n, err);
    for (size_t i = 0; r == 0 && formats[i]; i++)
        if (formats[i]->recognises && formats[i]->recognises(f, head, n)) {
            *out = formats[i];
            break;
        }
    return r;
}

/* An error of the reader does not know the file's name. */
static int about(const struct format_file *f, int r, struct hearth_error *err) {
    if (r != 0 && err && err->file[0] == '\0')
        error_at(err, f->path, err->offset);
    return r;
}

int format_parse(const struct format_input *in, struct index_builder *b, struct hearth_error *err) {
    _cleanup_free_ const struct format **chosen = calloc(in->n_files + 1, sizeof(*chosen));
    if (!chosen)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for %u files", in->n_files);
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < in->n_files; i++) {
        r = choose(in, i, &chosen[i], err);
        if (r == 0 && chosen[i])
            r = index_set_format(b, i, chosen[i]->name, err);
        if (r == 0 && chosen[i] && chosen[i]->parse)
            r = chosen[i]->parse(in, i, b, err);
        r = about(&in->files[i], r, err);
    }
    r = r ? r : index_sort(b, err);
    for (uint32_t i = 0; r == 0 && i < in->n_files; i++)
        if (chosen[i] && chosen[i]->check)
            r = about(&in->files[i], chosen[i]->check(in, i, b, err), err);
    return r;
}
