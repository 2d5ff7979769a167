/* loader/hold: memory is held in idle time, given up for what is loaded and under pressure, and never counted twice. */
#include "loader_fixture.h"

#include <time.h>

#include "loader/hold.h"
#include "util/clock.h"

#define MIB (UINT64_C(1) << 20)
#define LARGE (12 * MIB)

/* Waits until so much is held. */
static void wait_held(struct engine *e, uint64_t bytes) {
    uint64_t end = clock_now() + 30 * NS_PER_S;
    while (engine_held(e) != bytes) {
        if (clock_now() > end)
            fail_msg("%llu bytes are held, not %llu", (unsigned long long)engine_held(e), (unsigned long long)bytes);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

/* Bytes of the hold's chunks that are in memory. */
static uint64_t in_memory(struct engine *e) {
    static unsigned char pages[HOLD_CHUNK_BYTES / 4096];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), n = 0;
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < e->hold.n_chunks; i++) {
        assert_int_equal(mincore(e->hold.chunks[i].at, HOLD_CHUNK_BYTES, pages), 0);
        for (uint64_t k = 0; k < HOLD_CHUNK_BYTES / page; k++)
            n += pages[k] & 1;
    }
    pthread_mutex_unlock(&e->lock);
    return n * page;
}

static void load(struct engine *e) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct resident *r;
    if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err))
        fail_msg("%s", err.message);
    resident_free(r);
}

static void what_is_wanted_is_held_and_in_memory(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    engine_hold(e, 5 * HOLD_CHUNK_BYTES + 1); /* whole chunks only */
    wait_held(e, 5 * HOLD_CHUNK_BYTES);
    assert_int_equal(in_memory(e), 5 * HOLD_CHUNK_BYTES);
    engine_hold(e, 2 * HOLD_CHUNK_BYTES);
    wait_held(e, 2 * HOLD_CHUNK_BYTES);
    assert_int_equal(in_memory(e), 2 * HOLD_CHUNK_BYTES);
    engine_hold(e, 0);
    wait_held(e, 0);
    assert_int_equal(e->hold.n_chunks, 0);
    engine_free(e);
}

static void it_is_swapped_for_what_is_loaded_and_filled_again_in_idle_time(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 12);
    struct engine *e = engine(BACKING_AUTO);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    load(e); /* a second has to pass before it is filled again */
    assert_int_equal(engine_held(e), 4 * HOLD_CHUNK_BYTES - LARGE);
    assert_int_equal(in_memory(e), 4 * HOLD_CHUNK_BYTES - LARGE);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    assert_int_equal(in_memory(e), 4 * HOLD_CHUNK_BYTES);
    engine_free(e);
}

static void small_files_take_from_it_in_whole_huge_pages(void **state) {
    (void)state;
    char name[32];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "s%02u", i);
        put_file(name, SMALL_FILE_MAX, i);
    }
    struct engine *e = engine(BACKING_AUTO);
    engine_hold(e, 2 * HOLD_CHUNK_BYTES);
    wait_held(e, 2 * HOLD_CHUNK_BYTES);
    load(e);
    assert_int_equal(engine_held(e), 2 * HOLD_CHUNK_BYTES - 6 * MIB); /* for 5 MiB */
    engine_free(e);
}

static void a_hold_that_is_smaller_than_the_load_is_used_up(void **state) {
    (void)state;
    put_file("a.bin", 3 * LARGE + 5, 1);
    put_file("b.bin", 2 * LARGE + 4097, 2);
    struct engine *e = engine(BACKING_SMALL);
    engine_hold(e, HOLD_CHUNK_BYTES);
    wait_held(e, HOLD_CHUNK_BYTES);
    struct waiter w[2] = {WAITER_INIT, WAITER_INIT};
    struct load *l[2];
    for (unsigned i = 0; i < 2; i++)
        l[i] = begin(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &w[i]);
    for (unsigned i = 0; i < 2; i++) {
        struct resident *r;
        struct hearth_error err = HEARTH_ERROR_INIT;
        wait_done(&w[i]);
        assert_int_equal(load_take(l[i], &r, &err), 0);
        resident_free(r);
        load_free(l[i]);
    }
    assert_int_equal(e->hold.credit, 0);
    wait_held(e, HOLD_CHUNK_BYTES);
    engine_free(e);
}

