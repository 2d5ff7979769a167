/* daemon/artifacts: the steps of an artifact's life. */
#include "artifacts_fixture.h"

static void evict(struct generation *g, const struct hearth_error *why, uint32_t serial) {
    artifacts_evict(g, why, &(struct waiter){.client = &client_a, .serial = serial, .evicts = true});
}

static void a_load_is_told_its_id_then_its_end(void **state) {
    (void)state;
    ask("/m", 1);
    assert_int_equal(answers[1].progress, 1);
    uint64_t id = answers[1].id;
    struct generation *g = artifacts_find(artifacts, id);
    assert_int_equal(g->state, HEARTH_STATE_LOADING);
    assert_int_equal(artifacts_lease(g, NULL), HEARTH_E_BUSY);
    assert_true(artifacts_busy(artifacts));
    end_load(0);
    assert_int_equal(answers[1].finished, 1);
    assert_int_equal(answers[1].code, 0);
    assert_int_equal(answers[1].id, id);
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
    assert_int_equal(budget.used.bytes, g->charged.bytes);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    artifacts_unlease(g);
    assert_ptr_equal(artifacts_find(artifacts, id), g); /* it stays without leases */
}

static void the_same_files_are_loaded_once(void **state) {
    (void)state;
    ask("/m", 1);
    ask("/m", 2);
    assert_int_equal(n_loads, 1);
    assert_int_equal(answers[1].id, answers[2].id);
    end_load(0);
    assert_int_equal(answers[2].finished, 1);
    assert_true(answers[2].shared);
    assert_false(answers[2].found_resident);
    ask("/m", 3);
    assert_int_equal(n_loads, 1);
    assert_true(answers[3].found_resident);
    assert_int_equal(answers[3].id, answers[1].id);
    assert_int_equal(count(), 1);
}

static void a_resolve_that_nobody_waits_for_is_called_off(void **state) {
    (void)state;
    endless = true;
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 2, false);
    wait_for_count(&begun, 1);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    endless = false;
    wait_for_count(&called_off, 1);
    settle(); /* the other's, which waited its turn */
    assert_int_equal(begun, 2);
    assert_int_equal(answers[1].finished, 0);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(answers[2].code, 0);
}

static void changed_files_load_beside_what_is_leased(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    struct generation *old = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(old, NULL), 0);
    version = 2;
    ask("/m", 2);
    assert_true(old->stale);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_not_equal(answers[2].id, answers[1].id);
    assert_int_equal(artifacts_lease(old, NULL), 0); /* by its id it can still be attached */
    artifacts_unlease(old);
    assert_int_equal(count(), 2);
    artifacts_unlease(old); /* its last lease */
    assert_null(artifacts_find(artifacts, answers[1].id));
    assert_int_equal(n_dropped, 1);
    give_back();
    assert_int_equal(n_residents, 1);
}

static void changed_files_replace_what_is_not_leased(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    version = 2;
    ask("/m", 2);
    assert_null(artifacts_find(artifacts, answers[1].id));
    give_back();
    assert_int_equal(n_residents, 0);
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void vanished_files_make_a_leased_artifact_stale(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    missing = true;
    ask("/m", 2);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    assert_true(g->stale);
    missing = false;
    ask("/m", 3); /* and they are back, the same */
    assert_int_equal(answers[3].id, g->id);
    assert_false(g->stale);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
}

static void what_is_missing_inside_says_nothing_of_what_is_resident(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    missing = inside = true;
    ask("/m", 2);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    assert_non_null(artifacts_find(artifacts, answers[1].id));
    inside = false;
    ask("/m", 3);
    assert_int_equal(answers[3].code, HEARTH_E_NOT_FOUND);
    assert_null(artifacts_find(artifacts, answers[1].id));
}

static void what_is_verified_better_serves_who_asks_for_less(void **state) {
    (void)state;
    policy = HEARTH_VERIFY_ALWAYS;
    ask("/m", 1);
    end_load(0);
    policy = HEARTH_VERIFY_NONE;
    ask("/m//.", 2); /* however it is spelt */
    assert_int_equal(answers[2].id, answers[1].id);
    assert_true(answers[2].found_resident);
    assert_int_equal(n_loads, 1);
}

static void what_is_verified_better_takes_the_place_of_the_other(void **state) {
    (void)state;
    ask("/m", 1);
    end_load(0);
    policy = HEARTH_VERIFY_REMEMBERED;
    ask("/m", 2);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_not_equal(answers[2].id, answers[1].id);
    assert_null(artifacts_find(artifacts, answers[1].id));
    /* With a lease it stays as long as that, and is given to nobody who asks by name. */
    struct generation *g = artifacts_find(artifacts, answers[2].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    policy = HEARTH_VERIFY_ALWAYS;
    ask("/m", 3);
    end_load(2);
    assert_int_equal(count(), 2);
    policy = HEARTH_VERIFY_REMEMBERED;
    ask("/m", 4);
    assert_int_equal(answers[4].id, answers[3].id);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
}

static void a_failure_is_kept_with_its_reason_until_it_succeeds(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    ask("/m", 1);
    loads[0]->fails = true;
    end_load(0);
    assert_int_equal(answers[1].code, HEARTH_E_INTEGRITY);
    assert_int_equal(budget.used.bytes, 0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(g->state, HEARTH_STATE_FAILED);
    assert_int_equal(artifacts_lease(g, &err), HEARTH_E_INTEGRITY);
    assert_string_equal(err.message, "the content differs");
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2});
    assert_int_equal(answers[2].code, HEARTH_E_INTEGRITY);
    ask("/m", 3); /* a failure is never joined */
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[3].code, 0);
    assert_null(artifacts_find(artifacts, answers[1].id));
    assert_int_equal(count(), 1);
}

