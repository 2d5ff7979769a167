/* loader/hash.c: hash workers: each chunk is hashed as soon as it has landed; where none is, they copy what the page
 * cache holds (page_cache.c).
 *
 * XXH3 goes chunk by chunk in any order. SHA-256 of a file is one serial computation, so one worker at a time follows
 * the file's reads. xxHash's run-time dispatch picks AVX2 or AVX-512 where the processor has them, however generic the
 * build.
 */
#include <string.h>

#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "loader/internal.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

void hash_chunk(struct blob *b, uint32_t chunk, const void *data, size_t bytes) {
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    b->chunks[chunk].low = h.low64;
    b->chunks[chunk].high = h.high64;
}

/* The file's SHA-256, as far as this chunk. */
static bool follow_sha256(struct stream *s, uint32_t chunk, const uint8_t *data, uint64_t bytes) {
    if (EVP_DigestUpdate(s->sha_ctx, data, bytes) != 1)
        return false;
    if (chunk + 1 == s->n_chunks)
        s->result.has_sha256 = EVP_DigestFinal_ex(s->sha_ctx, s->result.sha256, NULL) == 1;
    return chunk + 1 < s->n_chunks || s->result.has_sha256;
}

bool chunk_hash(struct stream *s, uint32_t chunk) {
    const uint8_t *data = s->memory.at + chunk * CHUNK_BYTES;
    uint64_t left = s->bytes - chunk * CHUNK_BYTES, bytes = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    hash_chunk(&s->result, chunk, data, bytes);
    return !s->sha256 || follow_sha256(s, chunk, data, bytes);
}

void chunk_hashed(struct stream *s, uint32_t chunk, uint64_t start, uint64_t end) {
    struct load *l = s->load;
    struct hearth_error err = HEARTH_ERROR_INIT;
    s->chunks_done++;
    load_phase(l, HEARTH_PHASE_HASH, start, end);
    /* What is known of a chunk is decided here, before anybody may see it. */
    if (s->record && chunk_compare(l, s->file, s->record, &s->result, chunk, &err))
        load_fail(l, &err);
    if (s->at_once && !l->failed)
        progress_exposed(l, s->file, chunk, s->record ? HEARTH_VERIFIED_MATCHED : HEARTH_VERIFIED_RECORDED);
    if (stream_complete(s))
        pthread_cond_broadcast(&l->changed);
}

static void hash_one(struct engine *e, struct stream *s, uint32_t chunk) {
    struct load *l = s->load;
    pthread_mutex_unlock(&e->lock);
    uint64_t start = clock_now();
    bool hashed = chunk_hash(s, chunk);
    uint64_t end = clock_now();
    pthread_mutex_lock(&e->lock);
    s->hash_busy = false;
    if (!hashed) {
        struct hearth_error err = HEARTH_ERROR_INIT;
        error_set(&err, HEARTH_E_SYSTEM, "libcrypto cannot compute SHA-256");
        load_fail(l, &err);
    }
    chunk_hashed(s, chunk, start, end);
    work_ended(l);
}

void *hash_main(void *engine) {
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    bool first = !e->has_hasher;
    e->has_hasher = true;
    while (!e->stopping) {
        struct stream *s;
        uint32_t chunk;
        struct copy_work copy;
        if (schedule_hash(e, first, &s, &chunk))
            hash_one(e, s, chunk);
        else if (schedule_copy(e, &copy))
            copy_cached(e, &copy);
        else
            pthread_cond_wait(first ? &e->hash_wanted : &e->hash_help, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

bool wants_sha256(const struct artifact_file *f, enum hearth_verify verify) {
    return verify == HEARTH_VERIFY_ALWAYS || (verify == HEARTH_VERIFY_REMEMBERED && f->expected) || f->demanded;
}

static bool blob_serves(const struct blob *b, const struct artifact_file *f, enum hearth_verify verify) {
    if (wants_sha256(f, verify)) {
        if (!b->has_sha256)
            return false;
        /* A record stands in for SHA-256 where the policy is to remember, and nowhere else. */
        if (b->verified == HEARTH_VERIFIED_MATCHED && (verify == HEARTH_VERIFY_ALWAYS || f->demanded))
            return false;
        if (f->expected &&
            (b->verified < HEARTH_VERIFIED_MATCHED || memcmp(b->sha256, f->sha256, sizeof(f->sha256)) != 0))
            return false;
    }
    return verify == HEARTH_VERIFY_NONE || b->verified >= HEARTH_VERIFIED_RECORDED;
}

bool resident_serves(const struct resident *r, const struct artifact *a, enum hearth_verify verify) {
    if (r->n_blobs != a->n_files)
        return false;
    for (size_t i = 0; i < a->n_files; i++) {
        const struct artifact_file *f = &a->files[i], *loaded = &r->artifact->files[i];
        if (strcmp(f->path, loaded->path) != 0 || !file_identity_equal(&f->identity, &loaded->identity) ||
            !blob_serves(&r->blobs[i], f, verify))
            return false;
    }
    return true;
}

int judge(const struct load *l, size_t file, const struct record *r, struct blob *b, struct hearth_error *err) {
    const struct artifact_file *f = &l->request.artifact->files[file];
    b->verified = l->request.verify == HEARTH_VERIFY_NONE ? HEARTH_VERIFIED_NONE : HEARTH_VERIFIED_RECORDED;
    if (r) {
        b->verified = HEARTH_VERIFIED_MATCHED;
        b->has_sha256 = r->has_sha256;
        memcpy(b->sha256, r->sha256, sizeof(b->sha256));
        return 0;
    }
    if (!b->has_sha256 || !f->expected)
        return 0;
    if (memcmp(b->sha256, f->sha256, sizeof(f->sha256)) == 0) {
        b->verified = HEARTH_VERIFIED_SHA256;
        return 0;
    }
    char path[sizeof(err->file)], hex[2 * sizeof(f->sha256) + 1];
    int e = error_set(err, HEARTH_E_INTEGRITY, "the content of %s is not what its SHA-256 says", f->path);
    error_at(err, artifact_path(l->request.artifact, file, path, sizeof(path)), HEARTH_NO_OFFSET);
    error_expected(err, "%s", format_hex(f->sha256, sizeof(f->sha256), hex));
    error_found(err, "%s", format_hex(b->sha256, sizeof(b->sha256), hex));
    error_hint(err, "fetch the file again from where it was published, or check that the digest belongs to it");
    return e;
}
