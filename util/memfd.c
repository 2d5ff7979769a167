/* util/memfd.c: see memfd.h. */
#include "util/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define PATIENCE_NS (2 * NS_PER_S)

int memfd_new(const char *name, uint64_t bytes, unsigned extra_flags) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | extra_flags;
    char shown[250]; /* a longer name is EINVAL, although a file's may have 255 bytes */
    snprintf(shown, sizeof(shown), "%s", name);
    _cleanup_close_ int fd = memfd_create(shown, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before 6.3 */
        fd = memfd_create(shown, flags);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0444) < 0)
        return -errno;
    if (bytes > INT64_MAX)
        return -EFBIG;
    while (ftruncate(fd, (off_t)bytes) < 0)
        if (errno != EINTR)
            return -errno;
    return steal_fd(&fd);
}

int memfd_seal(int fd, int seals) {
    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int memfd_seal_final(int fd) {
    uint64_t deadline = clock_now() + PATIENCE_NS;
    int r;
    while ((r = memfd_seal(fd, SEALS_FINAL)) == -EBUSY && clock_now() < deadline)
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)NS_PER_MS}, NULL);
    return r;
}

static int reopen(int fd, int flags) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (again < 0 && errno == EACCES && fchmod(fd, 0444) == 0)
        again = open(path, O_RDONLY | O_CLOEXEC | flags);
    return again < 0 ? -errno : again;
}

int memfd_reopen_readonly(int fd) {
    return reopen(fd, 0);
}

int memfd_reopen_in(int own_fds, int fd) {
    char name[16];
    snprintf(name, sizeof(name), "%d", fd);
    int again = own_fds >= 0 ? openat(own_fds, name, O_RDONLY | O_CLOEXEC) : -1;
    return again < 0 ? memfd_reopen_readonly(fd) : again;
}

/* A line of /proc/locks: "1: LEASE  ACTIVE    WRITE 28037 00:01:1169883 0 EOF". */
static bool is_leased(int fd) {
    struct stat st;
    char file[64], line[256];
    _cleanup_fclose_ FILE *f = fopen("/proc/locks", "re");
    if (!f || fstat(fd, &st) < 0)
        return false;
    snprintf(file, sizeof(file), " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev), (unsigned long long)st.st_ino);
    bool leased = false;
    while (!leased && fgets(line, sizeof(line), f))
        leased = strstr(line, "LEASE") && strstr(line, file);
    return leased;
}

int memfd_reopen_unleased(int fd) {
    return is_leased(fd) ? -EWOULDBLOCK : reopen(fd, O_NONBLOCK);
}

/* A write lease is granted to the only description there is, mappings and those under way in sockets included. Nobody
 * else can open it before the lease is given back. */
bool memfd_is_held(int fd) {
    if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        return errno == EAGAIN;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

int memfd_from_bytes(const char *name, const void *data, size_t bytes) {
    _cleanup_close_ int fd = memfd_new(name, bytes, 0);
    if (fd < 0)
        return steal_fd(&fd); /* -errno */
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(fd, (const char *)data + done, bytes - done, (off_t)done);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    int r = memfd_seal_final(fd);
    return r < 0 ? r : steal_fd(&fd);
}
