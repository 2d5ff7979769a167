/* daemon/store: what is kept over a restart, and that no fault of the state directory is more than that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/store.h"
#include "daemon/store_job.h"
#include "util/cleanup.h"
#include "util/log.h"

static struct loop *loop;
static char directory[64];

static int make(void **state) {
    (void)state;
    log_init("test", LOG_ERROR);
    strcpy(directory, "/tmp/hearth-test-store-XXXXXX");
    return mkdtemp(directory) ? loop_new(&loop, NULL) : -1;
}

static int unmake(void **state) {
    char command[128];
    (void)state;
    loop_free(loop);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static struct store *open_at(const char *path) {
    struct store *s;
    assert_int_equal(store_new(loop, path, &s, NULL), 0);
    return s;
}

static struct load_spec spec_of(const char *ref) {
    return (struct load_spec){.ref = (char *)(uintptr_t)ref, .verify = HEARTH_VERIFY_REMEMBERED};
}

/* ---- pins, and with them that a store works ---- */

static char found[1024];

static void take_pins(void *user, const struct store_pin *pins, size_t n) {
    (void)user;
    found[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct load_spec *s = pins[i].spec;
        char *end = found + strlen(found);
        snprintf(end, sizeof(found) - (size_t)(end - found), "%s=%s,%d,%zu,%zu,%zu;", pins[i].ref, s->ref,
                 (int)s->verify, s->n_include, s->n_exclude, s->n_digests);
    }
    loop_quit(loop);
}

