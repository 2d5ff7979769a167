/* loader/small.c: files that are not worth a stream, read by the load's own thread.
 *
 * An artifact may have thousands of them. Each is opened a few files ahead of its turn, so that storage works on many
 * at once while this thread takes one after the other: read, hash, a memfd from the bytes, sealed. No mapping and no
 * other thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/memfd.h"

#define OPEN_AHEAD 32u
/* How much may be read before memory is asked for again. */
#define CHECK_BYTES (UINT64_C(64) << 20)

struct small {
    struct load *l;
    /* Files whose turn comes, by number modulo OPEN_AHEAD: the descriptor or -1, and what the page cache had of it. */
    int ahead[OPEN_AHEAD];
    uint64_t cached[OPEN_AHEAD];
    uint8_t *buffer; /* SMALL_FILE_MAX */
    EVP_MD_CTX *sha_ctx;
    uint64_t since_check;
    uint64_t open_start, open_end; /* of all that were opened so far */
};

static bool is_small(const struct load *l, size_t i) {
    return l->request.artifact->files[i].identity.bytes <= SMALL_FILE_MAX;
}

static int about_file(const struct load *l, size_t i, uint64_t offset, struct hearth_error *err) {
    char path[sizeof(err->file)];
    error_at(err, artifact_path(l->request.artifact, i, path, sizeof(path)), offset);
    return err ? (int)err->code : HEARTH_E_SYSTEM;
}

static int open_ahead(struct small *s, size_t i, struct hearth_error *err) {
    const struct artifact *a = s->l->request.artifact;
    int fd;
    s->open_start = s->open_start ? s->open_start : clock_now();
    int r = artifact_open(a, i, 0, &fd, err);
    s->open_end = clock_now();
    if (r)
        return r;
    s->ahead[i % OPEN_AHEAD] = fd;
    if (a->files[i].identity.bytes == 0)
        return 0; /* for both calls below, a length of 0 is all there is */
    s->cached[i % OPEN_AHEAD] = cached_bytes(fd, 0, a->files[i].identity.bytes);
    (void)posix_fadvise(fd, 0, (off_t)a->files[i].identity.bytes, POSIX_FADV_WILLNEED);
    return 0;
}

static int read_whole(struct small *s, size_t i, int fd, uint64_t bytes, struct hearth_error *err) {
    const char *name = s->l->request.artifact->files[i].path;
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, s->buffer + done, bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_errno(err, errno, "cannot read %s", name);
            return about_file(s->l, i, done, err);
        }
        if (n == 0) {
            error_set(err, HEARTH_E_CHANGED, "%s became shorter while it was read", name);
            error_expected(err, "%" PRIu64 " bytes", bytes);
            error_found(err, "the end of the file at %" PRIu64, done);
            error_hint(err, "load it again when nothing writes to it any more");
            return about_file(s->l, i, done, err);
        }
        done += (uint64_t)n;
    }
    struct file_identity now;
    int e = file_identity_of(fd, &now);
    if (e < 0) {
        error_errno(err, -e, "cannot examine %s", name);
        return about_file(s->l, i, HEARTH_NO_OFFSET, err);
    }
    if (!file_identity_equal(&now, &s->l->request.artifact->files[i].identity))
        return artifact_changed(s->l->request.artifact, i, &now, err);
    return 0;
}

static int hash_whole(struct small *s, size_t i, int fd, struct blob *b, struct hearth_error *err) {
    const struct record *r = remembered(s->l, i, fd, &b->lasting);
    if (s->l->request.verify != HEARTH_VERIFY_NONE && b->bytes > 0) {
        b->chunks = calloc(1, sizeof(*b->chunks));
        if (!b->chunks)
            return error_errno(err, ENOMEM, "cannot load a file");
        b->n_chunks = 1;
        hash_chunk(b, 0, s->buffer, b->bytes);
        int e = r ? chunk_compare(s->l, i, r, b, 0, err) : 0;
        if (e)
            return e;
    }
    if (!r && wants_sha256(&s->l->request.artifact->files[i], s->l->request.verify)) {
        if (EVP_DigestInit_ex(s->sha_ctx, s->l->engine->sha256, NULL) != 1 ||
            EVP_DigestUpdate(s->sha_ctx, s->buffer, b->bytes) != 1 ||
            EVP_DigestFinal_ex(s->sha_ctx, b->sha256, NULL) != 1)
            return error_set(err, HEARTH_E_SYSTEM, "libcrypto cannot compute SHA-256");
        b->has_sha256 = true;
    }
    return judge(s->l, i, r, b, err);
}

