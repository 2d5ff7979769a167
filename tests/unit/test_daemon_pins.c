/* daemon/pins, daemon/preload: what stays, and what is loaded although no client has asked. */
#include "artifacts_fixture.h"
#include "daemon/life.h"

static struct generation *find(uint32_t serial) {
    return artifacts_find(artifacts, answers[serial].id);
}

static void make_resident(const char *ref, uint32_t serial) {
    ask(ref, serial);
    end_load(n_loads - 1);
    assert_int_equal(answers[serial].code, 0);
}

static void preload(const char *ref, bool pinned) {
    const struct load_spec spec = {.ref = (char *)(uintptr_t)ref, .verify = policy};
    assert_int_equal(artifacts_preload(artifacts, &spec, pinned, NULL), 0);
}

static struct generation *of(const char *ref) {
    struct generation *g = NULL;
    while ((g = artifacts_next(artifacts, g)) && strcmp(g->spec->ref, ref) != 0)
        ;
    return g;
}

static void what_is_pinned_does_not_go_for_others(void **state) {
    (void)state;
    budget.limit.bytes = 2 * FILE_BYTES;
    make_resident("/a", 1);
    make_resident("/b", 2);
    assert_int_equal(artifacts_pin(find(1), NULL), 0);
    assert_int_equal(n_pinned, 1);
    ask("/c", 3);
    assert_non_null(find(1));
    assert_null(find(2));
    give_back();
    end_load(2);
    file_bytes = 2 * FILE_BYTES;
    ask("/large", 4); /* fits into the budget, but not beside what is pinned */
    assert_int_equal(answers[4].code, HEARTH_E_TOO_LARGE);
    artifacts_unpin(find(1));
    assert_int_equal(n_unpinned, 1);
    ask("/large", 5);
    give_back();
    end_load(3);
    assert_int_equal(answers[5].code, 0);
    assert_int_equal(count(), 1);
}

static void a_load_pins_as_soon_as_its_files_are_known(void **state) {
    (void)state;
    const struct load_spec spec = {.ref = "/a", .verify = policy};
    const struct waiter w = {.client = &client_a, .serial = 1, .no_wait = true, .background = true, .pin = true};
    missing = true;
    artifacts_load(artifacts, &spec, &w);
    settle();
    assert_int_equal(answers[1].code, HEARTH_E_NOT_FOUND);
    assert_int_equal(n_pinned, 0);
    missing = false;
    artifacts_load(artifacts, &spec, &w);
    settle();
    assert_int_equal(answers[1].code, 0);
    assert_true(find(1)->pinned);
    artifacts_forget(artifacts, &client_a, 0, NULL); /* nobody need wait for it */
    end_load(0);
    assert_int_equal(find(1)->state, HEARTH_STATE_RESIDENT);
    assert_true(artifacts_in_use(artifacts));
}

static void a_pinned_one_stays_until_what_is_new_is_resident(void **state) {
    (void)state;
    make_resident("/a", 1);
    assert_int_equal(artifacts_pin(find(1), NULL), 0);
    version = 2;
    ask("/a", 2);
    assert_true(find(1)->stale);
    loads[1]->fails = true;
    end_load(1);
    assert_int_equal(find(1)->state, HEARTH_STATE_RESIDENT);
    ask("/a", 3);
    end_load(2);
    assert_null(find(1));
    assert_true(find(3)->pinned);
    assert_int_equal(count(), 1); /* the failure is forgotten */
    missing = true;
    ask("/a", 4);
    assert_true(find(3)->stale);
    artifacts_unpin(find(3));
    assert_int_equal(count(), 0);
}

static void a_stale_one_that_is_pinned_goes_for_what_takes_its_place(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES;
    make_resident("/a", 1);
    assert_int_equal(artifacts_pin(find(1), NULL), 0);
    version = 2;
    ask("/a", 2);
    assert_null(find(1));
    give_back();
    end_load(1);
    assert_int_equal(answers[2].code, 0);
    assert_true(find(2)->pinned);
}

static void evicted_by_force_it_is_not_pinned_any_more(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    make_resident("/a", 1);
    assert_int_equal(artifacts_pin(find(1), NULL), 0);
    artifacts_evict(find(1), &why, &(struct waiter){.client = &client_a, .serial = 2, .evicts = true});
    assert_int_equal(n_unpinned, 1);
    give_back();
    assert_int_equal(count(), 0);
    assert_false(artifacts_in_use(artifacts));
}

