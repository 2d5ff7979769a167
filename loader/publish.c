/* loader/publish.c: the last step of a load: the index gets what only the engine knows (what was verified, and how)
 * and is sealed, and the sums over all files are made. */
#include <string.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/memfd.h"

/* The parser's table of files must be the artifact's, in its order: clients ask for descriptors by these numbers. */
static int complete_files(struct resident *r, uint8_t *index, struct hearth_error *err) {
    struct hearth_index_header *h = (struct hearth_index_header *)index;
    struct hearth_index_file *files = (struct hearth_index_file *)(index + h->files.offset);
    const char *strings = (const char *)index + h->strings.offset;
    if (h->files.count != r->n_blobs)
        return error_set(err, HEARTH_E_PARSER, "the parser lists %llu files of %zu", (unsigned long long)h->files.count,
                         r->n_blobs);
    for (size_t i = 0; i < r->n_blobs; i++) {
        const struct artifact_file *f = &r->artifact->files[i];
        const struct blob *b = &r->blobs[i];
        if (strcmp(strings + files[i].path.offset, f->path) != 0 || files[i].bytes != b->bytes)
            return error_set(err, HEARTH_E_PARSER, "the parser's file %zu is not %s", i, f->path);
        files[i].verified = b->verified;
        files[i].flags = b->has_sha256 ? HEARTH_FILE_HAS_SHA256 : 0;
        memcpy(files[i].sha256, b->sha256, sizeof(b->sha256));
    }
    return 0;
}

/* Whether all that the artifact is, is in files that others are compared to. */
static bool only_digests(const struct artifact *a) {
    for (size_t i = 0; i < a->n_files; i++)
        if (!a->files[i].digests)
            return false;
    return true;
}

static void sum_up(struct resident *r) {
    uint64_t pages = 0;
    bool all = only_digests(r->artifact);
    r->verified = HEARTH_VERIFIED_SIGNED;
    uint64_t by_backing[HEARTH_BACKING_HUGETLB + 1] = {0};
    for (size_t i = 0; i < r->n_blobs; i++) {
        const struct blob *b = &r->blobs[i];
        r->bytes += b->bytes;
        pages += b->resident_bytes;
        r->huge_bytes += b->huge_bytes;
        by_backing[b->backing] += b->resident_bytes;
        /* A list of digests cannot list itself: it would keep every artifact from being "sha256". */
        if (b->verified < r->verified && (all || !r->artifact->files[i].digests))
            r->verified = b->verified;
    }
    r->resident_bytes = pages;
    /* What most bytes are on. */
    r->backing = HEARTH_BACKING_NONE;
    for (unsigned k = 1; k <= HEARTH_BACKING_HUGETLB; k++)
        if (by_backing[k] > by_backing[r->backing])
            r->backing = k;
}

int publish(struct load *l, int index_fd, struct hearth_error *err) {
    struct resident *r = l->resident;
    sum_up(r);
    int e = complete_files(r, l->index, err);
    if (e)
        return e;
    ((struct hearth_index_header *)l->index)->verified = r->verified;
    share_index_end(l);
    int sealed = memfd_seal_final(index_fd);
    if (sealed < 0)
        return error_errno(err, -sealed, "cannot seal the index");
    r->resident_bytes += memfd_resident(r->index_fd);
    artifact_close(r->artifact);
    return 0;
}
