/* artifact/border.c: see border.h. */
#include "artifact/border.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

static int open_anywhere(const char *path, int flags) {
    struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags), .resolve = RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    return fd < 0 ? -errno : (int)fd;
}

int border_init(struct border *b, const char *path) {
    *b = (struct border)BORDER_NULL;
    if (!path)
        return 0;
    int fd = open_anywhere(path, O_DIRECTORY);
    if (fd < 0)
        return fd;
    *b = (struct border){.path = path, .directory = fd, .real = descriptor_path(fd)};
    int r = b->real ? 0 : -errno;
    if (r < 0)
        border_deinit(b);
    return r;
}

void border_deinit(struct border *b) {
    b->directory = close_fd(b->directory);
    free(steal_ptr(&b->real));
}

int border_check(const struct border *b, int fd) {
    if (!b->path)
        return 0;
    _cleanup_free_ char *real = descriptor_path(fd);
    size_t n = strlen(b->real);
    if (!real)
        return -errno;
    return strncmp(real, b->real, n) == 0 && (real[n] == '/' || real[n] == '\0') ? 0 : -EXDEV;
}

int border_check_place(const struct border *b, struct place *p) {
    if (p->repository >= 0 && border_check(b, p->repository) < 0)
        place_forget_repository(p);
    return border_check(b, p->directory);
}

int border_open(const struct border *b, const char *path) {
    if (!b->path)
        return open_anywhere(path, 0);
    const char *below = path + strlen(b->path);
    while (*below == '/')
        below++;
    int fd = open_beneath(b->directory, *below ? below : ".", O_PATH);
    if (fd != -EXDEV)
        return fd;
    /* A link that leads out, or an absolute one that leads back in, as people write them ("latest"). Of what is
     * outside, nothing is said: not even that it is not there. */
    _cleanup_close_ int found = open_anywhere(path, 0);
    return found >= 0 && border_check(b, found) == 0 ? steal_fd(&found) : -EXDEV;
}
