/* daemon/store_history.c: the table of loads that have ended. The last HISTORY_MAX of them are kept. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store.h"
#include "daemon/store_job.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

#define HISTORY_MAX 10000

#define COLUMNS                                                                                                  \
    "ended, artifact, ref, verified, backing, flags, files, bytes, resident, huge, from_disk, from_page_cache, " \
    "took, phases, code, errno, message, file, at, expected, found, hint"
#define N_COLUMNS 22

/* ---- adding ---- */

struct put_past {
    struct store_job job;
    struct store_past past;
    uint64_t phases[2 * HEARTH_PHASES]; /* little endian */
};

static void spans_to_bytes(const struct hearth_span *spans, uint64_t *bytes) {
    for (unsigned i = 0; i < HEARTH_PHASES; i++) {
        bytes[2 * i] = htole64(spans[i].start_ns);
        bytes[2 * i + 1] = htole64(spans[i].end_ns);
    }
}

static int bind_past(void *user, sqlite3_stmt *s) {
    const struct put_past *p = user;
    const struct hearth_msg_info *m = &p->past.info;
    const struct hearth_error *e = &p->past.error;
    const struct {
        int column;
        int64_t value;
    } numbers[] = {
        {1, p->past.ended_ns},
        {2, (int64_t)m->id},
        {4, m->verified},
        {5, m->backing},
        {6, m->flags},
        {7, m->n_files},
        {8, (int64_t)m->bytes},
        {9, (int64_t)m->resident_bytes},
        {10, (int64_t)m->huge_bytes},
        {11, (int64_t)m->from_disk},
        {12, (int64_t)m->from_page_cache},
        {13, (int64_t)m->seconds_ns},
        {15, e->code},
        {16, e->sys_errno},
        {19, (int64_t)e->offset},
    };
    const struct {
        int column;
        const char *text;
    } texts[] = {{3, p->past.ref}, {17, e->message}, {18, e->file}, {20, e->expected}, {21, e->found}, {22, e->hint}};
    int r = sqlite3_bind_blob(s, 14, p->phases, sizeof(p->phases), SQLITE_STATIC);
    for (size_t i = 0; !r && i < sizeof(numbers) / sizeof(numbers[0]); i++)
        r = sqlite3_bind_int64(s, numbers[i].column, numbers[i].value);
    for (size_t i = 0; !r && i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].text[0])
            r = sqlite3_bind_text(s, texts[i].column, texts[i].text, -1, SQLITE_STATIC);
    return r;
}

static int bind_oldest(void *db, sqlite3_stmt *s) {
    return sqlite3_bind_int64(s, 1, sqlite3_last_insert_rowid(db) - HISTORY_MAX);
}

static int run_put(struct store_job *j, sqlite3 *db) {
    int r = store_run(db,
                      "INSERT INTO history(" COLUMNS ") VALUES"
                      "(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22)",
                      bind_past, NULL, j);
    return r ? r : store_run(db, "DELETE FROM history WHERE id <= ?1", bind_oldest, NULL, db);
}

static void destroy_put(struct store_job *j) {
    struct put_past *p = (struct put_past *)j;
    free(p->past.ref);
    free(p);
}

void store_history_put(struct store *s, const char *ref, const struct hearth_msg_info *info,
                       const struct hearth_error *err) {
    struct put_past *p = calloc(1, sizeof(*p));
    if (!p || !(p->past.ref = strdup(ref))) {
        free(p);
        return;
    }
    p->job = (struct store_job){.run = run_put, .destroy = destroy_put};
    p->past.ended_ns = clock_real();
    p->past.info = *info;
    error_clear(&p->past.error);
    if (err)
        p->past.error = *err;
    spans_to_bytes(info->phases, p->phases);
    store_queue(s, &p->job);
}

/* ---- looking back ---- */

struct store_query {
    struct store_job job;
    store_history_done done; /* NULL: dropped */
    void *user;
    char *ref;   /* NULL: all */
    uint64_t id; /* what `ref` is, or 0 */
    int64_t before;
    size_t limit;
    struct store_past *items;
    size_t n;
};

static int bind_query(void *user, sqlite3_stmt *s) {
    const struct store_query *q = user;
    int r = sqlite3_bind_int64(s, 1, q->before);
    r = r ? r : sqlite3_bind_int64(s, 2, (int64_t)q->limit);
    if (r || !q->ref)
        return r;
    return q->id ? sqlite3_bind_int64(s, 3, (int64_t)q->id) : sqlite3_bind_text(s, 3, q->ref, -1, SQLITE_STATIC);
}

static void take_text(sqlite3_stmt *s, int column, char *to, size_t size) {
    const char *from = (const char *)sqlite3_column_text(s, column);
    size_t n = from ? strlen(from) : 0;
    n = n < size ? n : size - 1;
    if (n)
        memcpy(to, from, n);
    to[n] = '\0';
}

