/* Digest files: any text is read or refused, and what is read keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "artifact/digests.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct digest_list list = {0};
    struct hearth_error err;
    int r = digest_parse((const char *)data, size, "fuzz", &list, &err);
    if (r != 0 && (r != (int)err.code || err.offset > size))
        abort();
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const char *path = list.lines[i].path;
        if (list.lines[i].offset >= size || (*path != '/' && (strstr(path, "//") || strncmp(path, "./", 2) == 0)))
            abort();
    }
    digest_list_deinit(&list);
    return 0;
}
