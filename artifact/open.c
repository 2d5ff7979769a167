/* Opening what was resolved, and only that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "artifact/artifact.h"
#include "artifact/identity.h"
#include "util/cleanup.h"
#include "util/error.h"

char *artifact_join(const struct artifact *a, const char *path, char *buffer, size_t size) {
    if (a->is_file || !*path)
        snprintf(buffer, size, "%s", a->ref);
    else
        snprintf(buffer, size, "%s/%s", strcmp(a->ref, "/") == 0 ? "" : a->ref, path);
    return buffer;
}

char *artifact_path(const struct artifact *a, size_t i, char *buffer, size_t size) {
    return artifact_join(a, a->files[i].path, buffer, size);
}

static int fail(const struct artifact *a, size_t i, int sys_errno, int extra_flags, struct hearth_error *err) {
    char path[sizeof(err->file)];
    int r;
    if (sys_errno == EINVAL && (extra_flags & O_DIRECT)) {
        r = error_set(err, HEARTH_E_UNSUPPORTED, "the file system cannot read past the page cache (O_DIRECT)");
        if (err)
            err->sys_errno = sys_errno;
    } else if (sys_errno == EXDEV || sys_errno == ELOOP) { /* it was none of these when it was resolved */
        r = error_set(err, HEARTH_E_CHANGED, "the file is now a link that leads elsewhere");
    } else {
        r = error_errno(err, sys_errno, "cannot open the file");
    }
    error_at(err, artifact_path(a, i, path, sizeof(path)), HEARTH_NO_OFFSET);
    return r;
}

int artifact_open(const struct artifact *a, size_t i, int extra_flags, int *out, struct hearth_error *err) {
    const char *path = a->is_file ? a->opened_as : a->files[i].path;
    _cleanup_close_ int fd = place_open(&a->place, path, O_RDONLY | extra_flags);
    if (fd < 0)
        return fail(a, i, -fd, extra_flags, err);
    struct file_identity now;
    int r = file_identity_of(fd, &now);
    if (r < 0)
        return fail(a, i, -r, extra_flags, err);
    if (!file_identity_equal(&a->files[i].identity, &now))
        return artifact_changed(a, i, &now, err);
    /* place_open() adds O_NONBLOCK, which io_uring heeds: on some file systems reads would then fail with EAGAIN. */
    if (fcntl(fd, F_SETFL, extra_flags) < 0)
        return fail(a, i, errno, extra_flags, err);
    *out = steal_fd(&fd);
    return 0;
}
