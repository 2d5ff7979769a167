/* daemon/store_records.c: the table of records: one a file, by device and inode, as large as the file has chunks.
 *
 * Bounded: what no load has asked for in a year goes, and of too many those that were not asked for longest. Chunks are
 * kept little endian, 16 bytes each.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store.h"
#include "daemon/store_job.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define DAY_S INT64_C(86400)
#define KEPT_S (366 * DAY_S)
#define RECORDS_MAX INT64_C(200000)
#define HASHES_MAX (INT64_C(64) << 20) /* bytes of all chunks' hashes: of 16 TiB of content */
#define HASH_BYTES 16u
/* After so many changes it is counted again. */
#define CHANGES_A_COUNT 4096

static int64_t now_s(void) {
    return clock_real() / (int64_t)NS_PER_S;
}

static int bind_file(sqlite3_stmt *s, const struct file_identity *f) {
    int r = sqlite3_bind_int64(s, 1, (int64_t)f->device);
    r = r ? r : sqlite3_bind_int64(s, 2, (int64_t)f->inode);
    r = r ? r : sqlite3_bind_int64(s, 3, (int64_t)f->bytes);
    r = r ? r : sqlite3_bind_int64(s, 4, f->mtime_ns);
    return r ? r : sqlite3_bind_int64(s, 5, f->ctime_ns);
}

/* ---- finding ---- */

struct store_lookup {
    struct store_job job;
    store_records_done done; /* NULL: dropped */
    void *user;
    struct record *records; /* with the identities that are asked for */
    size_t n;
};

/* A column of the right length; 0, or an SQLite result code. */
static int take_chunks(struct record *r, sqlite3_stmt *s, int column) {
    const uint8_t *from = sqlite3_column_blob(s, column);
    uint32_t n = record_chunks(r->identity.bytes);
    if ((uint64_t)sqlite3_column_bytes(s, column) != (uint64_t)n * HASH_BYTES)
        return SQLITE_OK; /* damaged: no record */
    struct chunk_hash *chunks = calloc(n ? n : 1, sizeof(*chunks));
    if (!chunks)
        return SQLITE_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v[2];
        memcpy(v, from + (size_t)i * HASH_BYTES, sizeof(v));
        chunks[i] = (struct chunk_hash){le64toh(v[0]), le64toh(v[1])};
    }
    r->chunks = chunks;
    r->n_chunks = n;
    return SQLITE_OK;
}

static int find_one(struct record *r, sqlite3_stmt *find, sqlite3_stmt *touch, int64_t now) {
    int e = bind_file(find, &r->identity);
    if (e)
        return e;
    e = sqlite3_step(find);
    if (e == SQLITE_ROW) {
        int64_t row = sqlite3_column_int64(find, 0), used = sqlite3_column_int64(find, 1);
        r->has_sha256 = sqlite3_column_bytes(find, 2) == sizeof(r->sha256);
        if (r->has_sha256)
            memcpy(r->sha256, sqlite3_column_blob(find, 2), sizeof(r->sha256));
        e = take_chunks(r, find, 3);
        if (!e && (used < now - DAY_S || used > now)) { /* once a day is often enough */
            sqlite3_bind_int64(touch, 1, now);
            sqlite3_bind_int64(touch, 2, row);
            e = sqlite3_step(touch);
            sqlite3_reset(touch);
        }
    }
    sqlite3_reset(find);
    return e == SQLITE_DONE ? SQLITE_OK : e;
}

static int run_find(struct store_job *j, sqlite3 *db) {
    struct store_lookup *l = (struct store_lookup *)j;
    sqlite3_stmt *find = NULL, *touch = NULL;
    int r = sqlite3_prepare_v2(db,
                               "SELECT rowid, used, sha256, chunks FROM records WHERE device = ?1 AND inode = ?2"
                               " AND bytes = ?3 AND mtime = ?4 AND ctime = ?5",
                               -1, &find, NULL);
    r = r ? r : sqlite3_prepare_v2(db, "UPDATE records SET used = ?1 WHERE rowid = ?2", -1, &touch, NULL);
    int64_t now = now_s();
    for (size_t i = 0; !r && i < l->n; i++)
        r = find_one(&l->records[i], find, touch, now);
    sqlite3_finalize(find);
    sqlite3_finalize(touch);
    return r;
}

static void done_find(struct store_job *j, bool ran) {
    struct store_lookup *l = (struct store_lookup *)j;
    if (l->done)
        l->done(l->user, ran ? steal_ptr(&l->records) : NULL);
}

static void destroy_find(struct store_job *j) {
    struct store_lookup *l = (struct store_lookup *)j;
    records_free(l->records, l->n);
    free(l);
}