static const char *pins_of(struct store *s) {
    assert_int_equal(store_pins_load(s, take_pins, NULL), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    return found;
}

static const char *health_of(struct store *s) {
    static char text[512];
    store_describe(s, text, sizeof(text));
    return text;
}

static bool exists(const char *name) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static void pins_outlast_a_restart_in_their_order(void **state) {
    (void)state;
    struct load_spec a = spec_of("/models/a"), b = spec_of("/models/b");
    char *include[] = {"*.safetensors", "", "caf\xc3\xa9"}, *exclude[] = {"*.bin"};
    struct artifact_digest digests[] = {{"model.safetensors", {1, 2}}, {"", {0}}};
    struct store *s = open_at(directory);
    a.include = include;
    a.n_include = 3;
    a.exclude = exclude;
    a.n_exclude = 1;
    a.digests = digests;
    a.n_digests = 2;
    a.verify = HEARTH_VERIFY_ALWAYS;
    store_pin_put(s, "zoo/a", &a);
    store_pin_put(s, "/models/b", &b);
    store_pin_put(s, "/models/c", &b);
    store_pin_remove(s, "/models/c");
    store_pin_remove(s, "never there");
    a.verify = HEARTH_VERIFY_XXH3;
    store_pin_put(s, "zoo/a", &a); /* keeps its place */
    assert_string_equal(pins_of(s), "zoo/a=/models/a,2,3,1,2;/models/b=/models/b,3,0,0,0;");
    assert_string_equal(health_of(s), directory);
    store_free(s);
    s = open_at(directory);
    assert_string_equal(pins_of(s), "zoo/a=/models/a,2,3,1,2;/models/b=/models/b,3,0,0,0;");
    store_free(s);
    struct stat st;
    char path[96];
    snprintf(path, sizeof(path), "%s/hearth.db", directory);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void what_was_put_last_is_written_before_the_end(void **state) {
    (void)state;
    struct load_spec a = spec_of("/a");
    struct store *s = open_at(directory);
    store_pin_put(s, "/a", &a);
    store_stop(s);
    store_pin_put(s, "/late", &a);       /* dropped */
    assert_string_equal(pins_of(s), ""); /* answered all the same */
    store_free(s);
    s = open_at(directory);
    assert_string_equal(pins_of(s), "/a=/a,3,0,0,0;");
    assert_int_equal(store_pins_load(s, take_pins, NULL), 0);
    store_free(s); /* with an answer on its way */
}

static void a_killed_process_loses_nothing_that_was_answered(void **state) {
    (void)state;
    struct load_spec a = spec_of("/a");
    pid_t child = fork();
    if (child == 0) {
        struct store *s = open_at(directory);
        store_pin_put(s, "/a", &a);
        pins_of(s);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    struct store *s = open_at(directory);
    assert_string_equal(pins_of(s), "/a=/a,3,0,0,0;");
    store_free(s);
}

/* ---- records ---- */

static struct record *known;

static void take_records(void *user, struct record *records) {
    (void)user;
    known = records;
    loop_quit(loop);
}

static struct artifact_file file_of(uint64_t inode, uint64_t bytes, int64_t ctime) {
    return (struct artifact_file){
        .identity = {.device = 7, .inode = inode, .bytes = bytes, .mtime_ns = 1, .ctime_ns = ctime}};
}

static void find(struct store *s, const struct artifact_file *files, size_t n) {
    struct store_lookup *l;
    known = NULL;
    assert_int_equal(store_records_find(s, files, n, take_records, NULL, &l), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
}

static void put(struct store *s, const struct artifact_file *f, uint64_t hash, const char *sha256) {
    struct record *r = calloc(1, sizeof(*r));
    *r = (struct record){.identity = f->identity, .has_sha256 = sha256 != NULL};
    r->n_chunks = record_chunks(f->identity.bytes);
    r->chunks = calloc(r->n_chunks + 1, sizeof(*r->chunks));
    for (uint32_t i = 0; i < r->n_chunks; i++)
        r->chunks[i] = (struct chunk_hash){hash + i, ~hash};
    if (sha256)
        memset(r->sha256, sha256[0], sizeof(r->sha256));
    store_records_put(s, r, 1);
}

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

/* ---- faults ---- */

static void write_database(const char *text, size_t n) {
    char path[96];
    snprintf(path, sizeof(path), "%s/hearth.db", directory);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
}

static void a_corrupt_database_is_set_aside_once_and_a_new_one_begun(void **state) {
    (void)state;
    char garbage[8192];
    struct load_spec a = spec_of("/a");
    memset(garbage, 'x', sizeof(garbage));
    write_database(garbage, sizeof(garbage));
    struct store *s = open_at(directory);
    store_pin_put(s, "/a", &a);
    assert_string_equal(pins_of(s), "/a=/a,3,0,0,0;");
    assert_string_equal(health_of(s), directory);
    assert_true(exists("hearth.db.corrupt-1"));
    store_free(s);
    s = open_at(directory);
    assert_string_equal(pins_of(s), "/a=/a,3,0,0,0;");
    store_free(s);
    write_database(garbage, sizeof(garbage));
    s = open_at(directory);
    assert_string_equal(pins_of(s), "");
    assert_true(exists("hearth.db.corrupt-2")); /* the first one is kept */
    store_free(s);
}

static void pages_that_are_corrupt_behind_a_good_head_are_found_when_they_are_read(void **state) {
    (void)state;
    struct load_spec a = spec_of("/a");
    struct store *s = open_at(directory);
    store_pin_put(s, "/a", &a);
    store_free(s);
    char path[96], garbage[4096];
    memset(garbage, 0xff, sizeof(garbage));
    snprintf(path, sizeof(path), "%s/hearth.db", directory);
    _cleanup_close_ int fd = open(path, O_WRONLY);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 4096; at < st.st_size; at += (off_t)sizeof(garbage))
        assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
    s = open_at(directory);
    assert_string_equal(pins_of(s), "");
    store_pin_put(s, "/b", &a);
    assert_string_equal(pins_of(s), "/b=/a,3,0,0,0;");
    assert_true(exists("hearth.db.corrupt-1"));
    store_free(s);
}

static void expect_memory_only(struct store *s, const char *why) {
    struct load_spec a = spec_of("/a");
    store_pin_put(s, "/a", &a);
    assert_string_equal(pins_of(s), "/a=/a,3,0,0,0;"); /* works, as long as it lives */
    assert_ptr_equal(strstr(health_of(s), "in memory only"), health_of(s));
    assert_non_null(strstr(health_of(s), why));
}

static void without_a_directory_it_is_kept_in_memory(void **state) {
    (void)state;
    struct store *s = open_at("");
    expect_memory_only(s, "state-dir is none");
    store_free(s);
}

static void one_daemon_has_a_directory_and_another_does_without(void **state) {
    (void)state;
    struct store *first = open_at(directory);
    pins_of(first); /* has it */
    struct store *second = open_at(directory);
    expect_memory_only(second, "another hearthd has it");
    assert_string_equal(pins_of(first), "");
    store_stop(first);
    struct store *third = open_at(directory); /* it was given up */
    assert_string_equal(pins_of(third), "");
    assert_string_equal(health_of(third), directory);
    store_free(third);
    store_free(second);
    store_free(first);
}

static void a_database_of_a_newer_version_is_left_alone(void **state) {
    (void)state;
    store_free(open_at(directory));
    char path[96];
    snprintf(path, sizeof(path), "%s/hearth.db", directory);
    _cleanup_close_ int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\0\0\0\x63", 4, 60), 4); /* user_version, in the header */
    struct store *s = open_at(directory);
    expect_memory_only(s, "newer");
    assert_false(exists("hearth.db.corrupt-1"));
    store_free(s);
}

static void a_directory_that_others_may_write_to_is_not_used(void **state) {
    (void)state;
    assert_int_equal(chmod(directory, 0777), 0);
    struct store *s = open_at(directory);
    expect_memory_only(s, "others may write to it");
    store_free(s);
    assert_false(exists("hearth.db"));
    s = open_at("/dev/null/hearth");
    expect_memory_only(s, "/dev/null/hearth");
    store_free(s);
}

/* ---- a directory whose storage hangs ---- */

static pthread_mutex_t storage = PTHREAD_MUTEX_INITIALIZER;

static int hang(struct store_job *j, sqlite3 *db) {
    (void)j, (void)db;
    pthread_mutex_lock(&storage);
    pthread_mutex_unlock(&storage);
    return SQLITE_OK;
}

static void destroy_hang(struct store_job *j) {
    free(j);
}

static void queue_hang(struct store *s) {
    struct store_job *j = calloc(1, sizeof(*j));
    *j = (struct store_job){.run = hang, .destroy = destroy_hang};
    store_queue(s, j);
}

static void who_asks_a_store_that_hangs_is_answered_without_it(void **state) {
    (void)state;
    struct artifact_file f = file_of(1, 5, 10);
    struct load_spec a = spec_of("/a");
    struct store *s = open_at(directory);
    put(s, &f, 100, NULL);
    pins_of(s);
    pthread_mutex_lock(&storage);
    queue_hang(s);
    find(s, &f, 1);
    assert_null(known); /* after a second */
    for (unsigned i = 0; i < 2000; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/%u", i);
        store_pin_put(s, ref, &a); /* what it cannot take is dropped */
    }
    find(s, &f, 1); /* at once */
    assert_null(known);
    pthread_mutex_unlock(&storage);
    do
        find(s, &f, 1); /* until there is room in the queue again */
    while (!known);
    records_free(known, 1);
    store_free(s);
    s = open_at(directory);
    assert_non_null(strstr(pins_of(s), "/0=/a"));
    store_free(s);
}

static void a_store_that_hangs_is_not_waited_for_at_the_end(void **state) {
    (void)state;
    static struct store *hung; /* its thread keeps it */
    hung = open_at(directory);
    pins_of(hung);
    pthread_mutex_lock(&storage);
    queue_hang(hung);
    store_free(hung);
    pthread_mutex_unlock(&storage);
}

/* Runs a test in a child, whose limits and uid are its own. */
static void in_a_child(void (*test)(void)) {
    pid_t child = fork();
    if (child == 0) {
        test();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define EXPECT(condition)          \
    do {                           \
        if (!(condition))          \
            _exit(__LINE__ % 256); \
    } while (0)

static void read_only(void) {
    if (geteuid() == 0) /* to whom permissions do not apply */
        EXPECT(chown(directory, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    EXPECT(chmod(directory, 0500) == 0);
    struct store *s;
    EXPECT(store_new(loop, directory, &s, NULL) == 0);
    struct load_spec a = spec_of("/a");
    store_pin_put(s, "/a", &a);
    EXPECT(strcmp(pins_of(s), "/a=/a,3,0,0,0;") == 0);
    EXPECT(strstr(health_of(s), "in memory only: cannot use /tmp/"));
    EXPECT(strstr(health_of(s), strerror(EACCES)));
    store_free(s);
    EXPECT(chmod(directory, 0700) == 0);
}

static void a_read_only_directory_costs_persistence_only(void **state) {
    (void)state;
    in_a_child(read_only);
}

/* Files may not grow any more: what a full disk does to a database, at a moment of our choosing. */
static void full(void) {
    struct store *s;
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(store_new(loop, directory, &s, NULL) == 0);
    struct load_spec a = spec_of("/a");
    store_pin_put(s, "/a", &a);
    EXPECT(strcmp(pins_of(s), "/a=/a,3,0,0,0;") == 0);
    struct rlimit limit;
    EXPECT(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    struct rlimit small = {.rlim_cur = 4096, .rlim_max = limit.rlim_max};
    EXPECT(setrlimit(RLIMIT_FSIZE, &small) == 0);
    store_pin_put(s, "/b", &a);
    pins_of(s); /* may go with it, and then sees what cannot be committed */
    EXPECT(strcmp(pins_of(s), "/a=/a,3,0,0,0;") == 0);
    EXPECT(strstr(health_of(s), "losing what is new"));
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    store_pin_put(s, "/c", &a);
    EXPECT(strcmp(pins_of(s), "/a=/a,3,0,0,0;/c=/a,3,0,0,0;") == 0);
    EXPECT(strcmp(health_of(s), directory) == 0);
    store_free(s);
}

static void a_full_disk_loses_what_is_new_and_no_more(void **state) {
    (void)state;
    in_a_child(full);
}

static void full_from_the_start(void) {
    struct store *s;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit none = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    EXPECT(store_new(loop, directory, &s, NULL) == 0);
    struct load_spec a = spec_of("/a");
    store_pin_put(s, "/a", &a);
    EXPECT(strcmp(pins_of(s), "/a=/a,3,0,0,0;") == 0);
    EXPECT(strstr(health_of(s), "in memory only"));
    store_free(s);
}

static void a_disk_that_is_full_from_the_start_costs_persistence_only(void **state) {
    (void)state;
    in_a_child(full_from_the_start);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pins_outlast_a_restart_in_their_order, make, unmake),
        cmocka_unit_test_setup_teardown(what_was_put_last_is_written_before_the_end, make, unmake),
        cmocka_unit_test_setup_teardown(a_killed_process_loses_nothing_that_was_answered, make, unmake),
        cmocka_unit_test_setup_teardown(records_outlast_a_restart_and_are_of_one_identity, make, unmake),
        cmocka_unit_test_setup_teardown(a_record_is_replaced_by_a_proof_or_a_new_identity_only, make, unmake),
        cmocka_unit_test_setup_teardown(nobody_is_told_of_a_lookup_that_was_dropped, make, unmake),
        cmocka_unit_test_setup_teardown(records_that_nobody_asked_for_go_when_there_are_too_many_or_they_are_old, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(damaged_records_are_none, make, unmake),
        cmocka_unit_test_setup_teardown(history_outlasts_a_restart_and_is_read_page_by_page, make, unmake),
        cmocka_unit_test_setup_teardown(a_corrupt_database_is_set_aside_once_and_a_new_one_begun, make, unmake),
        cmocka_unit_test_setup_teardown(pages_that_are_corrupt_behind_a_good_head_are_found_when_they_are_read, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(without_a_directory_it_is_kept_in_memory, make, unmake),
        cmocka_unit_test_setup_teardown(one_daemon_has_a_directory_and_another_does_without, make, unmake),
        cmocka_unit_test_setup_teardown(a_database_of_a_newer_version_is_left_alone, make, unmake),
        cmocka_unit_test_setup_teardown(a_directory_that_others_may_write_to_is_not_used, make, unmake),
        cmocka_unit_test_setup_teardown(who_asks_a_store_that_hangs_is_answered_without_it, make, unmake),
        cmocka_unit_test_setup_teardown(a_read_only_directory_costs_persistence_only, make, unmake),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_what_is_new_and_no_more, make, unmake),
        cmocka_unit_test_setup_teardown(a_disk_that_is_full_from_the_start_costs_persistence_only, make, unmake),
        cmocka_unit_test_setup_teardown(a_store_that_hangs_is_not_waited_for_at_the_end, make, unmake), /* the last */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
