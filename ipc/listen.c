/* ipc/listen.c: the socket file and who may connect to it.
 *
 * Two daemons that start at once on one path must not both believe that they have it. Whoever makes a socket file holds
 * a lock (flock) on its directory from the look at what is there until the new socket listens: so the second one finds
 * a socket that answers. No lock file is left behind.
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
#include <sys/timerfd.h>
#include <sys/un.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/kernel.h"
#include "util/log.h"

#define BACKLOG 512
#define ACCEPTS_A_TURN 16
#define PAUSE_NS (100 * NS_PER_MS)

/* Locks the directory of a path. The descriptor is the lock. */
static int lock_directory(const char *path, int *out, struct hearth_error *err) {
    char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
    snprintf(copy, sizeof(copy), "%s", path);
    _cleanup_close_ int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int r = error_errno(err, errno, "the directory of the socket cannot be opened");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_hint(err, "make it, or choose another place with --socket");
        return r;
    }
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return error_errno(err, errno, "the directory of the socket cannot be locked");
    *out = steal_fd(&fd);
    return 0;
}

/* What stands at the path: nothing or a stale socket (removed) is fine. */
static int clear_path(const struct sockaddr_un *address, struct hearth_error *err) {
    struct stat st;
    const char *path = address->sun_path;
    if (lstat(path, &st) < 0) {
        if (errno == ENOENT)
            return 0;
        int r = error_errno(err, errno, "the socket's path cannot be looked at");
        error_at(err, path, HEARTH_NO_OFFSET);
        return r;
    }
    if (!S_ISSOCK(st.st_mode)) {
        int r = error_set(err, HEARTH_E_INVALID, "the socket's path is taken by something that is not a socket");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_hint(err, "remove it, or choose another path with --socket");
        return r;
    }
    _cleanup_close_ int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_errno(err, errno, "a socket cannot be made");
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN ||
        errno == EPROTOTYPE) {
        int r = error_set(err, HEARTH_E_BUSY, "another daemon answers on this socket");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_hint(err, "use it, stop it with `hearth stop`, or choose another path with --socket");
        return r;
    }
    if (errno != ECONNREFUSED && errno != ENOENT) {
        int r = error_errno(err, errno, "a socket file stands there and cannot be tried");
        error_at(err, path, HEARTH_NO_OFFSET);
        return r;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        int r = error_errno(err, errno, "a stale socket file cannot be removed");
        error_at(err, path, HEARTH_NO_OFFSET);
        return r;
    }
    return 0;
}

static int watch_listener(struct ipc_server *s, int fd, struct hearth_error *err) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->listener};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_errno(err, errno, "the socket cannot be watched");
    s->listener = fd;
    return 0;
}

int ipc_server_listen(struct ipc_server *s, const char *path, mode_t mode, struct hearth_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path)) {
        int r = error_set(err, HEARTH_E_INVALID, "the socket's path must be absolute and short");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_expected(err, "at most %zu bytes, a '/' first", sizeof(address.sun_path) - 1);
        error_found(err, "%zu bytes", strlen(path));
        return r;
    }
    memcpy(address.sun_path, path, strlen(path));
    _cleanup_close_ int lock = -1;
    int r = lock_directory(path, &lock, err);
    r = r ? r : clear_path(&address, err);
    if (r)
        return r;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "a socket cannot be made");
    mode_t before = umask(0777 & ~mode); /* the file has its mode from its first moment */
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
    int bind_errno = errno;
    umask(before);
    if (bound < 0) {
        r = error_errno(err, bind_errno, "the socket file cannot be made");
        error_at(err, path, HEARTH_NO_OFFSET);
        return r;
    }
    struct stat st;
    if (listen(fd, BACKLOG) < 0 || lstat(path, &st) < 0) {
        r = error_errno(err, errno, "the socket does not listen");
        error_at(err, path, HEARTH_NO_OFFSET);
        unlink(path);
        return r;
    }
    r = watch_listener(s, fd, err);
    if (r) {
        unlink(path);
        return r;
    }
    fd = -1; /* the server's now */
    snprintf(s->path, sizeof(s->path), "%s", path);
    s->remove_path = true;
    s->device = st.st_dev;
    s->inode = st.st_ino;
    return 0;
}

