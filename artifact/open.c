/* Opening what was resolved, and only that. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#include "artifact/artifact.h"
#include "artifact/identity.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

/* How long one write(2) may take: the kernel cuts it at 2 GiB. */
#define WRITE_NS_MAX (10 * (int64_t)NS_PER_S)

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
    if ((sys_errno == EINVAL || sys_errno == EOPNOTSUPP) && (extra_flags & O_DIRECT)) {
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

/* Where EAGAIN from F_SETLEASE says that somebody writes; elsewhere (NFS, SMB) it says that the server grants none. */
static bool has_leases(int fd) {
    static const uint32_t known[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                     F2FS_SUPER_MAGIC, TMPFS_MAGIC,     OVERLAYFS_SUPER_MAGIC};
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if ((uint32_t)fs.f_type == known[i])
            return true;
    return false;
}

/* A write(2) that is under way set the times when it began: what it has yet to write would go unseen. A read lease is
 * refused with EAGAIN while anybody has the file open for writing. It is given back at once; who opens the file for
 * writing in between waits that long, and has the kernel send us a signal: SIGURG, which is ignored by default, in
 * place of SIGIO, which kills. Leases are for the file's owner and root; to others, it is not known. */
static bool is_being_written(int fd, const struct file_identity *identity) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if ((int64_t)now.tv_sec * (int64_t)NS_PER_S + now.tv_nsec - identity->ctime_ns > WRITE_NS_MAX || !has_leases(fd))
        return false;
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return false;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

static int fail_being_written(const struct artifact *a, size_t i, struct hearth_error *err) {
    char path[sizeof(err->file)];
    error_set(err, HEARTH_E_CHANGED, "the file changed a moment ago, and may be changing still");
    error_at(err, artifact_path(a, i, path, sizeof(path)), HEARTH_NO_OFFSET);
    error_expected(err, "a file that nobody writes to");
    error_found(err, "somebody has it open for writing");
    error_hint(err, "load it again once nothing writes to it; best write a new file and rename it into place");
    return HEARTH_E_CHANGED;
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
    if (is_being_written(fd, &now))
        return fail_being_written(a, i, err);
    /* place_open() adds O_NONBLOCK, which io_uring heeds: on some file systems reads would then fail with EAGAIN. */
    if (fcntl(fd, F_SETFL, extra_flags) < 0)
        return fail(a, i, errno, extra_flags, err);
    *out = steal_fd(&fd);
    return 0;
}
