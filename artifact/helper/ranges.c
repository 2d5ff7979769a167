/* artifact/helper/ranges.c: see helper.h.
 *
 * Files are read by pread(2) and never mapped: a file on storage may be cut short by others at any time, and a mapping
 * would turn that into SIGBUS.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "artifact/helper/helper.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/fdlist.h"

long channel_receive(void *packet, size_t size, int *fd) {
    struct fdlist fds = FDLIST_NULL;
    struct pollfd p = {.fd = PARSE_SOCKET_FD, .events = POLLIN};
    long n;
    while ((n = fdlist_receive(PARSE_SOCKET_FD, packet, size, &fds)) == -EAGAIN)
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return -errno;
    *fd = fds.count > 0 ? fdlist_steal(&fds, 0) : -1;
    fdlist_deinit(&fds);
    return n;
}

int channel_send(const struct wire_out *out, long bytes) {
    struct pollfd p = {.fd = PARSE_SOCKET_FD, .events = POLLOUT};
    int r;
    while ((r = fdlist_send(PARSE_SOCKET_FD, out->buffer, (size_t)bytes, NULL)) == -EAGAIN)
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return -errno;
    return r;
}

static int ask(struct ranges *r, uint32_t file, uint64_t offset, uint64_t length, struct hearth_error *err) {
    struct parse_msg_range *q = wire_begin(&r->out, (enum hearth_msg_type)PARSE_MSG_RANGE, ++r->serial, sizeof(*q));
    *q = (struct parse_msg_range){
        .file = file, .flags = r->fd < 0 ? PARSE_WANT_FD : 0, .offset = offset, .length = length};
    int e = channel_send(&r->out, wire_end(&r->out));
    _Alignas(8) uint8_t packet[sizeof(struct hearth_msg)];
    struct wire_in in;
    int fd = -1;
    long n = e < 0 ? e : channel_receive(packet, sizeof(packet), &fd);
    if (n <= 0 || wire_open(&in, packet, (size_t)n) < 0 || in.header.type != PARSE_MSG_LANDED ||
        in.header.serial != r->serial || (fd >= 0) != (r->fd < 0)) {
        close_fd(fd);
        return error_set(err, HEARTH_E_DISCONNECTED, "the parent of the parser did not answer");
    }
    if (r->fd < 0)
        r->fd = fd;
    return 0;
}

int ranges_read(void *user, uint32_t file, uint64_t offset, void *buffer, size_t length, struct hearth_error *err) {
    struct ranges *r = user;
    if (length == 0)
        return 0;
    if (r->fd < 0 || file != r->file) {
        r->fd = close_fd(r->fd);
        r->file = file;
        r->first = r->end = 0;
    }
    if (r->fd < 0 || offset < r->first || offset > r->end || length > r->end - offset) {
        int e = ask(r, file, offset, length, err);
        if (e != 0)
            return e;
        if (offset != r->end || r->first == r->end)
            r->first = offset; /* not where the last one ended: begin anew */
        r->end = offset + length;
    }
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(r->fd, (char *)buffer + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "a file cannot be read at offset %llu", (unsigned long long)(offset + done));
        if (n == 0) {
            error_set(err, HEARTH_E_CHANGED, "a file became shorter while it was read");
            error_at(err, NULL, offset + done);
            return HEARTH_E_CHANGED;
        }
        done += (size_t)n;
    }
    return 0;
}
