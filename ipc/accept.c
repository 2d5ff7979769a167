/* ipc/accept.c: who may connect.
 *
 * Where there is no place left, one that is taken by a connection that has said nothing is given to the next
 * (silent.c).
 *
 * A connection that cannot be accepted stays in the kernel's queue, and the listener stays readable. So it is accepted
 * with a descriptor kept for that, told why, and closed; or where that fails too, nobody is accepted for a while. The
 * loop never spins, and no client waits for an answer that never comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define ACCEPTS_A_TURN 16
#define PAUSE_NS (100 * NS_PER_MS)
#define OVERFLOW_ID 65534u

/* One packet to somebody who is not a peer, then the end. */
static void turn_away(struct ipc_server *s, int fd, struct ipc_cred cred, enum hearth_code code, const char *why) {
    struct hearth_error err;
    error_set(&err, code, "%s", why);
    count_error(s, code);
    long n = wire_error(&s->out, 0, &err);
    if (n > 0)
        (void)fdlist_send(fd, s->out.buffer, (size_t)n, NULL);
    if (log_may(&s->log_limit))
        log_notice("turned a client away: %s (uid %u, pid %d)", why, (unsigned)cred.uid, (int)cred.pid);
    hang_up(fd);
}

bool accept_has_strangers(void) {
    uint64_t mapped = 0, count;
    _cleanup_fclose_ FILE *f = fopen("/proc/self/uid_map", "re"); /* lines of: inside, outside, how many */
    while (f && fscanf(f, "%*s %*s %" SCNu64, &count) == 1)
        mapped += count;
    return f && mapped < UINT32_MAX;
}

static struct ipc_cred cred_of(const struct ipc_server *s, int fd) {
    struct ucred c = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t length = sizeof(c);
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &length); /* cannot fail: the socket is a connected one */
    if (s->strangers && c.uid == OVERFLOW_ID)
        c.uid = IPC_STRANGER;
    if (s->strangers && c.gid == OVERFLOW_ID)
        c.gid = IPC_STRANGER;
    return (struct ipc_cred){c.pid, c.uid, c.gid};
}

/* Whose it is, and whether it may have a place; else it has been turned away. */
static bool is_admitted(struct ipc_server *s, int fd, struct ipc_cred *out) {
    struct ipc_cred cred = *out = cred_of(s, fd);
    bool own = cred.uid == geteuid() || cred.uid == 0;
    unsigned per_uid = s->options.peers_max_per_uid;
    if (per_uid == 0)
        per_uid = own ? s->options.peers_max : (s->options.peers_max + 3) / 4;
    bool full = s->n_peers >= s->options.peers_max, full_for_uid = account_peers(s->accounts, cred.uid) >= per_uid;
    const char *refused = s->options.refuses ? s->options.refuses(s->user, fd, cred) : NULL;
    if (refused)
        turn_away(s, fd, cred, HEARTH_E_DENIED, refused);
    else if ((full || full_for_uid) && !silent_make_room(s, full_for_uid ? cred.uid : ANY_UID))
        turn_away(s, fd, cred, HEARTH_E_BUSY,
                  full ? "the daemon has as many connections as it may"
                       : "this user has as many connections as it may");
    else
        return true;
    return false;
}

static void enter(struct ipc_server *s, int fd, struct ipc_cred cred) {
    if (!peer_new(s, fd, cred))
        turn_away(s, fd, cred, HEARTH_E_NO_MEMORY, "the daemon has no memory for a connection");
}

static void reserve(struct ipc_server *s) {
    if (s->reserve < 0)
        s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void watch_listener(struct ipc_server *s, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = &s->listener};
    if (s->listener >= 0)
        epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &event);
}

static void pause_accepting(struct ipc_server *s, int error) {
    struct hearth_error err;
    struct itimerspec soon = {.it_value.tv_nsec = PAUSE_NS};
    error_errno(&err, error, "no client is accepted for a moment");
    log_warning("%s", err.message);
    watch_listener(s, 0);
    timerfd_settime(s->pause, 0, &soon, NULL);
}

void accept_resume(struct ipc_server *s) {
    reserve(s);
    watch_listener(s, EPOLLIN);
}

/* With the table full: the client is accepted in the reserve's place. Who has said nothing makes room for it; else it
 * is told so, and closed. */
static int accept_by_reserve(struct ipc_server *s) {
    if (s->reserve < 0)
        return -EMFILE;
    s->reserve = close_fd(s->reserve);
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r = fd < 0 ? -errno : 0;
    struct ipc_cred cred;
    if (fd >= 0 && is_admitted(s, fd, &cred)) {
        if (silent_make_room(s, ANY_UID)) {
            enter(s, fd, cred);
            return -EAGAIN; /* the rest with the next turn: then there is a reserve again */
        }
        turn_away(s, fd, cred, HEARTH_E_NO_FDS, "the daemon has no free file descriptor for a connection");
    }
    reserve(s);
    return r;
}

void accept_some(struct ipc_server *s) {
    reserve(s);
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int r = fd < 0 ? -errno : 0;
        struct ipc_cred cred;
        if (fd >= 0 && is_admitted(s, fd, &cred))
            enter(s, fd, cred);
        else if (r == -EMFILE || r == -ENFILE)
            r = accept_by_reserve(s);
        if (r == -EAGAIN)
            return;
        if (r < 0 && r != -ECONNABORTED && r != -EINTR) {
            pause_accepting(s, -r);
            return;
        }
    }
}
