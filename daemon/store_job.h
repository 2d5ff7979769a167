/* daemon/store_job.h: what store.c and the files of its tables share. Not for anybody else.
 *
 * A job is a piece of work for the store's thread: run() there, inside of a transaction that it shares with the jobs
 * queued beside it; then done() on the event loop, where it has one; then destroy().
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/store.h"

struct store_job {
    STAILQ_ENTRY(store_job) link;
    TAILQ_ENTRY(store_job) asked;
    struct store *store;
    struct loop_job posted;
    /* Returns an SQLite result code. */
    int (*run)(struct store_job *j, sqlite3 *db);
    /* On the loop, once; NULL for a write. Without `ran` run() has not been called, or may be under way: nothing that
     * it writes to may be touched. */
    void (*done)(struct store_job *j, bool ran);
    /* Frees what it has, and the job. Either thread. */
    void (*destroy)(struct store_job *j);
    bool patient;      /* waits for its answer for as long as it takes */
    bool durable;      /* on stable storage when it is committed, not some seconds later */
    bool refused;      /* run() is not called */
    bool answered;     /* done() was called: the loop has lost patience, or the answer has come */
    uint64_t since_ns; /* when it was queued */
};

/* Takes the job over. A full queue, and a store that has been stopped, drop a write; one that has a done() is answered
 * from the loop's next turn. */
void store_queue(struct store *s, struct store_job *j);

/* Runs one statement to its end: `bind` (NULL: nothing to bind) gives it its values, and `row` (NULL: none are
 * expected) is called for each row it gives; both return an SQLite result code. */
typedef int (*store_values)(void *user, sqlite3_stmt *s);
int store_run(sqlite3 *db, const char *sql, store_values bind, store_values row, void *user);