static int one_file(struct small *s, size_t i, int fd, struct hearth_error *err) {
    struct load *l = s->l;
    struct blob *b = &l->resident->blobs[i];
    b->bytes = l->request.artifact->files[i].identity.bytes;
    if (s->since_check >= CHECK_BYTES) {
        s->since_check = 0;
        int r = memory_still_fits(l->engine, UINT64_MAX, err);
        if (r)
            return r;
    }
    uint64_t cached = s->cached[i % OPEN_AHEAD];
    uint64_t start = clock_now();
    int r = read_whole(s, i, fd, b->bytes, err);
    uint64_t landed = clock_now();
    if (!r)
        r = hash_whole(s, i, fd, b, err);
    if (r)
        return r;
    uint64_t hashed = clock_now();
    pthread_mutex_lock(&l->engine->lock);
    hold_give(l->engine, b->bytes);
    pthread_mutex_unlock(&l->engine->lock);
    _cleanup_close_ int memory = memfd_from_bytes("hearth", s->buffer, b->bytes);
    b->fd = memory < 0 ? memory : memfd_reopen_readonly(memory);
    if (b->fd < 0) {
        int e = -b->fd;
        b->fd = -1;
        error_errno(err, e, "cannot make %" PRIu64 " bytes of shared memory", b->bytes);
        return about_file(l, i, HEARTH_NO_OFFSET, err);
    }
    b->resident_bytes = memfd_resident(b->fd);
    b->backing = b->bytes > 0 ? HEARTH_BACKING_SHMEM : HEARTH_BACKING_NONE;
    s->since_check += b->resident_bytes;
    atomic_fetch_add(&l->landed, b->bytes);

    uint64_t made = clock_now();
    pthread_mutex_lock(&l->engine->lock);
    load_phase(l, HEARTH_PHASE_OPEN, s->open_start, s->open_end);
    /* Memory is made, filled and sealed in one step. */
    load_phase(l, HEARTH_PHASE_SEAL, hashed, made);
    if (b->bytes > 0) {
        load_phase(l, HEARTH_PHASE_POPULATE, hashed, made);
        load_phase(l, HEARTH_PHASE_READ, start, landed);
        if (l->request.verify != HEARTH_VERIFY_NONE)
            load_phase(l, HEARTH_PHASE_HASH, landed, hashed);
        struct hearth_span *first = &l->resident->phases[HEARTH_PHASE_FIRST_BYTE];
        if (first->end_ns == 0) {
            first->start_ns = first->start_ns ? first->start_ns : start;
            first->end_ns = landed;
        }
    }
    l->resident->from_page_cache += cached;
    l->resident->from_disk += b->bytes - cached;
    load_unreserve(l, b->resident_bytes);
    progress_settled(l, i, b->verified);
    bool failed = l->failed;
    pthread_mutex_unlock(&l->engine->lock);
    return failed ? error_set(err, HEARTH_E_CANCELLED, "the load was given up") : 0;
}

static void small_deinit(struct small *s) {
    for (unsigned i = 0; i < OPEN_AHEAD; i++)
        close_fd(s->ahead[i]);
    EVP_MD_CTX_free(s->sha_ctx);
    free(s->buffer);
}

int small_files(struct load *l, struct hearth_error *err) {
    _cleanup_(small_deinit) struct small s = {.l = l, .buffer = malloc(SMALL_FILE_MAX), .sha_ctx = EVP_MD_CTX_new()};
    for (unsigned i = 0; i < OPEN_AHEAD; i++)
        s.ahead[i] = -1;
    if (!s.buffer || !s.sha_ctx)
        return error_errno(err, ENOMEM, "cannot load a file");
    size_t n = l->request.artifact->n_files, next = 0;
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        for (; !r && next < n && next < i + OPEN_AHEAD; next++)
            if (is_small(l, next)) {
                load_asks(l, next);
                r = open_ahead(&s, next, err);
            }
        int *slot = &s.ahead[i % OPEN_AHEAD];
        if (r || !is_small(l, i))
            continue;
        load_asks(l, i);
        r = one_file(&s, i, *slot, err);
        *slot = close_fd(*slot);
        s.cached[i % OPEN_AHEAD] = 0;
    }
    load_answered(l);
    return r;
}
