/* artifact/format/index_dtype.h: the dtypes whose size is known, by the spelling that the index has for them, which is
 * that of safetensors: these are also all that safetensors has. Other formats may bring others; of those only `bytes`
 * is known.
 */
#pragma once

#include <stddef.h>

struct dtype {
    const char *name;
    unsigned bits; /* of one element */
};

#define DTYPES 22u
extern const struct dtype dtypes[DTYPES];

/* The dtype of this name, which needs no NUL at its end, or NULL. */
const struct dtype *dtype_named(const char *name, size_t length);
