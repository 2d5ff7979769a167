/* loader: whatever goes wrong, there is one clear error, nothing is published, and everything is given back: the
 * fixture counts descriptors and mappings after each test, and here each engine must still be able to load. */
#include "loader_fixture.h"

#include <poll.h>
#include <sys/resource.h>

#define LARGE (UINT64_C(24) << 20)

static struct hearth_error err;

/* The engine serves on: a good artifact loads. */
static void expect_service(struct engine *e) {
    struct resident *r;
    on_parse = NULL;
    struct hearth_error own = HEARTH_ERROR_INIT;
    if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &own))
        fail_msg("%s (%s)", own.message, own.file);
    resident_free(r);
}

static void expect_failure(struct engine *e, struct artifact *a, enum hearth_verify verify, enum hearth_code code) {
    struct resident *r = NULL;
    int got = load_once(e, a, verify, &r, &err);
    if (got != (int)code)
        fail_msg("%s, not %s: %s", hearth_code_name((enum hearth_code)got), hearth_code_name(code), err.message);
    assert_null(r);
    assert_string_not_equal(err.message, "");
    assert_int_equal(mapped_blobs(), 0);
}

static void expect_about(const char *name) {
    char path[256];
    test_path(name, path, sizeof(path));
    assert_string_equal(err.file, path);
}

/* ---- digests ---- */

static void content_that_is_not_what_its_digest_says_is_refused(void **state) {
    (void)state;
    static const char *const names[] = {"large.bin", "little.bin"};
    put_file(names[0], LARGE, 1);
    put_file(names[1], 100, 2);
    struct engine *e = engine(BACKING_AUTO);
    for (size_t i = 0; i < 2; i++) {
        const struct artifact_digest d = {.path = names[i], .sha256 = {1, 2, 3}};
        expect_failure(e, resolve(&d, 1, 0), HEARTH_VERIFY_REMEMBERED, HEARTH_E_INTEGRITY);
        expect_about(names[i]);
        assert_int_equal(strncmp(err.expected, "010203", 6), 0);
        assert_int_equal(strlen(err.found), 64);
        assert_string_not_equal(err.hint, "");
    }
    expect_service(e);
    engine_free(e);
}

/* ---- files that change; the parser runs in the middle of the load ---- */

static char victim[256];

static int truncate_it(const struct parse_request *q, struct hearth_error *e) {
    (void)q;
    (void)e;
    assert_int_equal(truncate(victim, LARGE / 2 + 5), 0);
    return 0;
}
static int grow_it(const struct parse_request *q, struct hearth_error *e) {
    (void)q;
    (void)e;
    assert_int_equal(truncate(victim, LARGE + 5), 0);
    return 0;
}
static int overwrite_it(const struct parse_request *q, struct hearth_error *e) {
    (void)q;
    (void)e;
    int fd = open(victim, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 77), 1);
    close(fd);
    return 0;
}

static void a_file_that_changes_while_it_is_read_is_refused(void **state) {
    (void)state;
    static int (*const changes[])(const struct parse_request *, struct hearth_error *) = {truncate_it, grow_it,
                                                                                          overwrite_it};
    test_path("large.bin", victim, sizeof(victim));
    struct engine *e = engine(BACKING_AUTO);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        put_file("large.bin", LARGE, 1);
        on_parse = changes[i];
        expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_CHANGED);
        expect_about("large.bin");
    }
    expect_service(e);
    engine_free(e);
}

/* Reads of this artifact's device wait until the parser runs, which is when the file is cut. */
static void hold_reads(struct engine *e, bool hold) {
    pthread_mutex_lock(&e->lock);
    for (struct device *d = e->devices; d; d = d->next)
        d->in_flight += hold ? UINT64_C(1) << 40 : -(UINT64_C(1) << 40);
    e->reader->wake(e->reader);
    pthread_mutex_unlock(&e->lock);
}

static int truncate_and_read(const struct parse_request *q, struct hearth_error *e) {
    (void)e;
    assert_int_equal(truncate(victim, LARGE / 2 + 5), 0);
    hold_reads(((struct load *)q->user)->engine, false);
    return 0;
}

static void a_read_that_finds_the_end_too_early_is_refused(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    test_path("large.bin", victim, sizeof(victim));
    struct engine *e = engine(BACKING_AUTO);
    expect_service(e); /* makes the device's entry */
    hold_reads(e, true);
    on_parse = truncate_and_read;
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_CHANGED);
    expect_about("large.bin");
    assert_non_null(strstr(err.message, "shorter"));
    expect_service(e);
    engine_free(e);
}

