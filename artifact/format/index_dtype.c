/* artifact/format/index_dtype.c: see index_dtype.h. */
#include "artifact/format/index_dtype.h"

#include <string.h>

const struct dtype dtypes[DTYPES] = {
    {"BF16", 16},       {"F16", 16},        {"F32", 32},    {"F64", 64}, {"I64", 64},    {"I32", 32},
    {"I16", 16},        {"I8", 8},          {"U8", 8},      {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"U16", 16},    {"U32", 32}, {"U64", 64},    {"C64", 64},
    {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"F4", 4},
};

const struct dtype *dtype_named(const char *name, size_t length) {
    for (size_t i = 0; i < DTYPES; i++)
        if (strlen(dtypes[i].name) == length && memcmp(dtypes[i].name, name, length) == 0)
            return &dtypes[i];
    return NULL;
}