int ipc_server_adopt(struct ipc_server *s, int fd, struct hearth_error *err) {
    struct sockaddr_un address = {0};
    socklen_t length = sizeof(address);
    int type = 0, listening = 0;
    socklen_t type_size = sizeof(type), listening_size = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 || type != SOCK_SEQPACKET ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_size) < 0 || !listening ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_family != AF_UNIX) {
        int r = error_set(err, HEARTH_E_INVALID, "descriptor %d, given by the service manager, is of no use", fd);
        error_expected(err, "a listening Unix socket of type SOCK_SEQPACKET");
        error_hint(err, "the socket unit wants ListenSequentialPacket=");
        return r;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return error_errno(err, errno, "the socket given by the service manager cannot be set up");
    int r = watch_listener(s, fd, err);
    if (r)
        return r;
    snprintf(s->path, sizeof(s->path), "%.*s", (int)sizeof(address.sun_path), address.sun_path);
    return 0;
}

void listen_remove(struct ipc_server *s) {
    struct stat st;
    if (s->remove_path && lstat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
        unlink(s->path);
    s->remove_path = false;
    s->listener = close_fd(s->listener);
}

/* Accepts again: the pause is over, or a descriptor came free. */
void listen_resume(struct ipc_server *s) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->listener};
    if (s->reserve < 0)
        s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (s->listener >= 0)
        epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &event);
}

/* A connection that cannot be accepted stays in the queue, and the listener stays readable: it must go or be ignored
 * for a while, else the loop spins. */
static void table_full(struct ipc_server *s) {
    log_warning("a client was turned away: no descriptor is free");
    if (s->reserve >= 0) {
        s->reserve = close_fd(s->reserve);
        close_fd(accept4(s->listener, NULL, NULL, SOCK_CLOEXEC));
        s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return;
    }
    struct epoll_event nothing = {.events = 0, .data.ptr = &s->listener};
    epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &nothing);
    struct itimerspec soon = {.it_value.tv_nsec = PAUSE_NS};
    timerfd_settime(s->pause, 0, &soon, NULL);
}

/* One packet to somebody who is not a peer, then the end. */
static void turn_away(struct ipc_server *s, int fd, struct ipc_cred cred, enum hearth_code code, const char *why) {
    struct hearth_error err;
    error_set(&err, code, "%s", why);
    long n = wire_error(&s->out, 0, &err);
    if (n > 0)
        (void)fdlist_send(fd, s->out.buffer, (size_t)n, NULL);
    log_notice("refused a client: %s (uid %u, pid %d)", why, (unsigned)cred.uid, (int)cred.pid);
    close_fd(fd);
}

static void admit(struct ipc_server *s, int fd) {
    struct ucred ucred = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t length = sizeof(ucred);
    int none = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &length) < 0) {
        close_fd(fd);
        return;
    }
    /* Kernels before 6.16 do not know it: there, what a client sends is closed, and the client with it. */
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
    struct ipc_cred cred = {ucred.pid, ucred.uid, ucred.gid};
    bool own = cred.uid == geteuid() || cred.uid == 0;
    unsigned per_uid = s->options.peers_max_per_uid;
    if (per_uid == 0)
        per_uid = own ? s->options.peers_max : s->options.peers_max / 4;
    if (s->options.own_uid_only && !own)
        turn_away(s, fd, cred, HEARTH_E_DENIED, "this daemon serves its own user only");
    else if (s->n_peers >= s->options.peers_max)
        turn_away(s, fd, cred, HEARTH_E_BUSY, "the daemon has as many connections as it may");
    else if (account_peers(s->accounts, cred.uid) >= per_uid)
        turn_away(s, fd, cred, HEARTH_E_BUSY, "this user has as many connections as it may");
    else
        (void)peer_new(s, fd, cred);
}

void listen_accept(struct ipc_server *s) {
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            admit(s, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            table_full(s);
        return;
    }
}
