/* ipc/client/connect.c: finding a daemon, saying hello, hanging up. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/client/client.h"
#include "util/clock.h"
#include "util/socket_path.h"

#define CLIENT_NAME_MAX 64
#define DISPATCH_MAX 256

uint64_t hearth_deadline_in(uint64_t ms) {
    uint64_t now = clock_now();
    return ms > (HEARTH_NO_DEADLINE - 1 - now) / NS_PER_MS ? HEARTH_NO_DEADLINE - 1 : now + ms * NS_PER_MS;
}

static int connect_failed(int sys_errno, const char *path, struct hearth_error *err) {
    int code;
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
    case EPROTOTYPE: /* a socket of another kind */
        code = error_errno(err, sys_errno, "no hearthd answers on the socket");
        error_hint(err, "start one (hearthd, or systemctl start hearthd.socket), or name its socket in HEARTH_SOCKET");
        code = HEARTH_E_NO_DAEMON;
        break;
    case EAGAIN:
        code = error_set(err, HEARTH_E_TIMEOUT, "hearthd did not accept the connection before the deadline");
        break;
    case EACCES:
    case EPERM:
        code = error_errno(err, sys_errno, "not allowed to connect to hearthd");
        error_hint(err, "ask for access to this socket, or run a hearthd of your own");
        break;
    default:
        code = error_errno(err, sys_errno, "cannot connect to hearthd");
    }
    if (err)
        err->code = (enum hearth_code)code;
    error_at(err, path, HEARTH_NO_OFFSET);
    return code;
}

static int open_socket(const char *path, uint64_t deadline, int *out, struct hearth_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path) || path[0] == '\0') {
        error_set(err, HEARTH_E_INVALID, "this cannot be the path of a socket");
        error_at(err, path, HEARTH_NO_OFFSET);
        error_expected(err, "1 to %zu bytes", sizeof(address.sun_path) - 1);
        error_found(err, "%zu bytes", strlen(path));
        return HEARTH_E_INVALID;
    }
    memcpy(address.sun_path, path, strlen(path));
    int code = socket_path_check(path, err);
    if (code && code != HEARTH_E_NOT_FOUND)
        return code;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "cannot make a socket");
    /* Where the daemon's backlog is full, a non-blocking connect fails with EAGAIN and cannot be polled for; a blocking
     * one waits as long as SO_SNDTIMEO says. */
    int r;
    do {
        uint64_t now = clock_now();
        uint64_t us = deadline == HEARTH_NO_DEADLINE ? 0 : deadline > now ? (deadline - now) / 1000 + 1 : 1;
        struct timeval t = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0)
            return error_errno(err, errno, "cannot set the time to connect in");
        r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return connect_failed(errno, path, err);
    *out = steal_fd(&fd);
    return 0;
}

struct hello {
    struct request request;
    struct hearth_msg_welcome welcome;
};

static enum taken take_welcome(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    (void)fds;
    struct hearth_msg_welcome *m = &((struct hello *)r)->welcome;
    wire_fixed(in, m, sizeof(*m));
    return in->header.type == HEARTH_MSG_WELCOME ? TAKEN_FINAL : TAKEN_WRONG;
}

static int say_hello(struct hearth *h, uint64_t deadline, struct hearth_error *err) {
    struct hello hello = {.request.take = take_welcome};
    struct hearth_msg_hello *m = request_begin(h, &hello.request, HEARTH_MSG_HELLO, sizeof(*m));
    char name[CLIENT_NAME_MAX];
    snprintf(name, sizeof(name), "%s (libhearth %s)", program_invocation_short_name, hearth_version());
    m->version_min = HEARTH_PROTOCOL_MIN;
    m->version_max = HEARTH_PROTOCOL_MAX;
    m->client = wire_put_str(&h->out, name);
    int code = request_call(h, &hello.request, deadline, err);
    if (code)
        return code;
    const struct hearth_msg_welcome *w = &hello.welcome;
    if (w->version < HEARTH_PROTOCOL_MIN || w->version > HEARTH_PROTOCOL_MAX) {
        error_set(err, HEARTH_E_UNSUPPORTED, "hearthd speaks another version of the protocol");
        error_at(err, h->path, HEARTH_NO_OFFSET);
        error_expected(err, "%u to %u", HEARTH_PROTOCOL_MIN, HEARTH_PROTOCOL_MAX);
        error_found(err, "%" PRIu32, w->version);
        return HEARTH_E_UNSUPPORTED;
    }
    h->mounts = w->mounts;
    h->root_device = w->root_device;
    h->root_inode = w->root_inode;
    return 0;
}

static void cleanup_hearth(struct hearth **h) {
    hearth_close(*h);
}

static int connect_to(const char *path, uint64_t deadline, struct hearth **out, struct hearth_error *err) {
    _cleanup_close_ int fd = -1;
    int code = open_socket(path, deadline, &fd, err);
    if (code)
        return code;
    _cleanup_(cleanup_hearth) struct hearth *h = calloc(1, sizeof(*h));
    if (!h)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a connection");
    h->fd = steal_fd(&fd);
    h->pid = getpid();
    snprintf(h->path, sizeof(h->path), "%s", path);
    code = say_hello(h, deadline, err);
    if (code)
        return code;
    *out = steal_ptr(&h);
    return 0;
}

int hearth_connect(const char *path, uint64_t deadline, struct hearth **out, struct hearth_error *err) {
    *out = NULL;
    if (!path) {
        path = secure_getenv("HEARTH_SOCKET");
        path = path && path[0] != '\0' ? path : NULL;
    }
    if (path)
        return connect_to(path, deadline, out, err);

    char candidate[sizeof(((struct hearth *)0)->path)];
    int code = socket_path_default(true, candidate, sizeof(candidate), err);
    int of_system = code ? code : connect_to(candidate, deadline, out, err);
    if (of_system != HEARTH_E_NO_DAEMON && of_system != HEARTH_E_DENIED)
        return of_system;
    code = socket_path_default(false, candidate, sizeof(candidate), err);
    code = code ? code : connect_to(candidate, deadline, out, err);
    if (code == HEARTH_E_NO_DAEMON && of_system == HEARTH_E_DENIED)
        error_hint(err, "a hearthd of the system runs, but denies you access; a hearthd of your own would do");
    return code;
}

struct hearth *hearth_close(struct hearth *h) {
    if (!h)
        return NULL;
    struct hearth_error why;
    error_set(&why, HEARTH_E_CANCELLED, "the connection was closed");
    if (h->pid == getpid()) /* first: a hang-up gives all leases back in one */
        connection_kill(h, &why);
    else /* a shutdown here would reach the parent's connection too */
        request_forget_all(h);
    while (h->artifacts)
        hearth_release(h->artifacts);
    close(h->fd);
    free(h->farewells);
    free(h);
    return NULL;
}

const char *hearth_socket_path(const struct hearth *h) {
    return h->path;
}

int hearth_fd(const struct hearth *h) {
    return h->fd;
}

int hearth_dispatch(struct hearth *h, struct hearth_error *err) {
    static const struct request none;
    int code = request_ready(h, &none, 0, err);
    if (code)
        return code;
    /* A bounded number, so that a daemon that sends faster than we read cannot keep us: the fd stays readable. */
    for (int i = 0; i < DISPATCH_MAX && code == 0; i++) {
        code = connection_turn(h, 0, NULL);
        if (code == HEARTH_E_TIMEOUT)
            return 0;
    }
    return connection_dead(h, err);
}
