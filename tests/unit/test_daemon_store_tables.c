/* daemon/store: its records and its history: what is found again, what is replaced, and what goes. */
#include "store_fixture.h"

static void records_outlast_a_restart_and_are_of_one_identity(void **state) {
    (void)state;
    struct artifact_file files[] = {file_of(1, 3 * CHUNK_BYTES, 10), file_of(2, 0, 10), file_of(3, 1, 10)};
    struct store *s = open_at(directory);
    put(s, &files[0], 100, "x");
    put(s, &files[1], 0, NULL);
    store_free(s);
    s = open_at(directory);
    find(s, files, 3);
    assert_non_null(known);
    assert_int_equal(known[0].n_chunks, 3);
    assert_int_equal(known[0].chunks[2].low, 102);
    assert_int_equal(known[0].chunks[2].high, ~UINT64_C(100));
    assert_true(known[0].has_sha256);
    assert_int_equal(known[0].sha256[31], 'x');
    assert_non_null(known[1].chunks); /* an empty file has one, too */
    assert_int_equal(known[1].n_chunks, 0);
    assert_null(known[2].chunks);
    records_free(known, 3);
    files[0].identity.ctime_ns++;
    find(s, files, 1);
    assert_null(known[0].chunks);
    records_free(known, 1);
    store_free(s);
}

static uint64_t hash_of(struct store *s, const struct artifact_file *f) {
    find(s, f, 1);
    uint64_t hash = known && known[0].chunks ? known[0].chunks[0].low : 0;
    records_free(known, 1);
    return hash;
}

static void a_record_is_replaced_by_a_proof_or_a_new_identity_only(void **state) {
    (void)state;
    struct artifact_file f = file_of(1, 5, 10), touched = file_of(1, 5, 11);
    struct store *s = open_at(directory);
    put(s, &f, 100, NULL);
    put(s, &f, 200, NULL); /* by a load that did not compare */
    assert_int_equal(hash_of(s, &f), 100);
    put(s, &f, 300, "x");
    assert_int_equal(hash_of(s, &f), 300);
    put(s, &touched, 400, NULL);
    assert_int_equal(hash_of(s, &touched), 400);
    assert_int_equal(hash_of(s, &f), 0); /* the file is not that one any more */
    store_free(s);
}

static void nobody_is_told_of_a_lookup_that_was_dropped(void **state) {
    (void)state;
    struct artifact_file f = file_of(1, 5, 10);
    struct store_lookup *l;
    struct store *s = open_at(directory);
    known = NULL;
    assert_int_equal(store_records_find(s, &f, 1, take_records, NULL, &l), 0);
    store_lookup_drop(l);
    pins_of(s); /* behind it */
    assert_null(known);
    store_free(s);
}

static void with_sql(const char *sql) {
    sqlite3 *db;
    char path[96], *message = NULL;
    snprintf(path, sizeof(path), "%s/hearth.db", directory);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message))
        fail_msg("%s", message);
    sqlite3_close(db);
}

static void records_that_nobody_asked_for_go_when_there_are_too_many_or_they_are_old(void **state) {
    (void)state;
    struct artifact_file f = file_of(1, 5, 10), old = file_of(2, 5, 10), first = file_of(1000001, 5, 10),
                         last = file_of(1200000, 5, 10);
    struct store *s = open_at(directory);
    put(s, &f, 100, NULL);
    put(s, &old, 200, NULL);
    store_free(s);
    with_sql("UPDATE records SET used = used - 400 * 86400 WHERE inode = 2;"
             "WITH RECURSIVE n(i) AS (SELECT 1000001 UNION ALL SELECT i + 1 FROM n WHERE i < 1200000)"
             " INSERT INTO records SELECT 7, i, 5, 1, 10, (SELECT max(used) FROM records) - 2000000 + i, NULL,"
             " zeroblob(16) FROM n");
    s = open_at(directory);
    put(s, &f, 100, "x"); /* the first write of a daemon counts */
    pins_of(s);           /* behind it, and patient: pruning may take longer than a lookup waits */
    assert_int_equal(hash_of(s, &old), 0);
    assert_int_equal(hash_of(s, &f), 100);
    find(s, &first, 1);
    assert_null(known[0].chunks); /* used longest ago */
    records_free(known, 1);
    find(s, &last, 1);
    assert_non_null(known[0].chunks);
    records_free(known, 1);
    store_free(s);
}

