/* Who a file is: device, inode, size and both times. mtime can be set by anybody who may write; ctime cannot, so a file
 * rewritten in place with its old mtime put back still counts as another. */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "artifact/artifact.h"
#include "artifact/identity.h"
#include "util/clock.h"
#include "util/error.h"

static int64_t timestamp_ns(struct timespec t) {
    return (int64_t)t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

struct file_identity identity_of_stat(const struct stat *st) {
    return (struct file_identity){
        .device = st->st_dev,
        .inode = st->st_ino,
        .bytes = (uint64_t)st->st_size,
        .mtime_ns = timestamp_ns(st->st_mtim),
        .ctime_ns = timestamp_ns(st->st_ctim),
    };
}

int file_identity_of(int fd, struct file_identity *out) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    *out = identity_of_stat(&st);
    return 0;
}

bool file_identity_equal(const struct file_identity *a, const struct file_identity *b) {
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

int artifact_changed(const struct artifact *a, size_t i, const struct file_identity *now, struct hearth_error *err) {
    const struct file_identity *then = &a->files[i].identity;
    char path[sizeof err->file];
    error_set(err, HEARTH_E_CHANGED, "the file changed since it was listed");
    error_at(err, artifact_path(a, i, path, sizeof path), HEARTH_NO_OFFSET);
    if (then->device != now->device || then->inode != now->inode) {
        error_expected(err, "inode %" PRIu64 " on device %" PRIu64, then->inode, then->device);
        error_found(err, "another file: inode %" PRIu64 " on device %" PRIu64, now->inode, now->device);
    } else if (then->bytes != now->bytes) {
        error_expected(err, "%" PRIu64 " bytes", then->bytes);
        error_found(err, "%" PRIu64 " bytes", now->bytes);
    } else if (then->mtime_ns != now->mtime_ns) {
        error_expected(err, "modified at %" PRId64 " ns after 1970", then->mtime_ns);
        error_found(err, "%" PRId64, now->mtime_ns);
    } else {
        error_expected(err, "status change at %" PRId64 " ns after 1970", then->ctime_ns);
        error_found(err, "%" PRId64, now->ctime_ns);
    }
    error_hint(err, "load it again once nothing writes to it");
    return HEARTH_E_CHANGED;
}
