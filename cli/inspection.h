/* cli/inspection.h: what `hearth inspect` found, and its two forms.
 *
 * An inspection always exists, also of an artifact that was refused: then `artifact` or `index` is NULL, and `error`
 * says why. The index has passed index_check(): its offsets can be followed without further thought.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

#include "artifact/artifact.h"

struct inspection {
    const char *ref;           /* the absolute path */
    struct artifact *artifact; /* owned; NULL when it could not be resolved */
    const uint8_t *index;      /* mapped, owned; NULL when it could not be parsed */
    size_t index_bytes;
    struct hearth_error error; /* code 0 when all went well */
};

static inline const struct hearth_index_header *inspection_header(const struct inspection *in) {
    return (const struct hearth_index_header *)in->index;
}
/* A table of the index: inspection_table(in, h->files) is a const struct hearth_index_file *. */
static inline const void *inspection_table(const struct inspection *in, struct hearth_index_table t) {
    return in->index + t.offset;
}
static inline const char *inspection_string(const struct inspection *in, struct hearth_str s) {
    return (const char *)in->index + inspection_header(in)->strings.offset + s.offset;
}

/* "ok", "unsafe" or "refused". */
const char *inspection_verdict(const struct inspection *in);
/* The path inside the artifact that an error's file is about: its end, when it lies in the artifact. */
const char *inspection_inside(const struct inspection *in, const char *path);
/* Whether a file holds weights in a format that hearth does not look into: a finding that the index, which says what
 * was found, has not. It changes no verdict. */
bool inspection_is_opaque(const struct inspection *in, const struct hearth_index_file *file);
#define INSPECTION_OPAQUE_CODE "not_inspected"
#define INSPECTION_OPAQUE_MESSAGE "held as it is: this version does not look into this format"
/* The numbers of the tensors in the order of (file, offset, name); malloc'd, NULL without memory or tensors. */
uint32_t *inspection_tensors(const struct inspection *in);

void inspection_print_json(const struct inspection *in);
void inspection_print(const struct inspection *in, bool all_tensors);
