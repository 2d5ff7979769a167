/* loader/blob.c: see blob.h.
 *
 * Memory that is mapped but not populated is never touched: where the pool, the control group or the machine has
 * nothing left, a touch is a SIGBUS or a kill, while MADV_POPULATE_WRITE gives an error. The kernel's own reads into it
 * (O_DIRECT) come only after it.
 */
#include "loader/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/kernel.h"
#include "util/memfd.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

static uint64_t round_up(uint64_t v, uint64_t to) {
    return (v + to - 1) / to * to;
}

uint8_t *map_aligned(int fd, uint64_t bytes, uint64_t align, int protection) {
    uint8_t *area = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    uint8_t *at = (uint8_t *)round_up((uintptr_t)area, align);
    if (mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int e = errno;
        munmap(area, bytes + align);
        errno = e;
        return NULL;
    }
    if (at > area)
        munmap(area, (size_t)(at - area));
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (area + align > at)
        munmap(at + round_up(bytes, page), (size_t)(area + align - at));
    return at;
}

/* Makes and maps it from these pages. 0 or -errno, with what was made in *m either way. */
static int make_from(enum pages pages, const struct backing *b, const char *name, struct blob_memory *m) {
    m->pages = pages;
    m->huge = m->huge_page = 0;
    if (pages == PAGES_HUGETLB) {
        m->fd = memfd_new(name, 0, MFD_HUGETLB);
        struct statfs fs;
        if (m->fd < 0 || fstatfs(m->fd, &fs) < 0)
            return m->fd < 0 ? m->fd : -errno;
        m->huge_page = (uint64_t)fs.f_bsize;
        if (m->bytes < m->huge_page) /* mostly rounding */
            return -ENOSPC;
        m->mapped = m->huge = round_up(m->bytes, m->huge_page);
        while (ftruncate(m->fd, (off_t)m->mapped) < 0)
            if (errno != EINTR)
                return -errno;
    } else {
        m->fd = memfd_new(name, m->bytes, 0);
        if (m->fd < 0)
            return m->fd;
        m->mapped = round_up(m->bytes, b->small_page);
        if (pages != PAGES_SMALL)
            m->huge = m->bytes / b->huge_page * b->huge_page;
        m->huge_page = m->huge > 0 ? b->huge_page : 0;
        if (m->huge == 0)
            m->pages = PAGES_SMALL;
    }
    /* For hugetlb, mapping reserves the pages: a pool that is too small says so here, not by a signal later. */
    m->at = map_aligned(m->fd, m->mapped, m->huge_page > b->small_page ? m->huge_page : b->small_page,
                        PROT_READ | PROT_WRITE);
    if (!m->at)
        return -errno;
    if (m->pages == PAGES_HUGE && madvise(m->at, m->huge, MADV_HUGEPAGE) < 0)
        m->pages = PAGES_COLLAPSE;
    if (m->pages == PAGES_SMALL)
        (void)madvise(m->at, m->mapped, MADV_NOHUGEPAGE); /* shmem_enabled may be always */
    /* A child that inherits a writable mapping would keep F_SEAL_WRITE from being set. */
    if (madvise(m->at, m->mapped, MADV_DONTFORK) < 0)
        return -errno;
    int r = memfd_seal(m->fd, SEALS_FILLING);
    if (r < 0)
        return r;
    m->readonly = memfd_reopen_readonly(m->fd);
    return m->readonly < 0 ? m->readonly : 0;
}

int blob_make(const struct backing *b, const char *name, uint64_t bytes, struct blob_memory *out,
              struct hearth_error *err) {
    struct blob_memory m = BLOB_MEMORY_NULL;
    m.bytes = bytes;
    int r = make_from(b->pages, b, name, &m);
    if (r < 0 && b->pages == PAGES_HUGETLB) {
        blob_memory_deinit(&m);
        r = make_from(b->otherwise, b, name, &m);
    }
    if (r < 0) {
        blob_memory_deinit(&m);
        return error_errno(err, -r, "cannot make %" PRIu64 " bytes of shared memory", bytes);
    }
    *out = m;
    return 0;
}

static int populate(uint8_t *at, uint64_t length) {
    while (madvise(at, length, MADV_POPULATE_WRITE) < 0)
        if (errno != EINTR && errno != EAGAIN)
            return errno == EFAULT ? -ENOMEM : -errno; /* EFAULT: a touch would be a SIGBUS, for no page can be had */
    return 0;
}

int blob_populate(struct blob_memory *m, uint64_t offset, uint64_t length) {
    uint64_t end = offset + length < m->mapped ? offset + length : m->mapped;
    uint64_t huge_end = end < m->huge ? end : m->huge;
    if (m->pages == PAGES_COLLAPSE && offset < huge_end && !atomic_load(&m->no_collapse)) {
        /* One small page each, so that there is something to collapse. */
        int r = 0;
        for (uint64_t at = offset; r == 0 && at < huge_end; at += m->huge_page)
            r = populate(m->at + at, 1);
        if (r < 0)
            return r;
        /* Memory may be too fragmented for this one (EAGAIN, ENOMEM, EBUSY): that is not an error, nor final. */
        if (madvise(m->at + offset, huge_end - offset, MADV_COLLAPSE) < 0 && errno == EINVAL)
            atomic_store(&m->no_collapse, true);
    }
    return populate(m->at + offset, end - offset);
}

/* "FROM-TO ..." begins a mapping in smaps; "Name:  N kB" lines about it follow. */
static bool mapping_line(const char *line, uintptr_t *from) {
    char *end;
    *from = (uintptr_t)strtoull(line, &end, 16);
    return end > line && *end == '-';
}

static uint64_t huge_line(const char *line) {
    static const char *const names[] = {"ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(line, names[i], strlen(names[i])) == 0)
            return strtoull(line + strlen(names[i]), NULL, 10) * 1024;
    return 0;
}

void blob_measure(struct blob_memory *const *blobs, size_t n) {
    _cleanup_fclose_ FILE *f = fopen("/proc/self/smaps", "re");
    _cleanup_free_ char *line = NULL;
    size_t capacity = 0;
    struct blob_memory *current = NULL;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        blobs[i]->huge_got = 0;
        any |= blobs[i]->huge > 0;
    }
    while (any && f && getline(&line, &capacity, f) > 0) {
        uintptr_t from;
        if (!mapping_line(line, &from)) {
            if (current)
                current->huge_got += huge_line(line);
            continue;
        }
        current = NULL;
        for (size_t i = 0; i < n && !current; i++)
            if (from >= (uintptr_t)blobs[i]->at && from < (uintptr_t)blobs[i]->at + blobs[i]->mapped)
                current = blobs[i];
    }
}

int blob_seal(struct blob_memory *m, struct hearth_error *err) {
    if (m->at)
        munmap(m->at, m->mapped);
    m->at = NULL;
    int r = memfd_seal_final(m->fd);
    if (r < 0) {
        r = error_errno(err, -r, "cannot seal loaded memory against writing");
        if (err && err->sys_errno == EBUSY)
            error_hint(err, "something keeps its pages pinned or mapped for writing: a debugger, RDMA, or a driver");
        return r;
    }
    m->fd = close_fd(m->fd);
    return 0;
}

void blob_memory_deinit(struct blob_memory *m) {
    if (m->at)
        munmap(m->at, m->mapped);
    m->at = NULL;
    m->fd = close_fd(m->fd);
    m->readonly = close_fd(m->readonly);
}

uint64_t memfd_resident(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}
