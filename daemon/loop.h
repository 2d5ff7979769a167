/* daemon/loop.h: the event loop: descriptors, deadlines, and work handed over by other threads.
 *
 * Nothing that runs on it may block. Each turn serves every ready descriptor once, then what other threads posted, then
 * the timers that are due, so that no source can starve another; with nothing to do it sleeps without a timeout.
 *
 * Thread rule: all on the thread that runs it, but loop_post().
 */
#pragma once

#include <stdint.h>

#include <hearth/error.h>

struct loop;
typedef void (*loop_call)(void *user);

/* Errors: NO_FDS, NO_MEMORY, SYSTEM. */
int loop_new(struct loop **out, struct hearth_error *err);
/* Returns NULL; NULL is allowed. */
struct loop *loop_free(struct loop *l);

/* Calls ready() in each turn in which fd is readable. The fd stays the caller's. Errors: as loop_new. */
#define LOOP_WATCHES_MAX 8
int loop_watch(struct loop *l, int fd, loop_call ready, void *user, struct hearth_error *err);
/* The same for what poll(2) calls urgent (POLLPRI): a trigger on the kernel's account of pressure. */
int loop_watch_urgent(struct loop *l, int fd, loop_call ready, void *user, struct hearth_error *err);
void loop_unwatch(struct loop *l, int fd);
/* The loop's epoll set, for one module that puts descriptors of its own there, each with a pointer of its own as data;
 * their events come through event(). NULL: nobody any more. */
struct epoll_event;
typedef void (*loop_event)(void *user, const struct epoll_event *event);
const int *loop_share(struct loop *l, loop_event event, void *user);

/* Work from another thread. It lives in the caller's memory, and may be posted again once it ran. */
struct loop_job {
    loop_call run;
    void *user;
    struct loop_job *next;
};
/* Any thread. */
void loop_post(struct loop *l, struct loop_job *job);

/* A deadline. It lives in the caller's memory; zeroed but for `due` and `user` it is off. */
#define LOOP_NEVER UINT64_MAX
struct loop_timer {
    loop_call due;
    void *user;
    uint64_t at; /* CLOCK_MONOTONIC, ns; 0 or LOOP_NEVER: off */
    struct loop_timer *next;
    struct loop *loop;
};
/* Switches itself off when it is due. The timer must outlive the loop, or be taken out; not from a timer's own
 * call. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at);
void loop_timer_remove(struct loop_timer *t);

/* Runs until loop_quit(); `turn` (NULL: nothing) is called before each wait. Errors: SYSTEM. */
int loop_run(struct loop *l, loop_call turn, void *user, struct hearth_error *err);
void loop_quit(struct loop *l);
