/* daemon/reserve: as much is held as is configured and the budget has room for, and pressure is heard where it is told.
 */
#include "recorded_tree.h"

#include "daemon/loop.h"
#include "daemon/reserve.h"
#include "loader/internal.h"
#include "util/error.h"

#define MIB (UINT64_C(1) << 20)

static struct loop *loop;
static struct engine *engine;
static struct reserve reserve;

static int setup(void **state) {
    const struct engine_options o = {.reader = READER_PREAD};
    if (tree_setup(state) || loop_new(&loop, NULL) || engine_new(&o, &engine, NULL))
        return -1;
    reserve_init(&reserve, loop, engine, root);
    return 0;
}

static int teardown(void **state) {
    reserve_deinit(&reserve);
    reserve_deinit(&reserve);
    engine_free(engine);
    loop_free(loop);
    return tree_teardown(state);
}

static uint64_t wanted(void) {
    pthread_mutex_lock(&engine->lock);
    uint64_t n = engine->hold.wanted;
    pthread_mutex_unlock(&engine->lock);
    return n;
}

static bool looks(void) {
    pthread_mutex_lock(&engine->lock);
    bool yes = engine->hold.looks;
    pthread_mutex_unlock(&engine->lock);
    return yes;
}

static void without_a_reserve_nobody_listens(void **state) {
    (void)state;
    put("/proc/pressure/memory", "");
    reserve_turn(&reserve, 0, 64 * MIB);
    assert_false(reserve.listens);
    assert_int_equal(wanted(), 0);
}

static void it_is_bounded_by_the_room_in_the_budget(void **state) {
    (void)state;
    reserve_turn(&reserve, 64 * MIB, 1024 * MIB);
    assert_int_equal(wanted(), 64 * MIB);
    reserve_turn(&reserve, 64 * MIB, 16 * MIB);
    assert_int_equal(wanted(), 16 * MIB);
    reserve_turn(&reserve, 64 * MIB, 0);
    assert_int_equal(wanted(), 0);
    reserve_turn(&reserve, 32 * MIB, 64 * MIB); /* configured anew */
    assert_int_equal(wanted(), 32 * MIB);
}

static void expect_trigger(const char *path) {
    char full[256], text[64] = "";
    snprintf(full, sizeof(full), "%s%s", root, path);
    FILE *f = fopen(full, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_string_equal(text, "some 100000 2000000");
}

/* An ordinary file takes the words, but cannot be waited for: so the next one is asked. */
static void every_source_of_pressure_is_asked_before_it_looks_itself(void **state) {
    (void)state;
    put("/proc/pressure/memory", "");
    put("/proc/self/cgroup", "0::/a\n");
    put("/proc/self/mountinfo", "24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/a/memory.pressure", "");
    reserve_turn(&reserve, 8 * MIB, 64 * MIB);
    expect_trigger("/proc/pressure/memory");
    expect_trigger("/sys/fs/cgroup/a/memory.pressure");
    assert_int_equal(reserve.pressure, -1);
    assert_true(looks());
}

static void where_there_is_none_it_looks_itself(void **state) {
    (void)state;
    reserve_turn(&reserve, 8 * MIB, 64 * MIB);
    assert_true(looks());
}

static void the_kernels_own_takes_the_trigger(void **state) {
    (void)state;
    reserve.root = "";
    reserve_turn(&reserve, 8 * MIB, 64 * MIB);
    if (reserve.pressure < 0)
        skip(); /* a kernel without it, or a sandbox around it */
    assert_false(looks());
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(without_a_reserve_nobody_listens),
        T(it_is_bounded_by_the_room_in_the_budget),
        T(every_source_of_pressure_is_asked_before_it_looks_itself),
        T(where_there_is_none_it_looks_itself),
        T(the_kernels_own_takes_the_trigger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
