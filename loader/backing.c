/* loader/backing.c: what blobs are made of; see blob.h.
 *
 * Since 6.10 each size of huge page has its own switch, whose "inherit" refers to the older one for all of shared
 * memory; "deny" and "force" in the older one beat both. `never` forbids huge pages at a fault, but MADV_COLLAPSE is an
 * explicit wish and is granted all the same.
 */
#include "loader/blob.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/text.h"

#define THP "/sys/kernel/mm/transparent_hugepage"

/* The word in brackets of a file like "always within_size [never]". */
static bool chosen_word(const char *path, char *out, size_t size) {
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char line[256];
    if (!f || !fgets(line, sizeof(line), f))
        return false;
    char *from = strchr(line, '['), *to = from ? strchr(from, ']') : NULL;
    if (!to)
        return false;
    *to = '\0';
    return snprintf(out, size, "%s", from + 1) < (int)size;
}

static uint64_t pmd_size(const char *root) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s" THP "/hpage_pmd_size", root);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    uint64_t bytes = 0;
    if (!f || fscanf(f, "%" SCNu64, &bytes) != 1 || bytes & (bytes - 1))
        return 0;
    return bytes;
}

static void choose_shmem(const char *root, struct backing *b) {
    char path[PATH_MAX], all[32], own[32];
    b->huge_page = pmd_size(root);
    snprintf(path, sizeof(path), "%s" THP "/shmem_enabled", root);
    if (b->huge_page <= b->small_page || !chosen_word(path, all, sizeof(all))) {
        b->pages = PAGES_SMALL;
        b->huge_page = 0;
        snprintf(b->why, sizeof(b->why), "small pages: this kernel has no huge pages for shared memory");
        return;
    }
    snprintf(path, sizeof(path), "%s" THP "/hugepages-%" PRIu64 "kB/shmem_enabled", root, b->huge_page / 1024);
    const char *word = all;
    if (strcmp(all, "deny") != 0 && strcmp(all, "force") != 0 && chosen_word(path, own, sizeof(own)) &&
        strcmp(own, "inherit") != 0)
        word = own;
    char size[16];
    format_size(b->huge_page, size, sizeof(size));
    if (strcmp(word, "deny") == 0) {
        b->pages = PAGES_SMALL;
        b->huge_page = 0;
        snprintf(b->why, sizeof(b->why), "small pages: shmem_enabled is deny");
    } else if (strcmp(word, "never") == 0) {
        b->pages = PAGES_COLLAPSE;
        snprintf(b->why, sizeof(b->why), "huge pages of %s by MADV_COLLAPSE: shmem_enabled is never", size);
    } else {
        b->pages = PAGES_HUGE;
        snprintf(b->why, sizeof(b->why), "huge pages of %s: shmem_enabled is %s", size, word);
    }
}

void backing_choose(const char *root, enum backing_choice choice, struct backing *out) {
    struct backing b = {.small_page = (uint64_t)sysconf(_SC_PAGESIZE)};
    choose_shmem(root, &b);
    b.otherwise = b.pages;
    if (choice == BACKING_SMALL) {
        b.pages = PAGES_SMALL;
        b.huge_page = 0;
        snprintf(b.why, sizeof(b.why), "small pages, as configured");
    } else if (choice == BACKING_HUGETLB) {
        b.pages = PAGES_HUGETLB;
        char rest[sizeof(b.why)];
        memcpy(rest, b.why, sizeof(rest));
        snprintf(b.why, sizeof(b.why), "hugetlb where its pool has room, else %.100s", rest);
    }
    *out = b;
}
