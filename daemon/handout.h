/* daemon/handout.h: descriptors for replies.
 *
 * Every descriptor that a client gets is a fresh O_RDONLY description, because one that two clients hold would share
 * its file offset. Opening it takes microseconds that a client would wait for; so each resident that was attached
 * lately keeps one description a slot ready. A reply takes it, and it is made again in a later turn of the loop: the
 * client that the reply wakes up often waits for this very CPU. The number of those spares is bounded, and the
 * residents attached longest ago give theirs up first.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "daemon/generation.h"
#include "util/fdlist.h"

struct handout {
    TAILQ_HEAD(recent_list, generation) recent; /* with spares, or about to get some; attached last first */
    unsigned spares, spares_max;
    int own_fds; /* /proc/self/fd, for the opening of what has no spare */
    bool taken;  /* some were handed out in this turn */
    bool due;    /* some are to be made again */
};

void handout_init(struct handout *h, unsigned spares_max);
/* All generations have been dropped. May run twice, also before handout_init() on HANDOUT_NULL. */
void handout_deinit(struct handout *h);
#define HANDOUT_NULL \
    { .own_fds = -1 }

/* Appends the descriptors of `n` slots of a resident: the index first if `index`, then those of files[0..n) (NULL:
 * files 0..n). On failure *out holds what was opened. Errors: NO_FDS, SYSTEM. */
int handout_take(struct handout *h, struct generation *g, bool index, const uint32_t *files, size_t n,
                 struct fdlist *out, struct hearth_error *err);
/* At the end of each turn of the loop: makes ready again what earlier turns handed out. It never fails: what cannot be
 * made is opened when needed. True when it wants another turn soon, though nothing may happen. */
bool handout_turn(struct handout *h);
/* Closes a generation's spares. */
void handout_drop(struct handout *h, struct generation *g);
