/* artifact/format/table.c: the formats hearth knows. A file of its own, so that a test can link another table. */
#include "artifact/format/format.h"

const struct format *const formats[] = {
    &format_safetensors, &format_safetensors_shards, &format_json, &format_text, NULL,
};
