/* daemon/store_db.h: the store's one SQLite connection: where it is opened, and what is done about what is wrong with
 * it. See store_db.c.
 *
 * Thread rule: the store's own thread.
 */
#pragma once

#include <limits.h>
#include <sqlite3.h>
#include <stdbool.h>

/* Told of each change of how things stand, as a sentence for people. */
typedef void (*store_health)(void *user, bool well, const char *what);

struct store_db {
    sqlite3 *connection; /* NULL: not even memory for one */
    char directory[PATH_MAX];
    bool in_memory, durable, set_aside;
    int changes; /* of the connection, when the transaction began */
    store_health health;
    void *user;
};

/* Opens DIRECTORY/hearth.db, or in memory where that cannot be or is not wanted (""). */
void store_db_open(struct store_db *d, const char *directory, store_health health, void *user);
/* One transaction: 0, or what SQLite said. Whatever it is, the next one may go well. */
int store_db_begin(struct store_db *d, bool durable);
int store_db_end(struct store_db *d, int result);
/* May run twice. */
void store_db_close(struct store_db *d);
