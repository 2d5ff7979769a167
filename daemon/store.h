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
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "artifact/record.h"
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

/* ---- records: what is known of files' content ---- */

struct store_lookup;
/* One a file, in the order asked for; what is not known is without chunks. The callee's, for records_free(). NULL: they
 * could not be had, or not in time. */
typedef void (*store_records_done)(void *user, struct record *records);
/* Looks for records of exactly these files as they are. done() comes once, later, within a second or so. Errors:
 * NO_MEMORY, and it does not come. */
int store_records_find(struct store *s, const struct artifact_file *files, size_t n, store_records_done done,
                       void *user, struct store_lookup **out);
/* done() will not come. */
void store_lookup_drop(struct store_lookup *l);
/* Takes an array over and keeps what is in it. */
void store_records_put(struct store *s, struct record *records, size_t n);

/* ---- history: loads that have ended ---- */

struct store_past {
    int64_t number;   /* ascending with time; not without gaps */
    int64_t ended_ns; /* CLOCK_REALTIME */
    char *ref;
    struct hearth_msg_info info; /* state: RESIDENT or FAILED */
    struct hearth_error error;   /* code 0: it ended well */
};
/* `err`: NULL when it ended well. All is copied. */
void store_history_put(struct store *s, const char *ref, const struct hearth_msg_info *info,
                       const struct hearth_error *err);

struct store_query;
/* The newest first; valid during the call. */
typedef void (*store_history_done)(void *user, const struct store_past *items, size_t n);
/* At most `limit` (from 1) of those whose number is below `before`; of one reference or id, or with NULL of all. As
 * store_records_find(). */
int store_history_find(struct store *s, const char *ref, int64_t before, size_t limit, store_history_done done,
                       void *user, struct store_query **out);
void store_query_drop(struct store_query *q);