static void only_the_last_failures_are_kept(void **state) {
    (void)state;
    for (unsigned i = 0; i < FAILURES_KEPT + 5; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/m%u", i);
        ask(ref, 1);
        loads[i]->fails = true;
        end_load(i);
    }
    assert_int_equal(count(), FAILURES_KEPT);
    assert_string_equal(artifacts_next(artifacts, NULL)->spec->ref, "/m5");
}

static void refusals_in_a_row_are_safe_for_the_queue(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES - 1;
    for (unsigned i = 0; i < 2 * FAILURES_KEPT; i++) {
        char ref[16];
        snprintf(ref, sizeof(ref), "/m%u", i);
        ask_as(&client_a, ref, 1, false);
    }
    settle();
    assert_int_equal(answers[1].finished, 2 * FAILURES_KEPT);
    assert_int_equal(answers[1].code, HEARTH_E_TOO_LARGE);
    assert_int_equal(n_loads, 0);
    assert_int_equal(count(), FAILURES_KEPT);
}

static void a_reference_that_is_not_there_leaves_nothing(void **state) {
    (void)state;
    missing = true;
    ask("/m", 1);
    assert_int_equal(answers[1].code, HEARTH_E_NOT_FOUND);
    assert_int_equal(answers[1].progress, 0);
    assert_int_equal(count(), 0);
}

static void loads_beyond_the_limit_wait_their_turn(void **state) {
    (void)state;
    ask("/a", 1);
    ask("/b", 2);
    ask("/c", 3);
    assert_int_equal(n_loads, 2);
    assert_int_equal(artifacts_find(artifacts, answers[3].id)->state, HEARTH_STATE_QUEUED);
    end_load(0);
    assert_int_equal(n_loads, 3);
    end_load(1);
    end_load(2);
    assert_int_equal(answers[3].code, 0);
}

