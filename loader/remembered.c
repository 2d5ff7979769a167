/* loader/remembered.c: what was once proven about a file, held against what is read now.
 *
 * A record stands in for SHA-256, or for nothing; it is never compared beside it. Where a digest is to be proven in any
 * case (it came with the request, or the policy is `always`, or the record does not know the digest that is expected)
 * the digest decides, and what it finds replaces the record. So there is a way to accept content that has changed under
 * an identity that has not.
 */
#include <inttypes.h>
#include <string.h>

#include "loader/internal.h"
#include "util/error.h"

const struct record *remembered(const struct load *l, size_t file, int fd, bool *lasting) {
    const struct artifact_file *f = &l->request.artifact->files[file];
    const struct record *r = l->request.records ? &l->request.records[file] : NULL;
    enum hearth_verify verify = l->request.verify;
    *lasting = verify != HEARTH_VERIFY_NONE && record_would_last(&f->identity, l->start_real_ns) &&
               record_on_local_storage(fd);
    if (!*lasting || !r || !r->chunks || r->n_chunks != record_chunks(f->identity.bytes) ||
        !file_identity_equal(&r->identity, &f->identity))
        return NULL;
    if (!wants_sha256(f, verify))
        return r;
    bool known = r->has_sha256 && f->expected && memcmp(r->sha256, f->sha256, sizeof(r->sha256)) == 0;
    return known && !f->demanded && verify == HEARTH_VERIFY_REMEMBERED ? r : NULL;
}

int chunk_compare(const struct load *l, size_t file, const struct record *r, const struct blob *b, uint32_t chunk,
                  struct hearth_error *err) {
    const struct chunk_hash *then = &r->chunks[chunk], *now = &b->chunks[chunk];
    if (then->low == now->low && then->high == now->high)
        return 0;
    char path[sizeof(err->file)];
    int e =
        error_set(err, HEARTH_E_INTEGRITY,
                  "the content of %s is not what it was when it was last read, and nothing says that it was changed",
                  l->request.artifact->files[file].path);
    error_at(err, artifact_path(l->request.artifact, file, path, sizeof(path)), chunk * CHUNK_BYTES);
    error_expected(err, "XXH3 %016" PRIx64 "%016" PRIx64 " of the chunk", then->high, then->low);
    error_found(err, "%016" PRIx64 "%016" PRIx64, now->high, now->low);
    error_hint(err, "fetch the file again from where it was published; if it is meant to be so, load it with --verify "
                    "always, or touch it: then what it was is forgotten");
    return e;
}