static void a_file_that_changed_before_it_is_read_is_refused(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    static const uint64_t sizes[] = {LARGE, 1000};
    for (size_t i = 0; i < 2; i++) {
        put_file("file.bin", sizes[i], 1);
        struct artifact *a = resolve(NULL, 0, 0);
        test_path("file.bin", victim, sizeof(victim));
        assert_int_equal(truncate(victim, (off_t)sizes[i] / 2), 0);
        expect_failure(e, a, HEARTH_VERIFY_XXH3, HEARTH_E_CHANGED);
        expect_about("file.bin");
    }
    engine_free(e);
}

static void what_is_no_longer_a_file_is_refused(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    put_file("good.bin", LARGE, 1);
    test_path("large.bin", victim, sizeof(victim));
    struct engine *e = engine(BACKING_AUTO);
    struct artifact *a = resolve(NULL, 0, 0);
    unlink(victim);
    expect_failure(e, a, HEARTH_VERIFY_XXH3, HEARTH_E_NOT_FOUND);
    put_file("large.bin", LARGE, 1);
    a = resolve(NULL, 0, 0);
    unlink(victim);
    assert_int_equal(mkfifo(victim, 0644), 0); /* opening one for reading would wait for ever */
    struct resident *r = NULL;
    int code = load_once(e, a, HEARTH_VERIFY_XXH3, &r, &err);
    assert_true(code == HEARTH_E_CHANGED || code == HEARTH_E_UNSAFE);
    unlink(victim);
    expect_service(e);
    engine_free(e);
}

/* ---- limits ---- */

static void running_out_of_descriptors_is_an_error_at_every_step(void **state) {
    (void)state;
    char name[32];
    for (unsigned i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "f%u.bin", i);
        put_file(name, i % 2 ? SMALL_FILE_MAX + 1 : 1000, i);
    }
    struct engine *e = engine(BACKING_AUTO);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    unsigned failures = 0;
    int code = 1;
    for (rlim_t extra = 0; code != 0 && extra < 64; extra++) {
        struct artifact *a = resolve(NULL, 0, 0);
        int lowest = dup(0);
        close(lowest);
        limit = before;
        limit.rlim_cur = (rlim_t)lowest + extra;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        struct resident *r = NULL;
        code = load_once(e, a, HEARTH_VERIFY_XXH3, &r, &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (code) {
            failures++;
            if (code != HEARTH_E_NO_FDS && code != HEARTH_E_SYSTEM)
                fail_msg("%s: %s", hearth_code_name((enum hearth_code)code), err.message);
        }
        resident_free(r);
    }
    assert_int_equal(code, 0);
    assert_true(failures > 5);
    engine_free(e);
}

static void put_text(const char *name, const char *text) {
    char path[256];
    test_path(name, path, sizeof(path));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void what_does_not_fit_is_refused_before_any_memory_is_made(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    struct artifact *a = resolve(NULL, 0, 0);
    struct engine *e = engine(BACKING_AUTO);
    char root[80], path[256];
    snprintf(root, sizeof(root), "%s.limits", test_dir);
    snprintf(path, sizeof(path),
             "mkdir -p %s/proc/self && printf 'MemTotal: 65536 kB\\nMemAvailable: 8192 kB\\n' "
             "> %s/proc/meminfo",
             root, root);
    assert_int_equal(system(path), 0);
    e->limits_root = root;
    expect_failure(e, a, HEARTH_VERIFY_XXH3, HEARTH_E_TOO_LARGE);
    assert_non_null(strstr(err.message, "meminfo"));
    assert_string_equal(err.file, test_dir);
    assert_string_equal(err.found, "25165824 bytes");
    assert_int_equal(e->reserved, 0);
    /* It would fit alone, but not with what a load needs beside it. */
    snprintf(path, sizeof(path), "printf 'MemTotal: 65536 kB\\nMemAvailable: 32768 kB\\n' > %s/proc/meminfo", root);
    assert_int_equal(system(path), 0);
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_TOO_LARGE);
    /* Where a pool of huge pages has room for it, it is not asked of the rest. */
    snprintf(path, sizeof(path),
             "printf 'MemTotal: 65536 kB\\nMemAvailable: 32768 kB\\nHugePages_Total: 9\\nHugePages_Free: 9\\n"
             "Hugepagesize: 2048 kB\\n' > %s/proc/meminfo",
             root);
    assert_int_equal(system(path), 0);
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_TOO_LARGE);
    enum pages pages = e->backing.pages;
    e->backing.pages = PAGES_HUGETLB;
    struct resident *r;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    resident_free(r);
    e->backing.pages = pages;
    e->limits_root = "";
    snprintf(path, sizeof(path), "rm -r %s", root);
    assert_int_equal(system(path), 0);
    expect_service(e);
    engine_free(e);
}

