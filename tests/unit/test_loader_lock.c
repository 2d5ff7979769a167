/* loader/lock: what is resident is kept out of swap where that is allowed, and what is not is counted. */
#include "loader_fixture.h"

#include <sys/resource.h>

#define MIB (UINT64_C(1) << 20)
#define LARGE (4 * MIB)
#define SMALL 1000u

/* An engine on a machine with this much swap. */
static struct engine *engine_with(enum backing_choice backing, uint64_t swap) {
    put_machine(8192 * MIB, 8192 * MIB, swap);
    struct engine *e = engine_on_machine(backing);
    pthread_mutex_lock(&e->lock);
    e->swap_forbidden = false;
    pthread_mutex_unlock(&e->lock);
    return e;
}

/* Whether so much more may be locked. */
static bool may_lock(uint64_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    bool may = mlock(at, bytes) == 0;
    munmap(at, bytes);
    return may;
}

static struct resident *load(struct engine *e) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct resident *r;
    put_file("large.bin", LARGE, 1);
    put_file("small.bin", SMALL, 2);
    if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

static void expect_bytes(const void *at, uint64_t bytes, uint64_t seed) {
    uint8_t *expected = malloc(bytes);
    assert_non_null(expected);
    fill(expected, bytes, seed);
    assert_memory_equal(at, expected, bytes);
    free(expected);
}

static void with_swap_everything_is_locked(void **state) {
    (void)state;
    if (!may_lock(LARGE + MIB))
        skip(); /* the limit on locked memory */
    struct engine *e = engine_with(BACKING_SMALL, MIB);
    struct resident *r = load(e);
    assert_int_equal(r->swappable_bytes, 0);
    assert_non_null(r->index_locked);
    assert_int_equal(r->n_blobs, 2);
    expect_bytes(r->blobs[0].locked, LARGE, 1);
    expect_bytes(r->blobs[1].locked, SMALL, 2);
    resident_free(r);
    engine_free(e);
}

static void without_swap_only_huge_pages_are_locked(void **state) {
    (void)state;
    if (!may_lock(LARGE + MIB))
        skip();
    struct engine *e = engine_with(BACKING_AUTO, 0);
    struct resident *r = load(e);
    bool huge = r->blobs[0].backing == HEARTH_BACKING_SHMEM_HUGE;
    assert_int_equal(r->blobs[0].locked != NULL, huge);
    assert_null(r->blobs[1].locked);
    assert_null(r->index_locked);
    assert_int_equal(r->swappable_bytes,
                     (huge ? 0 : r->blobs[0].resident_bytes) + r->blobs[1].resident_bytes + r->index_bytes);
    resident_free(r);
    engine_free(e);
}

static void where_a_group_forbids_swap_nothing_is_locked(void **state) {
    (void)state;
    struct engine *e = engine_with(BACKING_AUTO, MIB);
    e->swap_forbidden = true;
    struct resident *r = load(e);
    assert_null(r->blobs[0].locked);
    assert_int_equal(r->swappable_bytes, 0);
    resident_free(r);
    engine_free(e);
}

static void what_may_not_be_locked_is_counted_and_loads_all_the_same(void **state) {
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){0, before.rlim_max}), 0);
    bool exempt = may_lock(4096); /* CAP_IPC_LOCK */
    struct engine *e = engine_with(BACKING_SMALL, MIB);
    struct resident *r = load(e);
    if (!exempt) {
        assert_null(r->blobs[0].locked);
        assert_int_equal(r->swappable_bytes, r->blobs[0].resident_bytes + r->blobs[1].resident_bytes + r->index_bytes);
    }
    resident_free(r);
    engine_free(e);
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

static void on_retired(void *user) {
    on_done(user, NULL);
}

static void a_lock_goes_with_what_is_retired(void **state) {
    (void)state;
    struct engine *e = engine_with(BACKING_SMALL, MIB);
    struct waiter w = WAITER_INIT;
    struct retirement retirement = {.resident = load(e), .done = on_retired, .user = &w};
    resident_retire(e, &retirement);
    wait_done(&w);
    assert_int_equal(mapped_blobs(), 0);
    engine_free(e);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(with_swap_everything_is_locked),
        T(without_swap_only_huge_pages_are_locked),
        T(where_a_group_forbids_swap_nothing_is_locked),
        T(what_may_not_be_locked_is_counted_and_loads_all_the_same),
        T(a_lock_goes_with_what_is_retired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
