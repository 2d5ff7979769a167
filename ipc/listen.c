/* ipc/listen.c: the socket file.
 *
 * Two daemons that start at once on one path must not both believe that they have it, and one that ends must not remove
 * the other's socket. So whoever makes a socket file holds a lock (flock) on PATH.lock, which nobody else may open, for
 * as long as it listens; both files go together. What no lock protects against, a socket that a service manager or
 * another program listens on, is found by connecting to it.
 *
 * The file is made with its mode, by the umask: a chmod() behind bind() would follow what somebody else who may write
 * to the directory puts in its place. And nobody gets in before listen(): until then every connect() is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/kernel.h"

#define BACKLOG 512
#define LOCK_SUFFIX ".lock"

typedef char lock_name[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(LOCK_SUFFIX)];

static char *lock_path(const char *path, lock_name name) {
    snprintf(name, sizeof(lock_name), "%.*s" LOCK_SUFFIX, (int)sizeof(((struct sockaddr_un *)0)->sun_path), path);
    return name;
}

static int failed(struct hearth_error *err, int sys_errno, const char *path, const char *what) {
    int r = error_errno(err, sys_errno, "%s", what);
    error_at(err, path, HEARTH_NO_OFFSET);
    return r;
}

static int busy(struct hearth_error *err, const char *path) {
    int r = error_set(err, HEARTH_E_BUSY, "another daemon has this socket");
    error_at(err, path, HEARTH_NO_OFFSET);
    error_hint(err, "use it, stop it with `hearth stop`, or choose another path with --socket");
    return r;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Takes the lock, or is told that somebody has it. */
static int take_lock(const char *path, int *out, struct hearth_error *err) {
    lock_name name;
    lock_path(path, name);
    for (;;) {
        _cleanup_close_ int fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == ENOENT) {
            int r = failed(err, ENOENT, dirname(name), "the socket's directory does not exist");
            error_hint(err, "make it, or choose another path with --socket");
            return r;
        }
        if (fd < 0)
            return failed(err, errno, name, "the lock beside the socket cannot be opened");
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? busy(err, path)
                                        : failed(err, errno, name, "the lock beside the socket cannot be taken");
        struct stat ours, there;
        if (fstat(fd, &ours) < 0)
            return failed(err, errno, name, "the lock beside the socket cannot be looked at");
        if (lstat(name, &there) == 0 && same_file(&ours, &there)) {
            *out = steal_fd(&fd);
            return 0;
        }
        /* Its last holder removed it after our open: what we locked, others cannot see. */
    }
}

/* What stands at the path: nothing or a stale socket (removed) is fine. */
static int clear_path(const struct sockaddr_un *address, struct hearth_error *err) {
    struct stat st;
    const char *path = address->sun_path;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : failed(err, errno, path, "the socket's path cannot be looked at");
    if (!S_ISSOCK(st.st_mode)) {
        int r = error_set(err, HEARTH_E_INVALID, "the socket's path is taken by something that is not a socket");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_hint(err, "remove it, or choose another path with --socket");
        return r;
    }
    _cleanup_close_ int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_errno(err, errno, "a socket cannot be made");
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return busy(err, path);
    if (errno == EAGAIN || errno == EPROTOTYPE) /* its backlog is full; it is of another type */
        return busy(err, path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return failed(err, errno, path, "a socket stands there already and cannot be tried");
    if (unlink(path) < 0 && errno != ENOENT)
        return failed(err, errno, path, "a stale socket cannot be removed");
    return 0;
}

static int watch_listener(struct ipc_server *s, int fd, struct hearth_error *err) {
    int none = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->listener};
    /* Inherited by every connection. Kernels before 6.16 do not know it: there, peer.c closes what a client sends. */
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_errno(err, errno, "the socket cannot be watched");
    s->listener = fd;
    return 0;
}

static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode) {
    mode_t before = umask(0777 & ~mode); /* a socket is made with 0777 less this */
    int r = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    int saved = errno;
    umask(before);
    errno = saved;
    return r;
}

static int make_socket(struct ipc_server *s, const struct sockaddr_un *address, mode_t mode, struct hearth_error *err) {
    const char *path = address->sun_path;
    struct stat st;
    int r = clear_path(address, err);
    if (r)
        return r;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "a socket cannot be made");
    if (bind_with_mode(fd, address, mode) < 0 || lstat(path, &st) < 0)
        return failed(err, errno, path, "the socket file cannot be made");
    s->remove_path = true;
    s->device = st.st_dev;
    s->inode = st.st_ino;
    if (listen(fd, BACKLOG) < 0)
        return failed(err, errno, path, "the socket does not listen");
    r = watch_listener(s, fd, err);
    if (r == 0)
        steal_fd(&fd); /* the server's now */
    return r;
}

static int one_listener(const struct ipc_server *s, struct hearth_error *err) {
    return s->listener < 0 ? 0 : error_set(err, HEARTH_E_INVALID, "the server listens already, on '%s'", s->path);
}

int ipc_server_listen(struct ipc_server *s, const char *path, mode_t mode, struct hearth_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int r = one_listener(s, err);
    if (r)
        return r;
    if (path[0] != '/' || length >= sizeof(address.sun_path)) {
        r = error_set(err, HEARTH_E_INVALID, "the socket's path must be absolute, and short enough for the kernel");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_expected(err, "at most %zu bytes, a '/' first", sizeof(address.sun_path) - 1);
        error_found(err, "%zu bytes, %s first", length, path[0] == '/' ? "a '/'" : "no '/'");
        error_hint(err, "choose another path with --socket");
        return r;
    }
    memcpy(address.sun_path, path, length);
    r = take_lock(path, &s->lock, err);
    if (r)
        return r;
    memcpy(s->path, path, length + 1);
    r = make_socket(s, &address, mode, err);
    if (r)
        listen_remove(s);
    return r;
}

int ipc_server_adopt(struct ipc_server *s, int fd, struct hearth_error *err) {
    struct sockaddr_un address = {0};
    socklen_t length = sizeof(address);
    int type = 0, listening = 0;
    socklen_t type_size = sizeof(type), listening_size = sizeof(listening);
    int r = one_listener(s, err);
    if (r)
        return r;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 || type != SOCK_SEQPACKET ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_size) < 0 || !listening ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_family != AF_UNIX) {
        r = error_set(err, HEARTH_E_INVALID, "descriptor %d, given by the service manager, is of no use", fd);
        error_expected(err, "a listening Unix socket of type SOCK_SEQPACKET");
        error_hint(err, "the socket unit wants ListenSequentialPacket=");
        return r;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return error_errno(err, errno, "the socket given by the service manager cannot be set up");
    r = watch_listener(s, fd, err);
    if (r)
        return r;
    snprintf(s->path, sizeof(s->path), "%.*s", (int)sizeof(address.sun_path), address.sun_path);
    return 0;
}

void listen_remove(struct ipc_server *s) {
    lock_name name;
    struct stat st, ours = {.st_dev = s->device, .st_ino = s->inode};
    if (s->listener >= 0)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener, NULL);
    s->listener = close_fd(s->listener);
    if (s->remove_path && lstat(s->path, &st) == 0 && same_file(&st, &ours))
        unlink(s->path);
    s->remove_path = false;
    if (s->lock >= 0)
        unlink(lock_path(s->path, name)); /* before the lock is given up: until then nobody else's stands there */
    s->lock = close_fd(s->lock);
}