static void what_does_not_fit_waits_for_room(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES + (1 << 20);
    ask("/a", 1);
    ask("/b", 2);
    assert_int_equal(answers[2].finished, 0);
    end_load(0);
    assert_int_equal(answers[1].code, 0);
    give_back(); /* /a has gone for it */
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void what_waits_is_charged_for_what_it_holds(void **state) {
    (void)state;
    budget.limit.fds = 14; /* two loads of four, and three that wait with two each */
    for (uint32_t serial = 1; serial <= 6; serial++) {
        char ref[8];
        snprintf(ref, sizeof(ref), "/%u", serial);
        ask_as(&client_a, ref, serial, true);
        settle();
    }
    for (uint32_t serial = 1; serial <= 6; serial++)
        assert_int_equal(answers[serial].code, serial < 6 ? 0 : HEARTH_E_NO_FDS);
    assert_int_equal(budget.used.fds, 14);
    for (unsigned i = 0; i < 5; i++) {
        end_load(i);
        give_back(); /* residents that go for what waits */
        assert_true(budget.used.fds <= 14);
    }
    assert_int_equal(n_loads, 5);
}

static void the_lists_of_what_waits_are_bounded(void **state) {
    (void)state;
    list_bytes = UINT64_C(50) << 20;
    for (uint32_t serial = 1; serial <= 5; serial++) {
        char ref[8];
        snprintf(ref, sizeof(ref), "/%u", serial);
        ask(ref, serial);
    }
    list_bytes = 0;
    assert_int_equal(answers[4].finished, 0); /* it waits with another, behind two that load */
    assert_int_equal(answers[5].code, HEARTH_E_BUSY);
    for (unsigned i = 0; i < 4; i++)
        end_load(i);
    assert_int_equal(answers[4].code, 0);
}

static void what_can_never_fit_does_not_wait(void **state) {
    (void)state;
    ask("/a", 1);
    ask("/b", 2);
    budget.limit.bytes = FILE_BYTES / 2;
    ask("/c", 3);
    assert_int_equal(answers[3].code, HEARTH_E_TOO_LARGE);
    end_load(0);
    end_load(1);
}

static void memory_on_its_way_back_is_waited_for(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES;
    ask_as(&client_b, "/a", 1, false);
    settle();
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_true(loads[0]->cancelled);
    ask("/b", 2);
    assert_int_equal(answers[2].finished, 0);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void a_load_ends_with_the_last_who_waits(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 2, false);
    settle();
    artifacts_forget(artifacts, &client_a, 0, NULL);
    assert_false(loads[0]->cancelled);
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_true(loads[0]->cancelled);
    assert_int_equal(count(), 0);
    assert_null(artifacts_find(artifacts, answers[2].id));
    ask("/m", 3); /* a cancelled load is never joined */
    assert_int_equal(n_loads, 2);
    end_load(0);
    end_load(1);
    assert_int_equal(answers[3].code, 0);
    assert_int_equal(answers[1].finished + answers[2].finished, 0);
}

static void a_load_that_nobody_has_to_wait_for_goes_on(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, true);
    settle();
    assert_int_equal(answers[1].finished, 1);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2, .progress = true});
    assert_int_equal(answers[2].progress, 1);
    artifacts_forget(artifacts, &client_b, 0, NULL);
    assert_false(loads[0]->cancelled);
    end_load(0);
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
}

static void a_cancelled_request_is_told_and_ends_what_only_it_waited_for(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "taken back");
    ask_as(&client_a, "/m", 1, false);
    ask_as(&client_b, "/m", 1 + 1, false);
    settle();
    assert_int_equal(n_loads, 1);
    artifacts_forget(artifacts, &client_a, 2, &why); /* that serial is another client's */
    assert_int_equal(answers[1].finished + answers[2].finished, 0);
    artifacts_forget(artifacts, &client_a, 1, &why);
    assert_int_equal(answers[1].code, HEARTH_E_CANCELLED);
    assert_false(loads[0]->cancelled);
    artifacts_forget(artifacts, &client_b, 2, &why);
    assert_int_equal(answers[2].code, HEARTH_E_CANCELLED);
    assert_true(loads[0]->cancelled);
    end_load(0);
    assert_int_equal(answers[1].finished + answers[2].finished, 2);
    assert_int_equal(budget.used.bytes, 0);
}

static void who_follows_what_is_gone_is_told_at_once(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "evicted");
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    evict(g, &why, 3);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_b, .serial = 2, .progress = true});
    assert_int_equal(answers[2].progress, 0);
    assert_int_equal(answers[2].code, HEARTH_E_NOT_FOUND);
    artifacts_unlease(g);
    assert_int_equal(count(), 0);
}

static void who_goes_while_it_is_resolved_starts_no_load(void **state) {
    (void)state;
    ask_as(&client_a, "/m", 1, true);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    settle();
    ask("/n", 2);
    assert_int_equal(n_loads, 1);
    end_load(0);
    assert_int_equal(answers[1].finished, 0);
    assert_int_equal(count(), 1);
}

static void eviction_of_what_loads_cancels_it_and_tells_who_waits(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "evicted");
    ask("/m", 1);
    evict(artifacts_find(artifacts, answers[1].id), &why, 2);
    assert_int_equal(answers[1].code, HEARTH_E_CANCELLED);
    assert_int_equal(answers[2].finished, 1); /* a storage that hangs does not hold it up */
    assert_true(loads[0]->cancelled);
    assert_true(artifacts_busy(artifacts));
    assert_int_equal(budget.used.bytes, FILE_BYTES); /* until its memory has come back */
    end_load(0);
    assert_int_equal(budget.used.bytes, 0);
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(answers[1].finished, 1);
}