static void damaged_records_are_none(void **state) {
    (void)state;
    struct artifact_file f = file_of(1, 5, 10);
    struct store *s = open_at(directory);
    put(s, &f, 100, "x");
    store_free(s);
    with_sql("UPDATE records SET chunks = x'0102', sha256 = 'text'");
    s = open_at(directory);
    assert_int_equal(hash_of(s, &f), 0);
    store_free(s);
}

/* ---- history ---- */

static char past[512];
static int64_t oldest;

static void take_history(void *user, const struct store_past *items, size_t n) {
    (void)user;
    past[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(past);
        snprintf(past + used, sizeof(past) - used, "%s %d %s;", items[i].ref, (int)items[i].error.code,
                 items[i].error.hint);
        oldest = items[i].number;
        assert_int_equal(items[i].info.phases[HEARTH_PHASE_SEAL].end_ns, 77);
        assert_int_equal(items[i].info.bytes, UINT64_MAX);
        assert_true(items[i].ended_ns > 0);
    }
    loop_quit(loop);
}

static const char *history_of(struct store *s, const char *ref, int64_t before, size_t limit) {
    struct store_query *q;
    assert_int_equal(store_history_find(s, ref, before, limit, take_history, NULL, &q), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    return past;
}

static void history_outlasts_a_restart_and_is_read_page_by_page(void **state) {
    (void)state;
    struct hearth_msg_info info = {.id = 5, .bytes = UINT64_MAX};
    struct hearth_error err = {.code = HEARTH_E_INTEGRITY, .offset = UINT64_MAX, .hint = "a hint"};
    info.phases[HEARTH_PHASE_SEAL].end_ns = 77;
    struct store *s = open_at(directory);
    store_history_put(s, "/a", &info, NULL);
    store_history_put(s, "/b", &info, &err);
    store_history_put(s, "/a", &info, NULL);
    store_free(s);
    s = open_at(directory);
    assert_string_equal(history_of(s, NULL, INT64_MAX, 2), "/a 0 ;/b 18 a hint;");
    assert_string_equal(history_of(s, NULL, oldest, 2), "/a 0 ;");
    assert_string_equal(history_of(s, "/b", INT64_MAX, 64), "/b 18 a hint;");
    assert_string_equal(history_of(s, "/c", INT64_MAX, 64), "");
    store_free(s);
    with_sql("WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 10110)"
             " INSERT INTO history(id, ref) SELECT i, '/many' FROM n");
    s = open_at(directory);
    store_history_put(s, "/last", &info, NULL);
    assert_string_equal(history_of(s, NULL, INT64_MAX, 1), "/last 0 ;");
    assert_string_equal(history_of(s, "/b", INT64_MAX, 1), ""); /* one of 10,000 no more */
    store_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_outlast_a_restart_and_are_of_one_identity, make, unmake),
        cmocka_unit_test_setup_teardown(a_record_is_replaced_by_a_proof_or_a_new_identity_only, make, unmake),
        cmocka_unit_test_setup_teardown(nobody_is_told_of_a_lookup_that_was_dropped, make, unmake),
        cmocka_unit_test_setup_teardown(records_that_nobody_asked_for_go_when_there_are_too_many_or_they_are_old, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(damaged_records_are_none, make, unmake),
        cmocka_unit_test_setup_teardown(history_outlasts_a_restart_and_is_read_page_by_page, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
