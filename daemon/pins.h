/* daemon/pins.h: what is to stay. A pin is on a reference and the files chosen of it, not on one state of them.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "daemon/resolve.h"

struct pins {
    TAILQ_HEAD(, pin) all; /* in the order in which they were made */
};

void pins_init(struct pins *p);
void pins_deinit(struct pins *p);
bool pins_any(const struct pins *p);
/* The same files of the same reference are pinned. */
bool pins_has(const struct pins *p, const struct load_spec *spec);
/* Replaces the pin of this reference, if there is one. Errors: NO_MEMORY. */
int pins_put(struct pins *p, const struct load_spec *spec, struct hearth_error *err);
void pins_remove(struct pins *p, const char *ref);