static void pressure_takes_it_all_and_it_is_not_filled_at_once(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    engine_pressure(e);
    wait_held(e, 0);
    assert_int_equal(in_memory(e), 0);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_int_equal(engine_held(e), 0);
    pthread_mutex_lock(&e->lock);
    e->hold.short_until = 0; /* half a minute later */
    pthread_mutex_unlock(&e->lock);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    engine_free(e);
}

static struct engine *pressed;

/* While the load is under way, as if it were yet to populate two chunks. */
static int press(const struct parse_request *request, struct hearth_error *err) {
    (void)request;
    (void)err;
    pthread_mutex_lock(&pressed->lock);
    pressed->reserved += 2 * HOLD_CHUNK_BYTES;
    pthread_mutex_unlock(&pressed->lock);
    engine_pressure(pressed);
    wait_held(pressed, 3 * HOLD_CHUNK_BYTES); /* in whole chunks, and never below */
    pthread_mutex_lock(&pressed->lock);
    assert_int_equal(memory_needed(pressed, 0), 0);
    pressed->reserved -= 2 * HOLD_CHUNK_BYTES;
    pthread_mutex_unlock(&pressed->lock);
    return 0;
}

static void pressure_leaves_loads_what_they_were_promised(void **state) {
    (void)state;
    put_file("s", 100, 1);
    pressed = engine(BACKING_AUTO);
    engine_hold(pressed, 6 * HOLD_CHUNK_BYTES + 1);
    wait_held(pressed, 6 * HOLD_CHUNK_BYTES);
    on_parse = press;
    load(pressed);
    wait_held(pressed, 0); /* what it did not take goes when it has ended */
    engine_free(pressed);
}

/* ---- limits, on a recorded system ---- */

static void an_eighth_of_the_memory_stays_free(void **state) {
    (void)state;
    put_machine(800 * MIB, 100 * MIB, 0); /* not even a chunk */
    struct engine *e = engine_on_machine(BACKING_AUTO);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_int_equal(engine_held(e), 0);
    pthread_mutex_lock(&e->lock);
    assert_true(e->hold.not_before > clock_now()); /* it asks again, but not at once */
    pthread_mutex_unlock(&e->lock);
    engine_free(e);
}

static void without_word_of_pressure_it_looks_itself(void **state) {
    (void)state;
    put_machine(800 * MIB, 700 * MIB, 0);
    struct engine *e = engine_on_machine(BACKING_AUTO);
    engine_look_for_pressure(e);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    put_machine(800 * MIB, 49 * MIB, 0); /* below a sixteenth */
    wait_held(e, 0);
    engine_free(e);
}

static void what_is_held_counts_as_free_for_a_load_and_only_once(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    put_machine(8192 * MIB, 8192 * MIB, 0);
    struct engine *e = engine_on_machine(BACKING_AUTO);
    engine_hold(e, 4 * HOLD_CHUNK_BYTES);
    wait_held(e, 4 * HOLD_CHUNK_BYTES);
    put_machine(8192 * MIB, 17 * MIB, 0); /* what stays free beside loads is 16 MiB */
    load(e);
    assert_int_equal(e->reserved, 0);
    put_file("more.bin", 4 * LARGE, 2);
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct resident *r;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), HEARTH_E_TOO_LARGE);
    engine_free(e);
}

static void an_engine_can_end_while_it_fills(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    engine_hold(e, 64 * HOLD_CHUNK_BYTES);
    while (engine_held(e) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    engine_free(e);
}

static void a_single_populator_does_both(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 12);
    const struct engine_options o = {.populators = 1};
    struct engine *e;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(engine_new(&o, &e, &err), 0);
    engine_hold(e, 3 * HOLD_CHUNK_BYTES);
    wait_held(e, 3 * HOLD_CHUNK_BYTES);
    load(e);
    wait_held(e, 3 * HOLD_CHUNK_BYTES);
    engine_free(e);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_wanted_is_held_and_in_memory),
        T(it_is_swapped_for_what_is_loaded_and_filled_again_in_idle_time),
        T(small_files_take_from_it_in_whole_huge_pages),
        T(a_hold_that_is_smaller_than_the_load_is_used_up),
        T(pressure_takes_it_all_and_it_is_not_filled_at_once),
        T(pressure_leaves_loads_what_they_were_promised),
        T(an_eighth_of_the_memory_stays_free),
        T(without_word_of_pressure_it_looks_itself),
        T(what_is_held_counts_as_free_for_a_load_and_only_once),
        T(an_engine_can_end_while_it_fills),
        T(a_single_populator_does_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
