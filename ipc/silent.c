/* ipc/silent.c: connections that have not said HELLO.
 *
 * Each takes a place and a descriptor, and has asked for nothing. So it has a while to speak, and where no place is
 * left for somebody else, the one that has been silent for longest gives up its own: nobody is kept out by those who
 * say nothing. Who has sent something is not silent, although it may not have been read yet.
 */
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#include "ipc/internal.h"
#include "util/clock.h"

#define ENDED_A_TURN 64

static bool has_spoken(const struct ipc_peer *p) {
    int unread;
    return ioctl(p->fd, FIONREAD, &unread) == 0 && unread > 0;
}

/* The timer is on while there is anybody to wait for. It may come too early, for one that has spoken since. */
static void watch(struct ipc_server *s) {
    const struct ipc_peer *oldest = TAILQ_FIRST(&s->silent);
    bool on = oldest != NULL;
    uint64_t at = on ? oldest->since_ns + s->hello_ns : 0;
    const struct itimerspec when = {.it_value = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)}};
    if (on == s->hello_on)
        return;
    s->hello_on = on;
    timerfd_settime(s->hello, TFD_TIMER_ABSTIME, &when, NULL);
}

void silent_add(struct ipc_peer *p) {
    p->since_ns = clock_now();
    p->silent = true;
    TAILQ_INSERT_TAIL(&p->server->silent, p, silent_link);
    watch(p->server);
}

void silent_remove(struct ipc_peer *p) {
    if (!p->silent)
        return;
    p->silent = false;
    TAILQ_REMOVE(&p->server->silent, p, silent_link);
    watch(p->server);
}

bool silent_make_room(struct ipc_server *s, uid_t uid) {
    struct ipc_peer *p;
    TAILQ_FOREACH(p, &s->silent, silent_link) {
        if ((uid != ANY_UID && p->cred.uid != uid) || has_spoken(p))
            continue;
        peer_refuse(p, 0, HEARTH_E_BUSY, "no HELLO has come, and another client needs the place");
        return true;
    }
    return false;
}

void silent_expire(struct ipc_server *s) {
    uint64_t now = clock_now();
    struct ipc_peer *p = TAILQ_FIRST(&s->silent), *next;
    for (unsigned i = 0; p && i < ENDED_A_TURN && p->since_ns + s->hello_ns <= now; i++, p = next) {
        next = TAILQ_NEXT(p, silent_link);
        if (!has_spoken(p))
            peer_refuse(p, 0, HEARTH_E_TIMEOUT, "no HELLO has come in time");
    }
    s->hello_on = false;
    watch(s);
}