int store_records_find(struct store *s, const struct artifact_file *files, size_t n, store_records_done done,
                       void *user, struct store_lookup **out) {
    struct store_lookup *l = calloc(1, sizeof(*l));
    if (!l || !(l->records = calloc(n ? n : 1, sizeof(*l->records)))) {
        free(l);
        return HEARTH_E_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++)
        l->records[i].identity = files[i].identity;
    l->job = (struct store_job){.run = run_find, .done = done_find, .destroy = destroy_find};
    l->n = n;
    l->done = done;
    l->user = user;
    *out = l;
    store_queue(s, &l->job);
    return 0;
}

void store_lookup_drop(struct store_lookup *l) {
    l->done = NULL;
}

/* ---- keeping ---- */

struct put_records {
    struct store_job job;
    struct record *records;
    size_t n;
};

static int bind_chunks(sqlite3_stmt *s, int column, const struct record *r) {
    uint64_t *bytes = calloc(r->n_chunks ? r->n_chunks : 1, HASH_BYTES);
    if (!bytes)
        return SQLITE_NOMEM;
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        bytes[2 * i] = htole64(r->chunks[i].low);
        bytes[2 * i + 1] = htole64(r->chunks[i].high);
    }
    return sqlite3_bind_blob64(s, column, bytes, (sqlite3_uint64)r->n_chunks * HASH_BYTES, free);
}

static int put_one(const struct record *r, sqlite3_stmt *put, int64_t now) {
    int e = bind_file(put, &r->identity);
    e = e ? e : sqlite3_bind_int64(put, 6, now);
    e = e               ? e
        : r->has_sha256 ? sqlite3_bind_blob(put, 7, r->sha256, sizeof(r->sha256), SQLITE_STATIC)
                        : sqlite3_bind_null(put, 7);
    e = e ? e : bind_chunks(put, 8, r);
    e = e ? e : sqlite3_step(put);
    sqlite3_reset(put);
    return e == SQLITE_DONE ? SQLITE_OK : e;
}

static int take_counts(void *counts, sqlite3_stmt *s) {
    ((int64_t *)counts)[0] = sqlite3_column_int64(s, 0);
    ((int64_t *)counts)[1] = sqlite3_column_int64(s, 1);
    return SQLITE_OK;
}

static int bind_number(void *number, sqlite3_stmt *s) {
    return sqlite3_bind_int64(s, 1, *(const int64_t *)number);
}

static int prune(sqlite3 *db) {
    int64_t oldest = now_s() - KEPT_S, counts[2] = {0, 0};
    int r = store_run(db, "DELETE FROM records WHERE used < ?1", bind_number, NULL, &oldest);
    for (;;) {
        r = r ? r : store_run(db, "SELECT count(*), sum(length(chunks)) FROM records", NULL, take_counts, counts);
        if (r || (counts[0] <= RECORDS_MAX && counts[1] <= HASHES_MAX))
            return r;
        int64_t eighth = counts[0] / 8 + 1;
        r = store_run(db,
                      "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records ORDER BY used, rowid LIMIT ?1)",
                      bind_number, NULL, &eighth);
    }
}

/* What is known of a file is replaced when the file is another by its identity, or its content was proven anew, or is
 * the same. Else a load that did not ask (the store had no time for it) met other content under the old identity: what
 * was known stays, for the next load to tell. */
static int run_put(struct store_job *j, sqlite3 *db) {
    struct put_records *p = (struct put_records *)j;
    static const char sql[] = "INSERT INTO records(device, inode, bytes, mtime, ctime, used, sha256, chunks)"
                              " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(device, inode) DO UPDATE"
                              " SET bytes = ?3, mtime = ?4, ctime = ?5, used = ?6, sha256 = ?7, chunks = ?8"
                              " WHERE bytes <> ?3 OR mtime <> ?4 OR ctime <> ?5 OR ?7 IS NOT NULL";
    sqlite3_stmt *put = NULL;
    int before = sqlite3_total_changes(db);
    int r = sqlite3_prepare_v2(db, sql, -1, &put, NULL);
    int64_t now = now_s();
    for (size_t i = 0; !r && i < p->n; i++)
        r = put_one(&p->records[i], put, now);
    sqlite3_finalize(put);
    if (!r && (before == 0 || before / CHANGES_A_COUNT != sqlite3_total_changes(db) / CHANGES_A_COUNT))
        r = prune(db);
    return r;
}

static void destroy_put(struct store_job *j) {
    struct put_records *p = (struct put_records *)j;
    records_free(p->records, p->n);
    free(p);
}

void store_records_put(struct store *s, struct record *records, size_t n) {
    struct put_records *p = n ? calloc(1, sizeof(*p)) : NULL;
    if (!p) {
        records_free(records, n);
        return;
    }
    p->job = (struct store_job){.run = run_put, .destroy = destroy_put};
    p->records = records;
    p->n = n;
    store_queue(s, &p->job);
}