static void eviction_of_what_is_leased_leaves_it_to_its_holders(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    ask("/m", 1);
    end_load(0);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease(g, NULL), 0);
    evict(g, &why, 3);
    assert_int_equal(answers[3].finished, 1); /* its holders' memory is not waited for */
    assert_int_equal(g->state, HEARTH_STATE_GONE);
    assert_int_equal(artifacts_lease(g, NULL), HEARTH_E_NOT_FOUND);
    assert_int_equal(count(), 1);
    assert_true(budget.used.bytes > 0);
    ask("/m", 2); /* what is gone is never shared */
    assert_int_equal(n_loads, 2);
    end_load(1);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
    give_back();
    assert_int_equal(n_residents, 1);
}

static void eviction_is_over_when_the_memory_has_come_back(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    budget.limit.bytes = FILE_BYTES;
    ask("/m", 1);
    end_load(0);
    uint64_t id = answers[1].id, used = budget.used.bytes;
    evict(artifacts_find(artifacts, id), &why, 2);
    ask_as(&client_b, "/n", 3, false);
    settle();
    artifacts_forget(artifacts, &client_a, 2, &why); /* it is no load that could be taken back */
    assert_null(artifacts_find(artifacts, id));
    assert_int_equal(count(), 1);
    assert_int_equal(answers[2].finished, 0);
    assert_int_equal(budget.used.bytes, used);
    assert_int_equal(n_loads, 1); /* it waits for the room, and is not refused */
    assert_true(artifacts_busy(artifacts));
    give_back();
    assert_int_equal(answers[2].finished, 1);
    assert_int_equal(answers[2].code, 0);
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[3].code, 0);

    /* Nobody need be there to hear it. */
    evict(artifacts_find(artifacts, answers[3].id), &why, 4);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    give_back();
    assert_int_equal(answers[4].finished, 0);
    assert_false(artifacts_busy(artifacts));
}

static void all_ends_when_the_daemon_does(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "ending");
    ask("/a", 1);
    end_load(0);
    ask("/b", 2);
    ask("/c", 3);
    ask("/d", 4);
    ask_as(&client_a, "/e", 5, false); /* still resolving */
    artifacts_evict_all(artifacts, &why);
    for (unsigned i = 2; i <= 5; i++)
        assert_int_equal(answers[i].code, HEARTH_E_CANCELLED);
    assert_true(artifacts_busy(artifacts));
    end_load(1);
    end_load(2);
    give_back();
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(n_loads, 3);
    assert_int_equal(count(), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(a_load_is_told_its_id_then_its_end),
        T(the_same_files_are_loaded_once),
        T(changed_files_load_beside_what_is_leased),
        T(changed_files_replace_what_is_not_leased),
        T(vanished_files_make_a_leased_artifact_stale),
        T(what_is_missing_inside_says_nothing_of_what_is_resident),
        T(what_is_verified_better_serves_who_asks_for_less),
        T(what_is_verified_better_takes_the_place_of_the_other),
        T(a_failure_is_kept_with_its_reason_until_it_succeeds),
        T(only_the_last_failures_are_kept),
        T(refusals_in_a_row_are_safe_for_the_queue),
        T(a_resolve_that_nobody_waits_for_is_called_off),
        T(a_reference_that_is_not_there_leaves_nothing),
        T(loads_beyond_the_limit_wait_their_turn),
        T(what_does_not_fit_waits_for_room),
        T(what_waits_is_charged_for_what_it_holds),
        T(the_lists_of_what_waits_are_bounded),
        T(what_can_never_fit_does_not_wait),
        T(memory_on_its_way_back_is_waited_for),
        T(a_load_ends_with_the_last_who_waits),
        T(a_load_that_nobody_has_to_wait_for_goes_on),
        T(a_cancelled_request_is_told_and_ends_what_only_it_waited_for),
        T(who_follows_what_is_gone_is_told_at_once),
        T(who_goes_while_it_is_resolved_starts_no_load),
        T(eviction_of_what_loads_cancels_it_and_tells_who_waits),
        T(eviction_of_what_is_leased_leaves_it_to_its_holders),
        T(eviction_is_over_when_the_memory_has_come_back),
        T(all_ends_when_the_daemon_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