static void what_is_preloaded_is_listed_at_once_and_loads_in_order(void **state) {
    (void)state;
    preload("/a", false);
    preload("/b", true);
    preload("/c", false);
    assert_int_equal(count(), 3);
    settle();
    assert_int_equal(n_loads, 1); /* of two places one is kept free */
    assert_ptr_equal(of("/a")->load, loads[0]);
    assert_true(loads[0]->request.background);
    assert_true(of("/b")->pinned && !of("/a")->pinned);
    end_load(0);
    assert_ptr_equal(of("/b")->load, loads[1]);
    end_load(1);
    end_load(2);
    assert_int_equal(of("/c")->state, HEARTH_STATE_RESIDENT);
    assert_int_equal(n_pinned, 0); /* that is no news */
}

static void a_storage_that_hangs_does_not_hold_up_the_next_preload(void **state) {
    (void)state;
    endless = true;
    preload("/a", false);
    preload("/b", false);
    loop_timer_set(loop, &artifacts->preload, 1);
    struct loop_job last = {.run = quit};
    loop_post(loop, &last);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    wait_for_count(&begun, 1);
    endless = false;
    artifacts->preload_next_ns = 1; /* for long enough */
    preload_run(artifacts);
    wait_for_count(&begun, 2);
    struct hearth_error why = HEARTH_ERROR_INIT;
    artifacts_evict(of("/a"), &why, &(struct waiter){.client = &client_a, .serial = 1, .evicts = true});
    settle();
    end_load(0);
    assert_int_equal(of("/b")->state, HEARTH_STATE_RESIDENT);
}

static void a_preload_that_is_missing_is_listed_as_failed_and_tried_again(void **state) {
    (void)state;
    missing = true;
    preload("/a", false);
    settle();
    struct generation *g = of("/a");
    assert_int_equal(g->state, HEARTH_STATE_FAILED);
    assert_int_equal(g->reason->code, HEARTH_E_NOT_FOUND);
    assert_true(g->retry_ns > 0);
    uint64_t id = g->id;
    missing = false;
    g->retry_ns = 1;
    preload_run(artifacts);
    settle();
    assert_int_equal(g->id, id);
    end_load(0);
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
}

static void other_failures_do_not_push_out_a_preload_that_failed(void **state) {
    (void)state;
    preload("/wanted", false);
    settle();
    loads[0]->fails = true;
    end_load(0);
    assert_int_equal(of("/wanted")->retry_ns, 0); /* its content is wrong: that will not mend itself */
    for (unsigned i = 1; i < FAILURES_KEPT + 3; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/m%u", i);
        ask(ref, 1);
        loads[i]->fails = true;
        end_load(i);
    }
    assert_int_equal(count(), FAILURES_KEPT + 1);
    assert_int_equal(of("/wanted")->state, HEARTH_STATE_FAILED);
}

static void who_waits_for_a_preload_hastens_it(void **state) {
    (void)state;
    preload("/a", false);
    struct generation *g = of("/a");
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_a, .serial = 1});
    settle();
    assert_false(g->background);
    assert_false(loads[0]->request.background);
    end_load(0);
    assert_int_equal(answers[1].finished, 1);
    assert_int_equal(answers[1].code, 0);
}

static void who_follows_all_hears_of_every_change(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    artifacts_watch_all(artifacts, &(struct waiter){.client = &client_b, .serial = 9, .progress = true});
    make_resident("/a", 1);
    assert_int_equal(answers[9].progress, 3); /* queued, loading, resident */
    assert_int_equal(answers[9].id, answers[1].id);
    ask("/a", 2); /* is there */
    assert_int_equal(answers[9].progress, 3);
    artifacts_evict(find(1), &why, &(struct waiter){.client = &client_a, .serial = 3, .evicts = true});
    give_back();
    assert_int_equal(answers[9].progress, 4);
    artifacts_forget(artifacts, &client_b, 9, &why);
    assert_int_equal(answers[9].finished, 1);
    make_resident("/b", 4);
    assert_int_equal(answers[9].progress, 4);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(what_is_pinned_does_not_go_for_others),
        T(a_load_pins_as_soon_as_its_files_are_known),
        T(a_pinned_one_stays_until_what_is_new_is_resident),
        T(a_stale_one_that_is_pinned_goes_for_what_takes_its_place),
        T(evicted_by_force_it_is_not_pinned_any_more),
        T(what_is_preloaded_is_listed_at_once_and_loads_in_order),
        T(a_storage_that_hangs_does_not_hold_up_the_next_preload),
        T(a_preload_that_is_missing_is_listed_as_failed_and_tried_again),
        T(other_failures_do_not_push_out_a_preload_that_failed),
        T(who_waits_for_a_preload_hastens_it),
        T(who_follows_all_hears_of_every_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
