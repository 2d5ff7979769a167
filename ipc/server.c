/* ipc/server.c: the server's life and its turns; see server.h. */
#include "ipc/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

#define PEERS_MAX 1024u
#define HELLO_NS (10 * NS_PER_S)
#define UNREAD_NS_MAX (5 * NS_PER_S)

/* How many descriptors may be under way to one user's clients: a quarter of what the kernel allows us in all. */
static unsigned unread_fds_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 1u << 20)
        limit.rlim_cur = 1u << 20;
    unsigned quarter = (unsigned)limit.rlim_cur / 4;
    return quarter > UNREAD_FDS_MAX ? quarter : UNREAD_FDS_MAX;
}

static int watch(struct ipc_server *s, int *fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, *fd, &event);
}

static void unwatch(struct ipc_server *s, int fd) {
    if (fd >= 0)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
    close_fd(fd);
}

int ipc_server_new(const struct ipc_options *options, const struct ipc_handler *handler, void *user,
                   struct ipc_server **out, struct hearth_error *err) {
    struct ipc_server *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the server");
    s->options = *options;
    if (s->options.peers_max == 0)
        s->options.peers_max = PEERS_MAX;
    s->handler = *handler;
    s->user = user;
    s->listener = s->lock = -1;
    TAILQ_INIT(&s->silent);
    s->hello_ns = HELLO_NS;
    s->unread_fds_uid_max = unread_fds_limit();
    s->strangers = accept_has_strangers();
    s->unread_ns_max = UNREAD_NS_MAX;
    s->epoll = *options->epoll;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->pause = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    s->hello = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (s->wake < 0 || s->pause < 0 || s->hello < 0 || s->reserve < 0 || watch(s, &s->wake) < 0 ||
        watch(s, &s->pause) < 0 || watch(s, &s->hello) < 0) {
        int r = error_errno(err, errno, "the server cannot be set up");
        ipc_server_free(s);
        return r;
    }
    *out = s;
    return 0;
}

void ipc_server_turn(struct ipc_server *s) {
    struct ipc_peer *next;
    while (s->any_doomed) { /* gone() may doom others */
        s->any_doomed = false;
        for (struct ipc_peer *p = s->peers; p; p = next) {
            next = p->next;
            if (p->doomed)
                peer_free(p);
        }
    }
}

struct ipc_server *ipc_server_free(struct ipc_server *s) {
    if (!s)
        return NULL;
    listen_remove(s);
    while (s->peers) {
        s->peers->doomed = true;
        peer_free(s->peers);
    }
    assert(!s->accounts);
    close_fd(s->reserve);
    unwatch(s, s->hello);
    unwatch(s, s->pause);
    unwatch(s, s->wake);
    free(s->scratch);
    free(s);
    return NULL;
}

void ipc_server_event(struct ipc_server *s, const struct epoll_event *event) {
    void *from = event->data.ptr;
    uint64_t count;
    if (from == &s->listener) {
        accept_some(s);
    } else if (from == &s->wake) {
        (void)eventfd_read(s->wake, &count);
    } else if (from == &s->pause) {
        (void)!read(s->pause, &count, sizeof(count));
        accept_resume(s);
    } else if (from == &s->hello) {
        (void)!read(s->hello, &count, sizeof(count));
        silent_expire(s);
    } else {
        peer_serve(from, event->events);
    }
}

const char *ipc_server_path(const struct ipc_server *s) {
    return s->path;
}
void count_error(struct ipc_server *s, enum hearth_code code) {
    if ((size_t)code < sizeof(s->errors) / sizeof(s->errors[0]))
        s->errors[code]++;
}

uint64_t ipc_server_errors(const struct ipc_server *s, enum hearth_code code) {
    return s->errors[code];
}

unsigned ipc_server_peers(const struct ipc_server *s) {
    return s->n_peers;
}