static int take_past(void *user, sqlite3_stmt *s) {
    struct store_query *q = user;
    struct store_past *p = &q->items[q->n];
    const char *ref = (const char *)sqlite3_column_text(s, 2);
    if (q->n == q->limit || !(p->ref = strdup(ref ? ref : "")))
        return SQLITE_NOMEM;
    q->n++;
    const uint8_t *phases = sqlite3_column_blob(s, 13);
    unsigned n_phases = (unsigned)sqlite3_column_bytes(s, 13) / sizeof(struct hearth_span);
    p->ended_ns = sqlite3_column_int64(s, 0);
    p->info = (struct hearth_msg_info){
        .id = (uint64_t)sqlite3_column_int64(s, 1),
        .verified = (uint32_t)sqlite3_column_int(s, 3),
        .backing = (uint32_t)sqlite3_column_int(s, 4),
        .flags = (uint32_t)sqlite3_column_int(s, 5),
        .n_files = (uint32_t)sqlite3_column_int(s, 6),
        .bytes = (uint64_t)sqlite3_column_int64(s, 7),
        .resident_bytes = (uint64_t)sqlite3_column_int64(s, 8),
        .huge_bytes = (uint64_t)sqlite3_column_int64(s, 9),
        .from_disk = (uint64_t)sqlite3_column_int64(s, 10),
        .from_page_cache = (uint64_t)sqlite3_column_int64(s, 11),
        .seconds_ns = (uint64_t)sqlite3_column_int64(s, 12),
    };
    for (unsigned i = 0; i < n_phases && i < HEARTH_PHASES; i++) {
        uint64_t v[2];
        memcpy(v, phases + i * sizeof(v), sizeof(v));
        p->info.phases[i] = (struct hearth_span){le64toh(v[0]), le64toh(v[1])};
    }
    error_clear(&p->error);
    p->error.code = (enum hearth_code)sqlite3_column_int(s, 14);
    p->info.state = p->error.code ? HEARTH_STATE_FAILED : HEARTH_STATE_RESIDENT;
    p->error.sys_errno = sqlite3_column_int(s, 15);
    take_text(s, 16, p->error.message, sizeof(p->error.message));
    take_text(s, 17, p->error.file, sizeof(p->error.file));
    p->error.offset = (uint64_t)sqlite3_column_int64(s, 18);
    take_text(s, 19, p->error.expected, sizeof(p->error.expected));
    take_text(s, 20, p->error.found, sizeof(p->error.found));
    take_text(s, 21, p->error.hint, sizeof(p->error.hint));
    p->number = sqlite3_column_int64(s, N_COLUMNS);
    return SQLITE_OK;
}

static int run_query(struct store_job *j, sqlite3 *db) {
    struct store_query *q = (struct store_query *)j;
    q->items = calloc(q->limit, sizeof(*q->items));
    if (!q->items)
        return SQLITE_NOMEM;
    static const char all[] = "SELECT " COLUMNS ", id FROM history WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
    static const char of_ref[] =
        "SELECT " COLUMNS ", id FROM history WHERE id < ?1 AND ref = ?3 ORDER BY id DESC LIMIT ?2";
    static const char of_id[] =
        "SELECT " COLUMNS ", id FROM history WHERE id < ?1 AND artifact = ?3 ORDER BY id DESC LIMIT ?2";
    return store_run(db, q->id ? of_id : q->ref ? of_ref : all, bind_query, take_past, q);
}

static void done_query(struct store_job *j, bool ran) {
    const struct store_query *q = (struct store_query *)j;
    if (q->done)
        q->done(q->user, ran ? q->items : NULL, ran ? q->n : 0);
}

static void destroy_query(struct store_job *j) {
    struct store_query *q = (struct store_query *)j;
    for (size_t i = 0; i < q->n; i++)
        free(q->items[i].ref);
    free(q->items);
    free(q->ref);
    free(q);
}

int store_history_find(struct store *s, const char *ref, int64_t before, size_t limit, store_history_done done,
                       void *user, struct store_query **out) {
    struct store_query *q = calloc(1, sizeof(*q));
    if (!q || (ref && !(q->ref = strdup(ref)))) {
        free(q);
        return HEARTH_E_NO_MEMORY;
    }
    q->job = (struct store_job){.run = run_query, .done = done_query, .destroy = destroy_query};
    if (ref && !parse_id(ref, &q->id))
        q->id = 0;
    q->before = before;
    q->limit = limit;
    q->done = done;
    q->user = user;
    *out = q;
    store_queue(s, &q->job);
    return 0;
}

void store_query_drop(struct store_query *q) {
    q->done = NULL;
}
