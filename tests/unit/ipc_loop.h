/* tests/unit/ipc_loop.h: what the daemon's event loop is to a server of ipc/, for one server: an epoll set, and turns.
 */
#pragma once

#include <sys/epoll.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/cleanup.h"

static inline int loop_server_new(const struct ipc_options *options, const struct ipc_handler *handler, void *user,
                                  struct ipc_server **out) {
    _cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct ipc_options with_loop = *options;
    with_loop.epoll = &epoll;
    int r = ipc_server_new(&with_loop, handler, user, out, NULL);
    if (r == 0)
        (void)steal_fd(&epoll); /* closed by loop_server_free */
    return r;
}

static inline struct ipc_server *loop_server_free(struct ipc_server *s) {
    if (!s)
        return NULL;
    int epoll = s->epoll;
    s = ipc_server_free(s);
    close(epoll);
    return s;
}

/* One turn: serves what is ready, without waiting. */
static inline void loop_server_turn(struct ipc_server *s) {
    struct epoll_event events[64];
    int n = epoll_wait(s->epoll, events, 64, 0);
    for (int i = 0; i < n; i++)
        ipc_server_event(s, &events[i]);
    ipc_server_turn(s);
}
