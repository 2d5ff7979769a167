/* daemon/slots.h: how many loads run side by side, counted for each storage that they read from.
 *
 * A storage that hangs holds up the loads from itself, and no others. A load that is cancelled while its storage hangs
 * cannot be called back: it gives its place to the next one, and its thread and memory stay until the storage answers.
 * Of those there may be LET_GO_MAX; after that, new loads from that storage are refused.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <hearth/error.h>

#define LET_GO_MAX 16u

struct slots {
    unsigned at_once; /* of one storage */
    unsigned running; /* from all, those let go included */
    unsigned let_go;  /* from all */
    LIST_HEAD(, storage) storages;
};

#define SLOTS_WAIT (-1)
/* 0: a load from this device (st_dev) may start; SLOTS_WAIT: when another one has ended. Errors: BUSY, about `what`. */
int slots_check(const struct slots *s, uint64_t device, bool background, const char *what, struct hearth_error *err);
/* Errors: NO_MEMORY. */
int slots_take(struct slots *s, uint64_t device, bool background, struct hearth_error *err);
/* It is a background load no more. */
void slots_hasten(struct slots *s, uint64_t device);
/* It was cancelled, and has not ended yet. */
void slots_let_go(struct slots *s, uint64_t device, bool background);
/* It has ended. */
void slots_give_back(struct slots *s, uint64_t device, bool let_go, bool background);
/* Nothing may be running. Can run twice. */
void slots_deinit(struct slots *s);
