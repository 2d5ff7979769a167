/* util/fdlist.h: a list of file descriptors as one value with one owner.
 *
 * Thread rule: one thread at a time. Capacity is the most that one packet carries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hearth/protocol.h>

struct fdlist {
    size_t count;
    int fds[HEARTH_PACKET_FDS_MAX];
};

#define FDLIST_NULL \
    { 0 }

/* Takes the fd over, also on failure. 0, or -ENOSPC. */
int fdlist_push(struct fdlist *l, int fd);
/* Takes entry i out (the slot becomes -1). */
int fdlist_steal(struct fdlist *l, size_t i);
/* Closes what is left. May run twice. */
void fdlist_deinit(struct fdlist *l);

/* Sends one packet with these descriptors (borrowed) by SCM_RIGHTS; never blocks, never raises SIGPIPE. `fds` may be
 * NULL. 0 or -errno: -EAGAIN, -EPIPE, -ETOOMANYREFS, ... */
int fdlist_send(int socket, const void *packet, size_t bytes, const struct fdlist *fds);

/* Receives one packet and its descriptors, never blocking; descriptors are close-on-exec and appended to *fds, which
 * must be empty. Returns the packet's bytes, 0 at end of file, or -errno: -EAGAIN, -EMSGSIZE (it was larger than
 * `size`), -EMFILE (some descriptors could not be received; those that came are closed), -ECONNRESET, ... */
long fdlist_receive(int socket, void *buffer, size_t size, struct fdlist *fds);

/* The same for a receiver that waits (as long as the socket's mode and SO_RCVTIMEO say; -EINTR then comes back, for the
 * caller's deadline) and that answers for lost descriptors itself: the packet is returned with *lost set and fds empty,
 * instead of -EMFILE. */
long fdlist_receive_wait(int socket, void *buffer, size_t size, struct fdlist *fds, bool wait, bool *lost);
