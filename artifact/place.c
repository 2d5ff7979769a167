/* RESOLVE_BENEATH alone knows one border, the directory that it starts at. A Hugging Face snapshot needs two: itself
 * and its repository's blobs. There the kernel guards the repository, and what it found is then asked for its path. */
#include "artifact/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

/* With RESOLVE_BENEATH a rename anywhere on the system makes ".." fail with EAGAIN, even if it is not concerned. */
#define BENEATH_TRIES 64

int open_beneath(int root, const char *path, int flags) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;
    for (int i = 0; i < BENEATH_TRIES; i++) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd >= 0 ? (int)fd : -errno;
}

char *descriptor_path(int fd) {
    char link[32], target[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof(target));
    if (n < 0)
        return NULL;
    if (n == sizeof(target)) { /* the kernel cuts silently */
        errno = ENAMETOOLONG;
        return NULL;
    }
    return strndup(target, (size_t)n);
}

static bool same_file(int a, int b) {
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Is `p` in a Hugging Face repository? Then it sets p->repository and p->inside. */
static void find_repository(struct place *p) {
    static const char mark[] = "/snapshots/";
    char *found = NULL;
    for (char *at = p->real; (at = strstr(at, mark)); at++)
        found = at;
    if (!found || found == p->real)
        return;
    *found = '\0';
    _cleanup_close_ int repository = open(p->real, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *found = '/';
    if (repository < 0)
        return;
    _cleanup_close_ int blobs = open_beneath(repository, "blobs", O_PATH | O_DIRECTORY | O_NOFOLLOW);
    _cleanup_close_ int again = open_beneath(repository, found + 1, O_PATH | O_DIRECTORY);
    if (blobs < 0 || again < 0 || !same_file(again, p->directory))
        return;
    p->repository = steal_fd(&repository);
    p->inside = found + 1;
}

int place_init(struct place *p, int directory) {
    *p = (struct place){.directory = directory, .repository = -1, .real = descriptor_path(directory)};
    if (!p->real) {
        int r = -errno;
        place_deinit(p);
        return r;
    }
    find_repository(p);
    return 0;
}

void place_forget_repository(struct place *p) {
    p->repository = close_fd(p->repository);
    p->inside = NULL;
}

void place_deinit(struct place *p) {
    place_forget_repository(p);
    p->directory = close_fd(p->directory);
    free(steal_ptr(&p->real));
}

/* Inside the snapshot, or a file directly in the repository's blobs: 0 or -EXDEV. The repository is taken to be where
 * it is now, for it may have moved. */
static int check_in_repository(const struct place *p, int fd, const struct stat *st) {
    static const char blobs[] = "blobs/";
    _cleanup_free_ char *root = descriptor_path(p->repository);
    _cleanup_free_ char *real = root ? descriptor_path(fd) : NULL;
    if (!real)
        return -errno;
    size_t above = strlen(root), inside = strlen(p->inside);
    if (strncmp(real, root, above) != 0 || real[above] != '/')
        return -EXDEV;
    const char *below = real + above + 1;
    if (strncmp(below, p->inside, inside) == 0 && (below[inside] == '/' || below[inside] == '\0'))
        return 0;
    bool is_blob =
        !S_ISDIR(st->st_mode) && strncmp(below, blobs, strlen(blobs)) == 0 && !strchr(below + strlen(blobs), '/');
    return is_blob ? 0 : -EXDEV;
}

static int open_in_repository(const struct place *p, const char *path, int flags) {
    char full[PATH_MAX];
    if ((size_t)snprintf(full, sizeof(full), "%s/%s", p->inside, path) >= sizeof(full))
        return -ENAMETOOLONG;
    _cleanup_close_ int fd = open_beneath(p->repository, full, flags);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    int r = check_in_repository(p, fd, &st);
    return r < 0 ? r : steal_fd(&fd);
}

int place_open(const struct place *p, const char *path, int flags) {
    /* Without O_NONBLOCK the open of a fifo waits for its other end. */
    if (!(flags & O_PATH))
        flags |= O_NONBLOCK | O_NOCTTY;
    return p->repository < 0 ? open_beneath(p->directory, path, flags) : open_in_repository(p, path, flags);
}

int place_stat(const struct place *p, const char *path, struct stat *st) {
    _cleanup_close_ int fd = place_open(p, path, O_PATH);
    if (fd < 0)
        return fd;
    return fstat(fd, st) < 0 ? -errno : 0;
}
