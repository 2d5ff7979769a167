/* bench/memory.c: memory for benchmarks. See machine.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/machine.h"
#include "util/cleanup.h"
#include "util/kernel.h"
#include "util/memfd.h"

#define STEP (UINT64_C(64) << 20)

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t huge_page_bytes(void) {
    static unsigned long long known;
    static bool asked; /* once: it is called inside the clock */
    if (asked)
        return known;
    asked = true;
    _cleanup_fclose_ FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
    if (!f || fscanf(f, "%llu", &known) != 1)
        known = 0;
    return known;
}

static int populate(char *at, uint64_t bytes) {
    while (madvise(at, bytes, MADV_POPULATE_WRITE) < 0)
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    return 0;
}

int hold_prime(struct hold *h, uint64_t bytes) {
    if (h->at && h->bytes != bytes)
        hold_drop(h);
    if (!h->at) {
        h->at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (h->at == MAP_FAILED) {
            h->at = NULL;
            return -errno;
        }
        madvise(h->at, bytes, MADV_HUGEPAGE);
        h->bytes = bytes;
    }
    atomic_store(&h->given, 0);
    return populate(h->at, bytes);
}

void hold_give(struct hold *h, uint64_t bytes) {
    uint64_t at = atomic_fetch_add(&h->given, bytes);
    if (at < h->bytes)
        madvise(h->at + at, least(bytes, h->bytes - at), MADV_DONTNEED);
}

void hold_drop(struct hold *h) {
    if (h->at)
        munmap(h->at, h->bytes);
    *h = (struct hold){0};
}

/* True when MADV_HUGEPAGE makes huge pages on a memfd here; else they take MADV_COLLAPSE. */
static bool advice_suffices(void) {
    _cleanup_fclose_ FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    char line[128] = "";
    return f && fgets(line, sizeof(line), f) && !strstr(line, "[never]") && !strstr(line, "[deny]");
}

int memory_map(struct memory *m, uint64_t bytes, bool huge) {
    uint64_t page = huge ? huge_page_bytes() : 0;
    _cleanup_close_ int fd = memfd_new("hearth-bench", bytes, 0);
    if (fd < 0)
        return fd;
    uint64_t align = page ? page : (uint64_t)sysconf(_SC_PAGESIZE);
    char *area = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return -errno;
    char *at = (char *)(((uintptr_t)area + align - 1) / align * align);
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return -errno;
    *m = (struct memory){.fd = steal_fd(&fd), .at = at, .bytes = bytes, .huge = page != 0};
    m->advised = page && advice_suffices();
    if (m->advised)
        madvise(at, bytes, MADV_HUGEPAGE);
    return 0;
}

int memory_populate(struct memory *m, uint64_t offset, uint64_t bytes, struct hold *from) {
    uint64_t page = huge_page_bytes();
    if (from)
        hold_give(from, bytes);
    for (uint64_t i = 0; m->huge && !m->advised && i + page <= bytes; i += page) {
        *(volatile char *)(m->at + offset + i) = 0;
        madvise(m->at + offset + i, page, MADV_COLLAPSE); /* small pages if it cannot: what follows populates them */
    }
    return populate(m->at + offset, bytes);
}

int memory_new(struct memory *m, uint64_t bytes, bool huge, struct hold *from) {
    int r = memory_map(m, bytes, huge);
    for (uint64_t done = 0; r == 0 && done < bytes; done += STEP) {
        uint64_t piece = least(STEP, bytes - done);
        r = memory_populate(m, done, piece, from);
    }
    return r;
}

void memory_drop(struct memory *m) {
    if (m->at)
        munmap(m->at, m->bytes);
    m->fd = m->at ? close_fd(m->fd) : -1;
    m->at = NULL;
}
