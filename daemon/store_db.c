/* daemon/store_db.c: see store_db.h.
 *
 * The journal is a WAL, under a lock that is taken at the start and kept. A commit is then one write, without a wait
 * for the disk: a killed process loses nothing of it, and a power failure the last commits at most, never the database.
 * What must outlast even that (a pin that somebody was told of) is committed durably. The lock keeps a second daemon
 * out, and with it SQLite has the WAL's index on its heap rather than in a file that is mapped: no SIGBUS where the
 * disk is full, and no memory that a home on NFS could not share. Where nothing can be written there is no WAL, and no
 * use in a store.
 */
#include "daemon/store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/log.h"

#define VERSION 1
/* One that ends gives its lock up before its socket: this is for what it has left to write. */
#define LOCK_PATIENCE_MS 1000
#define ASIDE_MAX 1000

static const char schema[] =
    "CREATE TABLE records(device INTEGER, inode INTEGER, bytes INTEGER, mtime INTEGER, ctime INTEGER, used INTEGER,"
    " sha256 BLOB, chunks BLOB NOT NULL, UNIQUE(device, inode));"
    "CREATE TABLE history(id INTEGER PRIMARY KEY AUTOINCREMENT, ended INTEGER, artifact INTEGER, ref TEXT,"
    " verified INTEGER, backing INTEGER, flags INTEGER, files INTEGER, bytes INTEGER, resident INTEGER, huge INTEGER,"
    " from_disk INTEGER, from_page_cache INTEGER, took INTEGER, phases BLOB, code INTEGER, errno INTEGER,"
    " message TEXT, file TEXT, at INTEGER, expected TEXT, found TEXT, hint TEXT);"
    "CREATE TABLE pins(id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, path TEXT, verify INTEGER, include BLOB, "
    "exclude BLOB,"
    " digests BLOB);"
    "PRAGMA user_version = 1;";

/* ---- the directory ---- */

/* With what is missing above it, for ~/.local/state is no home's from the start. 0 or errno. */
static int make_directory(const char *path) {
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof(part))
        return ENAMETOOLONG;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) < 0 && errno != EEXIST && (path[i] == '\0' || errno != EROFS))
            return errno;
    }
    return 0;
}

static bool directory_is_ours(const char *path, char *why, size_t size) {
    struct stat st;
    int e = make_directory(path);
    if (!e && stat(path, &st) < 0)
        e = errno;
    if (e)
        snprintf(why, size, "it cannot be made: %s", strerror(e));
    else if (!S_ISDIR(st.st_mode))
        snprintf(why, size, "it is no directory");
    else if (st.st_uid != geteuid())
        snprintf(why, size, "it belongs to uid %u, not to %u", (unsigned)st.st_uid, (unsigned)geteuid());
    else if (st.st_mode & (S_IWGRP | S_IWOTH))
        snprintf(why, size, "others may write to it (mode %04o): chmod 700 it", (unsigned)(st.st_mode & 07777));
    else if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) < 0)
        snprintf(why, size, "nothing can be made in it: %s", strerror(errno));
    else
        return true;
    return false;
}

/* Keeps a database that cannot be read, for whoever wants to look at it. */
static bool set_aside(struct store_db *d) {
    char from[PATH_MAX + 32], to[PATH_MAX + 64];
    snprintf(from, sizeof(from), "%s/hearth.db", d->directory);
    for (int i = 1; i <= ASIDE_MAX; i++) {
        snprintf(to, sizeof(to), "%s.corrupt-%d", from, i);
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
            log_warning("the database %s is corrupt: it is now %s, and a new one is begun", from, to);
            strcat(from, "-wal");
            strcat(to, "-wal");
            (void)rename(from, to);
            return d->set_aside = true;
        }
        if (errno != EEXIST)
            break;
    }
    return false;
}

/* ---- opening ---- */

static const char *reason(sqlite3 *c, int r) {
    int e = c ? sqlite3_system_errno(c) : 0;
    if ((r & 0xff) == SQLITE_BUSY)
        return "another hearthd has it";
    if (((r & 0xff) == SQLITE_IOERR || (r & 0xff) == SQLITE_CANTOPEN) && e)
        return strerror(e);
    return c ? sqlite3_errmsg(c) : sqlite3_errstr(r);
}

static int take_version(void *version, int n, char **values, char **names) {
    (void)names;
    if (n == 1 && values[0])
        sscanf(values[0], "%d", (int *)version);
    return 0;
}