/* Two holes of 8 EiB each: their sum, rounded up to pages, is 2^64. */
static void sizes_whose_sum_wraps_do_not_fit(void **state) {
    (void)state;
    char normal[sizeof(test_dir)];
    memcpy(normal, test_dir, sizeof(normal));
    snprintf(test_dir, sizeof(test_dir), "/dev/shm/hearth-loader-XXXXXX");
    assert_non_null(mkdtemp(test_dir));
    static const char *const names[] = {"a.bin", "b.bin"};
    for (size_t i = 0; i < 2; i++) {
        put_file(names[i], 1, 1);
        test_path(names[i], victim, sizeof(victim));
        assert_int_equal(truncate(victim, INT64_MAX), 0);
    }
    struct engine *e = engine(BACKING_AUTO);
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_TOO_LARGE);
    assert_int_equal(e->reserved, 0);
    engine_free(e);
    for (size_t i = 0; i < 2; i++) {
        test_path(names[i], victim, sizeof(victim));
        unlink(victim);
    }
    assert_int_equal(rmdir(test_dir), 0);
    memcpy(test_dir, normal, sizeof(normal));
}

/* ---- the parser ---- */

static uint64_t most_ahead;

static void *watch_populating(void *engine) {
    struct engine *e = engine;
    uint64_t before = UINT64_MAX;
    for (;;) {
        usleep(100000);
        pthread_mutex_lock(&e->lock);
        most_ahead = e->devices->ahead;
        pthread_mutex_unlock(&e->lock);
        if (most_ahead == before)
            break;
        before = most_ahead;
    }
    hold_reads(e, false);
    return NULL;
}

static int want_all(const struct parse_request *q, struct hearth_error *e) {
    pthread_t watcher;
    assert_int_equal(pthread_create(&watcher, NULL, watch_populating, ((struct load *)q->user)->engine), 0);
    int r = q->wait_range(q->user, 0, 0, q->artifact->files[0].identity.bytes, e);
    assert_int_equal(pthread_join(watcher, NULL), 0);
    return r;
}

static void a_parser_that_wants_a_whole_file_does_not_have_it_populated_at_once(void **state) {
    (void)state;
    put_file("large.bin", 1, 1);
    test_path("large.bin", victim, sizeof(victim));
    assert_int_equal(truncate(victim, INT64_C(256) << 20), 0);
    const struct engine_options o = {.populate_ahead = 2 * POPULATE_STEP_MAX};
    struct engine *e;
    assert_int_equal(engine_new(&o, &e, &err), 0);
    expect_service(e); /* makes the device's entry */
    hold_reads(e, true);
    on_parse = want_all;
    struct resident *r;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_NONE, &r, &err), 0);
    resident_free(r);
    assert_true(most_ahead > 0);
    assert_true(most_ahead <= o.populate_ahead + WANTED_PIECES_MAX * LARGE_PIECE_BYTES + 4 * POPULATE_STEP_MAX);
    engine_free(e);
}

static int cancel_and_wait(const struct parse_request *q, struct hearth_error *e) {
    struct pollfd p = {.fd = q->stop_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    load_cancel(q->user);
    assert_int_equal(poll(&p, 1, 0), 1);
    return error_set(e, HEARTH_E_PARSER, "it was stopped");
}

static void a_load_that_is_cancelled_stops_its_parser(void **state) {
    (void)state;
    put_file("little.bin", 1000, 1);
    on_parse = cancel_and_wait;
    struct engine *e = engine(BACKING_AUTO);
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_CANCELLED);
    expect_service(e);
    engine_free(e);
}

static int refuse(const struct parse_request *q, struct hearth_error *e) {
    (void)q;
    return error_set(e, HEARTH_E_MALFORMED, "the header is not one");
}

