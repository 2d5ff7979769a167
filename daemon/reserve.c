/* daemon/reserve.c: see reserve.h. */
#include "daemon/reserve.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/loop.h"
#include "loader/loader.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/memory_limit.h"
#include "util/text.h"

/* Microseconds of waiting, and of the time that is looked at: who has no CAP_SYS_RESOURCE may only ask for multiples of
 * two seconds. */
#define TRIGGER "some 100000 2000000"

static void on_pressure(void *user) {
    struct reserve *r = user;
    struct pollfd p = {.fd = r->pressure, .events = POLLPRI};
    char size[16];
    if (poll(&p, 1, 0) > 0 && p.revents & (POLLERR | POLLNVAL)) { /* its control group is gone */
        loop_unwatch(r->loop, r->pressure);
        r->pressure = close_fd(r->pressure);
        engine_look_for_pressure(r->engine);
        return;
    }
    uint64_t held = engine_held(r->engine);
    engine_pressure(r->engine);
    if (held > 0)
        log_info("memory is short: giving up %s that were held in reserve", format_size(held, size, sizeof(size)));
}

/* A trigger on the file, watched; or -1. */
static int watch(struct reserve *r, const char *path) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || write(fd, TRIGGER, sizeof(TRIGGER)) < 0 || loop_watch_urgent(r->loop, fd, on_pressure, r, NULL) != 0)
        return -1;
    return steal_fd(&fd);
}

struct limits {
    uint64_t machine, group;
};

static void take_limit(void *user, const struct memory_limit *m) {
    struct limits *l = user;
    if (m->of_machine)
        l->machine = m->limit;
    else if (m->limit < l->group)
        l->group = m->limit;
}

/* Whether a control group bounds what we and our neighbours in it may have. */
static bool is_limited(const char *root) {
    struct limits l = {.group = UINT64_MAX};
    return memory_limit_each(root, take_limit, &l, NULL) == 0 && l.group < l.machine;
}

/* The machine's file tells of every group's waiting; where it is hidden, that of the own group may not be. */
static void listen_for_pressure(struct reserve *r) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/pressure/memory", r->root);
    r->pressure = watch(r, path);
    if (r->pressure < 0 && memory_group_file(r->root, "memory.pressure", path, sizeof(path)))
        r->pressure = watch(r, path);
    if (r->pressure >= 0 && is_limited(r->root)) {
        /* At a group's limit the kernel kills before anybody has waited for long. */
        engine_look_for_pressure(r->engine);
    } else if (r->pressure < 0) {
        log_info("the kernel tells nothing of memory pressure here: looking at what is available every two seconds");
        engine_look_for_pressure(r->engine);
    }
    r->listens = true;
}

void reserve_init(struct reserve *r, struct loop *l, struct engine *e, const char *root) {
    *r = (struct reserve){.loop = l, .engine = e, .root = root, .pressure = -1};
}

void reserve_turn(struct reserve *r, uint64_t wanted, uint64_t room) {
    uint64_t bytes = wanted < room ? wanted : room;
    if (bytes == r->asked)
        return;
    if (!r->listens)
        listen_for_pressure(r);
    engine_hold(r->engine, bytes);
    r->asked = bytes;
}

void reserve_deinit(struct reserve *r) {
    if (r->loop && r->pressure >= 0) {
        loop_unwatch(r->loop, r->pressure);
        r->pressure = close_fd(r->pressure);
    }
    r->loop = NULL;
}
