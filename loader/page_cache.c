/* loader/page_cache.c: what the page cache holds of a file, and loading it from there.
 *
 * A piece that is cached when its file is opened is not read from storage: a hash worker copies it. Where a whole chunk
 * is cached, one worker supplies its memory, copies it and hashes it in one go, while it is in the processor's cache.
 * The rest of the file is read O_DIRECT meanwhile.
 *
 * A copy never waits for storage (RWF_NOWAIT): what has left the page cache since, and all of a file whose file system
 * does not know that flag, goes back to be read.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loader/internal.h"
#include "util/clock.h"
#include "util/kernel.h"

/* cachestat(2), 6.5: what headers of its time lack. */
struct cachestat_range {
    uint64_t offset, length;
};
struct cachestat {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* As kernels without cachestat have it. Of files that the caller does not own, mincore(2) says that all of it is there:
 * then nothing is known. */
static uint64_t by_mincore(int fd, uint64_t offset, uint64_t length, uint64_t page) {
    struct stat st;
    if (fstat(fd, &st) < 0 || (st.st_uid != geteuid() && geteuid() != 0))
        return 0;
    uint64_t from = offset / page * page, bytes = offset + length - from, pages = (bytes + page - 1) / page, cached = 0;
    uint8_t *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)from), resident[4096];
    if (at == MAP_FAILED)
        return 0;
    for (uint64_t done = 0, n; done < pages; done += n) {
        n = pages - done < sizeof(resident) ? pages - done : sizeof(resident);
        if (mincore(at + done * page, n * page, resident) < 0)
            break;
        for (uint64_t i = 0; i < n; i++)
            cached += resident[i] & 1;
    }
    munmap(at, bytes);
    return cached * page;
}

uint64_t cached_bytes(int fd, uint64_t offset, uint64_t length) {
    struct cachestat_range range = {offset, length};
    struct cachestat c;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes;
    if (length == 0)
        return 0;
    bytes = syscall(SYS_cachestat, fd, &range, &c, 0) == 0 ? c.cached * page : by_mincore(fd, offset, length, page);
    return bytes < length ? bytes : length;
}

static int buffered_fd(const struct stream *s) {
    return s->cached >= 0 ? s->cached : s->source;
}

void page_cache_mark(struct stream *s) {
    for (uint32_t i = 0; i < s->n_pieces; i++) {
        uint64_t length = stream_piece_length(s, i);
        if (cached_bytes(buffered_fd(s), i * s->piece_bytes, length) == length)
            s->pieces[i] = CACHED;
    }
}

/* Returns how many bytes it could copy. */
static uint64_t copy(struct stream *s, uint64_t offset, uint64_t length, bool *unknown) {
    uint64_t done = 0;
    while (done < length) {
        struct iovec to = {s->memory.at + offset + done, length - done};
        ssize_t n = preadv2(buffered_fd(s), &to, 1, (off_t)(offset + done), RWF_NOWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        *unknown = n < 0 && errno == EOPNOTSUPP;
        if (n <= 0) /* the end of a file that became shorter, too: who reads it says so */
            break;
        done += (uint64_t)n;
    }
    return done;
}

void copy_cached(struct engine *e, const struct copy_work *w) {
    struct stream *s = w->stream;
    struct load *l = s->load;
    uint64_t offset = w->piece * s->piece_bytes, end = (w->piece + w->n_pieces) * s->piece_bytes;
    uint64_t length = (end < s->bytes ? end : s->bytes) - offset;
    if (w->populate_bytes > 0)
        supply(e, s, w->populate_from, w->populate_bytes);
    if (l->failed) {
        work_ended(l);
        return;
    }
    pthread_mutex_unlock(&e->lock);
    bool unknown = false;
    uint64_t start = clock_now(), copied = copy(s, offset, length, &unknown), landed = clock_now();
    uint32_t chunk = (uint32_t)(offset / CHUNK_BYTES), done = w->n_pieces;
    if (copied < length)
        done = (uint32_t)(copied / s->piece_bytes);
    bool hashed = w->whole && done == w->n_pieces;
    if (hashed)
        chunk_hash(s, chunk);
    uint64_t now = clock_now();
    pthread_mutex_lock(&e->lock);
    if (done > 0 && !l->failed) {
        struct hearth_span *first = &l->resident->phases[HEARTH_PHASE_FIRST_BYTE];
        if (first->start_ns == 0 || start < first->start_ns)
            first->start_ns = start;
        if (first->end_ns == 0)
            first->end_ns = landed;
        load_phase(l, HEARTH_PHASE_READ, start, landed);
        l->resident->from_page_cache += done < w->n_pieces ? done * s->piece_bytes : length;
        for (uint32_t i = 0; i < done; i++)
            piece_landed(s, w->piece + i, hashed);
        if (hashed)
            chunk_hashed(s, chunk, landed, now);
    }
    if (unknown)
        copies_end(s);
    if (done < w->n_pieces)
        copy_returned(s, w->piece + done, w->n_pieces - done);
    work_ended(l);
}
