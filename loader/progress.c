/* loader/progress.c: what a load shows while it is under way: the progress page (hearth/progress.h).
 *
 * The page is made with the load, where that reads any large file: small ones are there within milliseconds. Bits are
 * set under the engine's lock; waking is left out until a client has the page.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <hearth/progress.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/memfd.h"

#define WORD_BITS 64u
#define SEALS_PAGE (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static struct hearth_progress_header *header_of(const struct progress_page *p) {
    return (struct hearth_progress_header *)p->at;
}

static struct hearth_progress_file *file_of(const struct progress_page *p, size_t file) {
    return (struct hearth_progress_file *)(p->at + sizeof(struct hearth_progress_header)) + file;
}

/* ---- making it ---- */

static uint64_t words_of(uint64_t bytes) {
    uint64_t chunks = (bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    return (chunks + WORD_BITS - 1) / WORD_BITS;
}

static bool reads_large_files(const struct artifact *a) {
    for (size_t i = 0; i < a->n_files; i++)
        if (a->files[i].identity.bytes > SMALL_FILE_MAX)
            return true;
    return false;
}

static void lay_out(struct progress_page *p, const struct load *l) {
    const struct artifact *a = l->request.artifact;
    struct hearth_progress_header *h = header_of(p);
    uint64_t word = sizeof(*h) + a->n_files * sizeof(struct hearth_progress_file);
    memcpy(h->magic, HEARTH_PROGRESS_MAGIC, sizeof(h->magic));
    h->version = HEARTH_PROGRESS_VERSION;
    h->header_bytes = sizeof(*h);
    h->total_bytes = p->bytes;
    h->id = l->request.id;
    h->chunk_bytes = CHUNK_BYTES;
    h->files = sizeof(*h);
    h->n_files = (uint32_t)a->n_files;
    h->state = HEARTH_PROGRESS_LOADING;
    for (size_t i = 0; i < a->n_files; i++) {
        struct hearth_progress_file *f = file_of(p, i);
        uint64_t bytes = a->files[i].identity.bytes, words = words_of(bytes) * sizeof(uint64_t);
        *f = (struct hearth_progress_file){.bytes = bytes,
                                           .exposed = word,
                                           .landed = word + words,
                                           .n_chunks = (uint32_t)((bytes + CHUNK_BYTES - 1) / CHUNK_BYTES)};
        word += 2 * words;
    }
}

int progress_make(struct load *l, struct hearth_error *err) {
    const struct artifact *a = l->request.artifact;
    if (!reads_large_files(a))
        return 0;
    uint64_t bytes = sizeof(struct hearth_progress_header) + a->n_files * sizeof(struct hearth_progress_file);
    for (size_t i = 0; i < a->n_files; i++)
        bytes += 2 * words_of(a->files[i].identity.bytes) * sizeof(uint64_t);
    _cleanup_close_ int fd = memfd_new("hearth-progress", bytes, 0);
    if (fd < 0)
        return error_errno(err, -fd, "no memory for a progress page");
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return error_errno(err, errno, "no memory for a progress page");
    (void)madvise(at, bytes, MADV_DONTFORK);
    struct progress_page page = {.fd = -1, .bytes = bytes, .at = at};
    /* Where there is no memory, a touch would be a signal. */
    int r = madvise(at, bytes, MADV_POPULATE_WRITE) < 0 ? -errno : memfd_seal(fd, SEALS_PAGE);
    if (r == 0) {
        page.fd = memfd_reopen_readonly(fd);
        r = page.fd < 0 ? page.fd : 0;
    }
    if (r < 0) {
        progress_deinit(&page);
        return error_errno(err, -r, "no memory for a progress page");
    }
    lay_out(&page, l);
    pthread_mutex_lock(&l->engine->lock); /* the load may be cancelled at any time */
    l->page = page;
    pthread_mutex_unlock(&l->engine->lock);
    return 0;
}

void progress_deinit(struct progress_page *p) {
    if (p->at)
        munmap(p->at, p->bytes);
    p->at = NULL;
    p->fd = close_fd(p->fd);
}

/* ---- what it says ---- */

static void tell(struct progress_page *p) {
    if (!p->shared)
        return;
    uint32_t *sequence = &header_of(p)->sequence;
    __atomic_add_fetch(sequence, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, sequence, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void set_bits(struct progress_page *p, uint64_t words, uint32_t from, uint32_t to) {
    uint64_t *word = (uint64_t *)(p->at + words);
    for (uint32_t i = from; i < to; i++)
        __atomic_fetch_or(&word[i / WORD_BITS], UINT64_C(1) << i % WORD_BITS, __ATOMIC_RELEASE);
}

void progress_landed(struct load *l, size_t file, uint32_t chunk) {
    if (!l->page.at)
        return;
    set_bits(&l->page, file_of(&l->page, file)->landed, chunk, chunk + 1);
    tell(&l->page);
}

void progress_exposed(struct load *l, size_t file, uint32_t chunk, enum hearth_verified verified) {
    if (!l->page.at)
        return;
    struct hearth_progress_file *f = file_of(&l->page, file);
    __atomic_store_n(&f->verified, (uint32_t)verified, __ATOMIC_RELAXED); /* the bit releases it */
    set_bits(&l->page, f->exposed, chunk, chunk + 1);
    tell(&l->page);
}

void progress_settled(struct load *l, size_t file, enum hearth_verified verified) {
    if (!l->page.at)
        return;
    struct hearth_progress_file *f = file_of(&l->page, file);
    __atomic_store_n(&f->verified, (uint32_t)verified, __ATOMIC_RELAXED);
    set_bits(&l->page, f->landed, 0, f->n_chunks);
    set_bits(&l->page, f->exposed, 0, f->n_chunks);
    __atomic_store_n(&f->flags, HEARTH_PROGRESS_SETTLED, __ATOMIC_RELEASE);
    tell(&l->page);
}

void progress_leased(struct load *l, size_t file) {
    if (l->page.at)
        __atomic_store_n(&file_of(&l->page, file)->flags, HEARTH_PROGRESS_LEASED, __ATOMIC_RELEASE);
}

void progress_resident(struct load *l) {
    if (!l->page.at)
        return;
    __atomic_store_n(&header_of(&l->page)->state, HEARTH_PROGRESS_RESIDENT, __ATOMIC_RELEASE);
    tell(&l->page);
}

void progress_failed(struct load *l, const struct hearth_error *err) {
    if (!l->page.at)
        return;
    struct hearth_progress_header *h = header_of(&l->page);
    h->error = *err;
    __atomic_store_n(&h->state, HEARTH_PROGRESS_FAILED, __ATOMIC_RELEASE);
    tell(&l->page);
}
