/* util/fdlist.c: see fdlist.h. */
#include "util/fdlist.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "util/cleanup.h"

int fdlist_push(struct fdlist *l, int fd) {
    if (l->count == HEARTH_PACKET_FDS_MAX) {
        close_fd(fd);
        return -ENOSPC;
    }
    l->fds[l->count++] = fd;
    return 0;
}

int fdlist_steal(struct fdlist *l, size_t i) {
    return steal_fd(&l->fds[i]);
}

void fdlist_deinit(struct fdlist *l) {
    for (size_t i = 0; i < l->count; i++)
        close_fd(l->fds[i]);
    l->count = 0;
}

/* The control buffer for the most descriptors one message carries, aligned as cmsghdr wants. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * HEARTH_PACKET_FDS_MAX)];
};

int fdlist_send(int socket, const void *packet, size_t bytes, const struct fdlist *fds) {
    union control control;
    struct iovec iov = {.iov_base = (void *)packet, .iov_len = bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fds && fds->count > 0) {
        size_t payload = sizeof(int) * fds->count;
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(payload);
        memset(&control, 0, CMSG_SPACE(payload));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(payload);
        memcpy(CMSG_DATA(c), fds->fds, payload);
    }
    for (;;) {
        ssize_t n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            return 0; /* a packet is sent whole or not at all */
        if (errno != EINTR)
            return -errno;
    }
}

long fdlist_receive_wait(int socket, void *buffer, size_t size, struct fdlist *fds, bool wait, bool *lost) {
    union control control;
    struct iovec iov = {.iov_base = buffer, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(socket, &msg, (wait ? 0 : MSG_DONTWAIT) | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR && !wait);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        const unsigned char *data = CMSG_DATA(c);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, data + i * sizeof(int), sizeof(int));
            (void)fdlist_push(fds, fd);
        }
    }
    /* A full descriptor table gives a partial set and MSG_CTRUNC, not an error. */
    *lost = msg.msg_flags & MSG_CTRUNC;
    if (*lost)
        fdlist_deinit(fds);
    if (msg.msg_flags & MSG_TRUNC) {
        fdlist_deinit(fds);
        return -EMSGSIZE;
    }
    return n;
}

long fdlist_receive(int socket, void *buffer, size_t size, struct fdlist *fds) {
    bool lost;
    long n = fdlist_receive_wait(socket, buffer, size, fds, false, &lost);
    return n >= 0 && lost ? -EMFILE : n;
}
