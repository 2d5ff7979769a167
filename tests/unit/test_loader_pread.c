/* loader/pread: threads that call pread(2) do what an io_uring does, and take its place where it is refused. */
#include "loader_fixture.h"
#include "without_syscall.h"

#define LARGE ((UINT64_C(20) << 20) + 4321)

static struct hearth_error err;

static struct engine *engine_reading_by(enum reader_choice reader) {
    const struct engine_options o = {.reader = reader};
    struct engine *e;
    if (engine_new(&o, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

static void load_and_compare(struct engine *e, uint64_t seed) {
    struct resident *r;
    if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &r, &err))
        fail_msg("%s (%s)", err.message, err.file);
    uint8_t *expected = malloc(LARGE), *found = malloc(LARGE);
    for (uint64_t i = 0; i < r->n_blobs; i++) {
        fill(expected, LARGE, seed + i);
        assert_int_equal(pread(r->blobs[i].fd, found, LARGE, 0), LARGE);
        assert_memory_equal(found, expected, LARGE);
    }
    free(expected);
    free(found);
    resident_free(r);
}

static const char *reader_of(struct engine *e) {
    static char reader[256];
    char backing[256];
    engine_describe(e, reader, sizeof(reader), backing, sizeof(backing));
    return reader;
}

static void what_threads_read_is_the_files(void **state) {
    (void)state;
    put_file("0.bin", LARGE, 1);
    put_file("1.bin", LARGE, 2);
    struct engine *e = engine_reading_by(READER_PREAD);
    assert_string_equal(reader_of(e), "pread on threads, as configured");
    load_and_compare(e, 1);
    load_and_compare(e, 1);
    engine_free(e);
}

static void a_cancelled_load_gives_all_back(void **state) {
    (void)state;
    put_file("0.bin", LARGE, 1);
    struct engine *e = engine_reading_by(READER_PREAD);
    struct resident *r;
    for (unsigned i = 0; i < 20; i++) {
        struct waiter w = WAITER_INIT;
        struct load *l = begin(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &w);
        usleep(i * 1000);
        load_cancel(l);
        wait_done(&w);
        if (load_take(l, &r, &err) == 0)
            resident_free(r);
        load_free(l);
    }
    load_and_compare(e, 1);
    engine_free(e);
}

/* As the default seccomp profile of Docker does. */
static int without_io_uring(void) {
    struct engine *e;
    const struct engine_options uring_alone = {.reader = READER_URING};
    if (engine_new(&uring_alone, &e, &err) != HEARTH_E_UNSUPPORTED || !strstr(err.hint, "seccomp"))
        return 2;
    if (engine_new(NULL, &e, &err))
        return 3;
    if (strncmp(reader_of(e), "pread on threads: io_uring is not available", 43) != 0)
        return 4;
    load_and_compare(e, 1);
    engine_free(e);
    return 0;
}

static void where_io_uring_is_refused_threads_read(void **state) {
    (void)state;
    put_file("0.bin", LARGE, 1);
    without_syscall(SYS_io_uring_setup, EPERM, without_io_uring);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(what_threads_read_is_the_files),
        T(a_cancelled_load_gives_all_back),
        T(where_io_uring_is_refused_threads_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
