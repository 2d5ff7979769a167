/* cli/disk.c: see disk.h. */
#include "cli/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/kernel.h"

#define READERS 16u
#define READ_BYTES (UINT64_C(4) << 20)
#define PAGE_MAX (UINT64_C(64) << 10) /* a multiple of what any file system wants of lengths */

struct piece {
    size_t file;
    uint64_t offset, bytes;
};

struct measuring {
    const struct artifact *a;
    struct piece *pieces;
    size_t n_pieces;
    _Atomic size_t next;
    uint64_t end_ns;
    uint8_t *memory; /* READ_BYTES for each reader */
    _Atomic uint64_t bytes;
    pthread_mutex_t lock;
    struct hearth_error error; /* the first one; guarded by `lock` */
};

struct reader {
    struct measuring *m;
    unsigned number;
    pthread_t thread;
};

/* Every so many pieces of all files, so that what is read is no more than was asked for, and is of everywhere. */
static bool choose_pieces(struct measuring *m, uint64_t most_bytes) {
    const struct artifact *a = m->a;
    uint64_t total = 0, at = 0;
    for (size_t i = 0; i < a->n_files; i++)
        total += (a->files[i].identity.bytes + READ_BYTES - 1) / READ_BYTES;
    uint64_t most = most_bytes / READ_BYTES, step = most && total > most ? (total + most - 1) / most : 1;
    m->pieces = calloc(total / step + 1, sizeof(*m->pieces));
    for (size_t i = 0; m->pieces && i < a->n_files; i++) {
        uint64_t bytes = a->files[i].identity.bytes;
        for (uint64_t offset = 0; offset < bytes; offset += READ_BYTES)
            if (at++ % step == 0)
                m->pieces[m->n_pieces++] =
                    (struct piece){i, offset, bytes - offset < READ_BYTES ? bytes - offset : READ_BYTES};
    }
    return m->pieces != NULL;
}

static void fail(struct measuring *m, const struct hearth_error *err) {
    pthread_mutex_lock(&m->lock);
    if (!m->error.code)
        m->error = *err;
    pthread_mutex_unlock(&m->lock);
    atomic_store(&m->next, m->n_pieces);
}

/* Whole blocks are asked for, and what comes at a file's end is less. */
static bool read_piece(struct measuring *m, const struct piece *p, int fd, uint8_t *memory) {
    uint64_t whole = (p->bytes + PAGE_MAX - 1) / PAGE_MAX * PAGE_MAX;
    for (uint64_t done = 0; done < p->bytes;) {
        ssize_t n = pread(fd, memory + done, whole - done, (off_t)(p->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || (done + (uint64_t)n < p->bytes && n % 512 != 0)) {
            if (n < 0 && errno == EINVAL) /* it takes O_DIRECT when it is opened, and not when it is read */
                return true;
            struct hearth_error err = HEARTH_ERROR_INIT;
            char path[sizeof(err.file)];
            error_errno(&err, n < 0 ? errno : EIO, "cannot read %s", m->a->files[p->file].path);
            error_at(&err, artifact_path(m->a, p->file, path, sizeof(path)), p->offset + done);
            fail(m, &err);
            return false;
        }
        done += (uint64_t)n;
        atomic_fetch_add(&m->bytes, (uint64_t)n);
    }
    return true;
}

static void *read_main(void *user) {
    const struct reader *r = user;
    struct measuring *m = r->m;
    _cleanup_close_ int fd = -1;
    size_t open = SIZE_MAX;
    for (size_t i; (i = atomic_fetch_add(&m->next, 1)) < m->n_pieces && clock_now() < m->end_ns;) {
        const struct piece *p = &m->pieces[i];
        if (p->file != open) {
            struct hearth_error err = HEARTH_ERROR_INIT;
            fd = close_fd(fd);
            int e = artifact_open(m->a, p->file, O_DIRECT, &fd, &err);
            if (e && e != HEARTH_E_UNSUPPORTED) {
                fail(m, &err);
                return NULL;
            }
            open = p->file;
        }
        if (fd >= 0 && !read_piece(m, p, fd, m->memory + r->number * READ_BYTES))
            return NULL;
    }
    return NULL;
}

static int run_readers(struct measuring *m, struct disk_rate *out, struct hearth_error *err) {
    struct reader readers[READERS];
    unsigned n = 0;
    uint64_t start = clock_now();
    for (; n < READERS; n++) {
        readers[n] = (struct reader){.m = m, .number = n};
        if (pthread_create(&readers[n].thread, NULL, read_main, &readers[n]) != 0)
            break;
    }
    if (n == 0)
        return error_set(err, HEARTH_E_NO_MEMORY, "no thread can be started to read the disk");
    for (unsigned i = 0; i < n; i++)
        pthread_join(readers[i].thread, NULL);
    uint64_t bytes = atomic_load(&m->bytes);
    *out = (struct disk_rate){bytes, bytes ? clock_now() - start : 0};
    if (m->error.code && err)
        *err = m->error;
    return (int)m->error.code;
}

int disk_measure(const struct artifact *a, uint64_t most_bytes, uint64_t most_ns, struct disk_rate *out,
                 struct hearth_error *err) {
    struct measuring m = {.a = a, .lock = PTHREAD_MUTEX_INITIALIZER, .error = HEARTH_ERROR_INIT};
    size_t bytes = READERS * READ_BYTES;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *out = (struct disk_rate){0, 0};
    if (memory == MAP_FAILED || !choose_pieces(&m, most_bytes)) {
        if (memory != MAP_FAILED)
            munmap(memory, bytes);
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory to measure the disk with");
    }
    /* The disk is faster into huge pages, and a load has them. */
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    (void)madvise(memory, bytes, MADV_POPULATE_WRITE);
    m.memory = memory;
    m.end_ns = clock_now() + most_ns;
    int r = run_readers(&m, out, err);
    munmap(memory, bytes);
    free(m.pieces);
    return r;
}

/* ---- the page cache ---- */

/* UINT64_MAX when neither cachestat(2) nor mincore(2) tells. */
static uint64_t cached_of(int fd, uint64_t bytes) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), cached = 0;
    struct {
        uint64_t offset, length;
    } range = {0, bytes};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } c;
    if (bytes == 0)
        return 0;
    if (syscall(SYS_cachestat, fd, &range, &c, 0) == 0)
        return c.cached * page;
    if (errno == EPERM) /* it tells the file's owner alone, and so does mincore(2), which says "all of it" to others */
        return UINT64_MAX;
    void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    size_t pages = (size_t)((bytes + page - 1) / page);
    _cleanup_free_ unsigned char *there = malloc(pages);
    bool told = at != MAP_FAILED && there && mincore(at, bytes, there) == 0;
    for (size_t i = 0; told && i < pages; i++)
        cached += (there[i] & 1) * page;
    if (at != MAP_FAILED)
        munmap(at, bytes);
    return told ? cached : UINT64_MAX;
}

int disk_drop_cache(const struct artifact *a, uint64_t *left, struct hearth_error *err) {
    *left = 0;
    for (size_t i = 0; i < a->n_files; i++) {
        _cleanup_close_ int fd = -1;
        int r = artifact_open(a, i, 0, &fd, err);
        if (r)
            return r;
        (void)fdatasync(fd); /* what is dirty stays */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        uint64_t cached = cached_of(fd, a->files[i].identity.bytes);
        *left = cached == UINT64_MAX || *left == UINT64_MAX ? UINT64_MAX : *left + cached;
    }
    return 0;
}
