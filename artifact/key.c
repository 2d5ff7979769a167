/* Every number is written as eight bytes, little endian, every string behind its length, every list behind its count:
 * so no two different artifacts are written alike. */
#include "artifact/key.h"

#include <endian.h>
#include <openssl/evp.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/error.h"

DEFINE_CLEANUP(EVP_MD_CTX *, cleanup_digest, EVP_MD_CTX_free)

static int put_u64(EVP_MD_CTX *c, uint64_t v) {
    v = htole64(v);
    return EVP_DigestUpdate(c, &v, sizeof(v));
}

static int put_string(EVP_MD_CTX *c, const char *s) {
    size_t n = strlen(s);
    return put_u64(c, n) && EVP_DigestUpdate(c, s, n);
}

static int put_strings(EVP_MD_CTX *c, const char *const *list, size_t n) {
    int ok = put_u64(c, n);
    for (size_t i = 0; ok && i < n; i++)
        ok = put_string(c, list[i]);
    return ok;
}

static int put_file(EVP_MD_CTX *c, const struct artifact_file *f) {
    const struct file_identity *id = &f->identity;
    return put_string(c, f->path) && put_u64(c, id->device) && put_u64(c, id->inode) && put_u64(c, id->bytes) &&
           put_u64(c, (uint64_t)id->mtime_ns) && put_u64(c, (uint64_t)id->ctime_ns) && put_u64(c, f->expected) &&
           put_u64(c, f->demanded) && (!f->expected || EVP_DigestUpdate(c, f->sha256, sizeof(f->sha256)));
}

int artifact_make_key(struct artifact *a, const struct artifact_request *r, struct hearth_error *err) {
    _cleanup_(cleanup_digest) EVP_MD_CTX *c = EVP_MD_CTX_new();
    int ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) && put_string(c, a->ref) &&
             put_string(c, r->beneath ? r->beneath : "") && put_u64(c, a->is_file) && put_u64(c, r->policy) &&
             put_strings(c, r->include, r->n_include) && put_strings(c, r->exclude, r->n_exclude) &&
             put_u64(c, a->n_files);
    for (size_t i = 0; ok && i < a->n_files; i++)
        ok = put_file(c, &a->files[i]);
    unsigned length = sizeof(a->key);
    if (!ok || !EVP_DigestFinal_ex(c, a->key, &length))
        return error_set(err, HEARTH_E_SYSTEM, "libcrypto cannot compute SHA-256");
    return 0;
}
