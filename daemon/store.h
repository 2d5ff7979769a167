/* daemon/store.h: what hearthd keeps over a restart, in one SQLite database in its state directory.
 *
 * One thread has the one connection, and does all that may block. The event loop queues jobs for it, of a bounded
 * number, and is told of what it asked for by callbacks on the loop. Nobody ever waits for a write.
 *
 * What it keeps makes the next load cheaper and the past visible, and nothing else depends on it. So no fault of it is
 * an error to anybody: where the state directory cannot be used (not ours, read-only, taken by another daemon, of a
 * newer version) the same tables are kept in memory, for as long as this daemon lives; a disk that is full loses what
 * was to be written meanwhile; a database that is corrupt is renamed aside and begun anew, once. Each is logged once,
 * and store_describe() says how things stand.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hearth/error.h>

#include "daemon/loop.h"
#include "daemon/resolve.h"

struct store;

/* `directory`: an absolute path, made with mode 0700 where it is missing; "": in memory only. Returns before anything
 * is opened. Errors: NO_MEMORY, SYSTEM (no thread). */
int store_new(struct loop *loop, const char *directory, struct store **out, struct hearth_error *err);
/* Writes what is queued and gives the database up, so that another daemon can take it: for at most a second or two;
 * what hangs longer goes with the process. Afterwards nothing is kept, and nothing found. */
void store_stop(struct store *s);
/* The loop runs no more. Returns NULL; NULL is allowed. */
struct store *store_free(struct store *s);

/* One line for status: where it is, and how it is. */
void store_describe(struct store *s, char *buffer, size_t size);

/* ---- pins: what is to be resident at every start ---- */

/* All of them, in the order in which they were first put; valid during the call. */
struct store_pin {
    const char *ref; /* as it was put */
    const struct load_spec *spec;
};
typedef void (*store_pins_done)(void *user, const struct store_pin *pins, size_t n);
/* done() comes once, later; with none where they cannot be had. Errors: NO_MEMORY, and done() does not come. */
int store_pins_load(struct store *s, store_pins_done done, void *user);
/* Keeps it, or replaces what was kept for this reference. On stable storage once it is written. Both are copied. */
void store_pin_put(struct store *s, const char *ref, const struct load_spec *spec);
void store_pin_remove(struct store *s, const char *ref);