/* An SQLite result code; -1 for a database of a newer version. */
static int prepare(sqlite3 *c) {
    static const char setup[] = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                                "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;"
                                "PRAGMA journal_size_limit = 1048576; PRAGMA wal_autocheckpoint = 256;"
                                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; BEGIN IMMEDIATE;";
    int version = 0;
    sqlite3_extended_result_codes(c, 1);
    sqlite3_busy_timeout(c, LOCK_PATIENCE_MS);
    int r = sqlite3_exec(c, setup, NULL, NULL, NULL);
    if (!r)
        r = sqlite3_exec(c, "PRAGMA user_version", take_version, &version, NULL);
    if (!r && version > VERSION)
        return -1;
    if (!r && version == 0)
        r = sqlite3_exec(c, schema, NULL, NULL, NULL);
    return r ? r : sqlite3_exec(c, "COMMIT", NULL, NULL, NULL);
}

static int open_at(const char *path, sqlite3 **out) {
    int r = sqlite3_open_v2(path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (!r)
        (void)chmod(path, 0600); /* a directory that was there may be open to others; the journal gets the same mode */
    return r ? r : prepare(*out);
}

static bool is_corrupt(int r) {
    return (r & 0xff) == SQLITE_CORRUPT || (r & 0xff) == SQLITE_NOTADB;
}

static void say(struct store_db *d, bool well, const char *why) {
    char text[PATH_MAX + 256];
    if (well)
        snprintf(text, sizeof(text), "%s", d->directory[0] ? d->directory : "in memory only: state-dir is none");
    else
        snprintf(text, sizeof(text), "%s %s: %s",
                 d->in_memory ? "in memory only: cannot use" : "losing what is new:", d->directory, why);
    d->health(d->user, well, text);
}

static void open_in_memory(struct store_db *d, const char *why) {
    sqlite3_close(d->connection);
    d->connection = NULL;
    d->in_memory = true;
    if (open_at(":memory:", &d->connection)) {
        sqlite3_close(d->connection);
        d->connection = NULL;
    }
    say(d, !why, why);
}

static void open_directory(struct store_db *d) {
    char path[PATH_MAX + 32], why[256];
    if (!directory_is_ours(d->directory, why, sizeof(why))) {
        open_in_memory(d, why);
        return;
    }
    snprintf(path, sizeof(path), "%s/hearth.db", d->directory);
    int r = open_at(path, &d->connection);
    if (is_corrupt(r) && !d->set_aside) {
        sqlite3_close(d->connection);
        d->connection = NULL;
        r = set_aside(d) ? open_at(path, &d->connection) : r;
    }
    if (r) {
        snprintf(why, sizeof(why), "%s", r < 0 ? "a newer hearthd made it" : reason(d->connection, r));
        open_in_memory(d, why);
    } else {
        say(d, true, NULL);
    }
}

void store_db_open(struct store_db *d, const char *directory, store_health health, void *user) {
    *d = (struct store_db){.health = health, .user = user};
    snprintf(d->directory, sizeof(d->directory), "%s", directory);
    if (directory[0])
        open_directory(d);
    else
        open_in_memory(d, NULL);
}

/* ---- transactions ---- */

int store_db_begin(struct store_db *d, bool durable) {
    if (!d->connection)
        return SQLITE_NOMEM;
    if (durable != d->durable) {
        d->durable = durable;
        (void)sqlite3_exec(d->connection, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
                           NULL, NULL);
    }
    d->changes = sqlite3_total_changes(d->connection);
    return sqlite3_exec(d->connection, "BEGIN IMMEDIATE", NULL, NULL, NULL);
}

int store_db_end(struct store_db *d, int r) {
    char why[256];
    if (!d->connection)
        return r;
    if (!r)
        r = sqlite3_exec(d->connection, "COMMIT", NULL, NULL, NULL);
    if (!r) {
        if (!d->in_memory && sqlite3_total_changes(d->connection) != d->changes) /* it takes writes (again) */
            say(d, true, NULL);
        return 0;
    }
    snprintf(why, sizeof(why), "%s", reason(d->connection, r));
    if (!sqlite3_get_autocommit(d->connection)) /* it may have been rolled back already */
        (void)sqlite3_exec(d->connection, "ROLLBACK", NULL, NULL, NULL);
    if (d->in_memory)
        return r;
    if (!is_corrupt(r)) {
        say(d, false, why);
    } else if (!d->set_aside) {
        store_db_close(d);
        d->durable = false;
        if (set_aside(d))
            open_directory(d);
        else
            open_in_memory(d, why);
    } else {
        open_in_memory(d, why);
    }
    return r;
}

void store_db_close(struct store_db *d) {
    sqlite3_close(d->connection);
    d->connection = NULL;
}
