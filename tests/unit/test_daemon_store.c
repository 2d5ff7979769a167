/* daemon/store: what is kept over a restart, and that no fault of the state directory is more than that. */
#include "store_fixture.h"

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
