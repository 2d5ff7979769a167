/* loader/backing.c: what blobs are made of; see blob.h. */
#include "loader/blob.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/huge_pages.h"
#include "util/text.h"

static void choose_shmem(const char *root, struct backing *b) {
    struct huge_pages h;
    char size[16];
    huge_pages_read(root, b->small_page, &h);
    b->pages = h.shmem == SHMEM_HUGE_GIVEN ? PAGES_HUGE : h.shmem == SHMEM_HUGE_COLLAPSE ? PAGES_COLLAPSE : PAGES_SMALL;
    b->huge_page = b->pages == PAGES_SMALL ? 0 : h.bytes;
    format_size(h.bytes, size, sizeof(size));
    switch (h.shmem) {
    case SHMEM_HUGE_NONE:
        snprintf(b->why, sizeof(b->why), "small pages: this kernel has no huge pages for shared memory");
        return;
    case SHMEM_HUGE_DENIED:
        snprintf(b->why, sizeof(b->why), "small pages: shmem_enabled is deny");
        return;
    case SHMEM_HUGE_COLLAPSE:
        snprintf(b->why, sizeof(b->why), "huge pages of %s by MADV_COLLAPSE: shmem_enabled is never", size);
        return;
    case SHMEM_HUGE_GIVEN:
        snprintf(b->why, sizeof(b->why), "huge pages of %s: shmem_enabled is %s", size, h.word);
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
