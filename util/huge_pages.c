/* util/huge_pages.c: see huge_pages.h. */
#include "util/huge_pages.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "util/kernel_file.h"

void huge_pages_read(const char *root, uint64_t small_page, struct huge_pages *out) {
    char path[PATH_MAX], own[sizeof(out->word)];
    *out = (struct huge_pages){.shmem = SHMEM_HUGE_NONE};
    uint64_t bytes;
    snprintf(path, sizeof(path), "%s" HUGE_PAGES_FOLDER "/hpage_pmd_size", root);
    if (!kernel_number(path, &bytes) || bytes & (bytes - 1) || bytes <= small_page)
        return;
    snprintf(path, sizeof(path), "%s" HUGE_PAGES_FOLDER "/shmem_enabled", root);
    if (!kernel_word(path, out->word, sizeof(out->word)))
        return;
    snprintf(path, sizeof(path), "%s" HUGE_PAGES_FOLDER "/hugepages-%" PRIu64 "kB/shmem_enabled", root, bytes / 1024);
    if (strcmp(out->word, "deny") != 0 && strcmp(out->word, "force") != 0 && kernel_word(path, own, sizeof(own)) &&
        strcmp(own, "inherit") != 0)
        memcpy(out->word, own, sizeof(own));
    out->bytes = bytes;
    if (strcmp(out->word, "deny") == 0)
        out->shmem = SHMEM_HUGE_DENIED;
    else if (strcmp(out->word, "never") == 0)
        out->shmem = SHMEM_HUGE_COLLAPSE;
    else
        out->shmem = SHMEM_HUGE_GIVEN;
}