static void a_parser_that_refuses_ends_the_load(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    put_text("config.json", "{}");
    on_parse = refuse;
    struct engine *e = engine(BACKING_AUTO);
    expect_failure(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, HEARTH_E_MALFORMED);
    assert_string_equal(err.message, "the header is not one");
    expect_service(e);
    engine_free(e);
}

/* Everything fits in memory, but not below the limit of locked-down address space. */
static void memory_that_cannot_be_mapped_is_an_error(void **state) {
    (void)state;
#ifdef HEARTH_SANITIZED
    skip(); /* sanitizers need the address space */
#endif
    put_file("large.bin", UINT64_C(1) << 20, 1);
    test_path("large.bin", victim, sizeof(victim));
    assert_int_equal(truncate(victim, INT64_C(1) << 30), 0); /* a hole */
    struct artifact *a = resolve(NULL, 0, 0);
    struct engine *e = engine(BACKING_AUTO);
    struct rlimit before, limit = {.rlim_cur = UINT64_C(900) << 20};
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    struct resident *r = NULL;
    int code = load_once(e, a, HEARTH_VERIFY_NONE, &r, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(code, HEARTH_E_NO_MEMORY);
    assert_int_equal(truncate(victim, INT64_C(1) << 20), 0);
    expect_service(e);
    engine_free(e);
}

/* ---- cancelling ---- */

static void cancelling_at_any_time_gives_everything_back(void **state) {
    (void)state;
    put_file("a.bin", LARGE, 1);
    put_file("b.bin", LARGE, 2);
    put_file("c.bin", 4000, 3);
    struct engine *e = engine(BACKING_AUTO);
    unsigned cancelled = 0;
    for (unsigned i = 0; i < 60; i++) {
        struct waiter w = WAITER_INIT;
        struct load *l = begin(e, resolve(NULL, 0, 0), i % 2 ? HEARTH_VERIFY_ALWAYS : HEARTH_VERIFY_XXH3, &w);
        usleep(i * 500);
        load_cancel(l);
        wait_done(&w);
        struct resident *r = NULL;
        int code = load_take(l, &r, &err);
        assert_true(code == 0 || code == HEARTH_E_CANCELLED);
        cancelled += code != 0;
        resident_free(r);
        load_free(l);
        assert_int_equal(e->reserved, 0);
        assert_int_equal(mapped_blobs(), 0);
    }
    assert_true(cancelled > 0);
    expect_service(e);
    for (struct device *d = e->devices; d; d = d->next) {
        assert_int_equal(d->in_flight, 0);
        assert_int_equal(d->ahead, 0);
    }
    engine_free(e);
}

static void an_engine_that_ends_cancels_what_runs(void **state) {
    (void)state;
    put_file("a.bin", LARGE, 1);
    struct engine *e = engine(BACKING_AUTO);
    size_t threads = directory_entries("/proc/self/task");
    struct waiter w[3] = {WAITER_INIT, WAITER_INIT, WAITER_INIT};
    struct load *l[3];
    for (unsigned i = 0; i < 3; i++)
        l[i] = begin(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &w[i]);
    engine_free(e);
    for (unsigned i = 0; i < 3; i++) {
        struct resident *r = NULL;
        assert_true(w[i].done);
        int code = load_take(l[i], &r, &err);
        assert_true(code == 0 || code == HEARTH_E_CANCELLED);
        resident_free(r);
        load_free(l[i]);
    }
    assert_true(directory_entries("/proc/self/task") < threads);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(content_that_is_not_what_its_digest_says_is_refused),
        T(a_file_that_changes_while_it_is_read_is_refused),
        T(a_read_that_finds_the_end_too_early_is_refused),
        T(a_file_that_changed_before_it_is_read_is_refused),
        T(what_is_no_longer_a_file_is_refused),
        T(running_out_of_descriptors_is_an_error_at_every_step),
        T(what_does_not_fit_is_refused_before_any_memory_is_made),
        T(sizes_whose_sum_wraps_do_not_fit),
        T(a_parser_that_refuses_ends_the_load),
        T(a_parser_that_wants_a_whole_file_does_not_have_it_populated_at_once),
        T(a_load_that_is_cancelled_stops_its_parser),
        T(memory_that_cannot_be_mapped_is_an_error),
        T(cancelling_at_any_time_gives_everything_back),
        T(an_engine_that_ends_cancels_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
