/* daemon/residency, daemon/queue: what goes for what, whose turn it is, and what waits or is refused. */
#include "artifacts_fixture.h"
#include "daemon/life.h"

static struct generation *find(uint32_t serial) {
    return artifacts_find(artifacts, answers[serial].id);
}

/* Loads it, up to its end. */
static void make_resident(const char *ref, uint32_t serial) {
    ask(ref, serial);
    end_load(n_loads - 1);
    assert_int_equal(answers[serial].code, 0);
}

static void ask_in_background(const char *ref, uint32_t serial) {
    const struct load_spec spec = {.ref = (char *)(uintptr_t)ref, .verify = policy};
    artifacts_load(artifacts, &spec,
                   &(struct waiter){.client = &client_b, .serial = serial, .progress = true, .background = true});
    settle();
}

static void the_least_recently_used_go_for_what_a_client_waits_for(void **state) {
    (void)state;
    budget.limit.bytes = 3 * FILE_BYTES;
    make_resident("/a", 1);
    make_resident("/b", 2);
    make_resident("/c", 3);
    assert_int_equal(artifacts_lease(find(1), NULL), 0);
    artifacts_unlease(find(1)); /* attached last */
    ask("/c", 4);               /* found there */
    ask("/d", 5);
    assert_null(find(2));
    assert_non_null(find(1));
    assert_non_null(find(3));
    assert_int_equal(find(5)->state, HEARTH_STATE_QUEUED);
    assert_int_equal(find(5)->waits, HEARTH_WAIT_MEMORY);
    give_back();
    assert_int_equal(find(5)->state, HEARTH_STATE_LOADING);
    end_load(3);
    assert_int_equal(answers[5].code, 0);
    ask("/e", 6);
    assert_null(find(1));
    give_back();
    end_load(4);
}

static void make_resident_as(uid_t uid, const char *ref, uint32_t serial) {
    const struct load_spec spec = {.ref = (char *)(uintptr_t)ref, .verify = policy};
    artifacts_load(artifacts, &spec,
                   &(struct waiter){.client = &client_b, .uid = uid, .serial = serial, .progress = true});
    settle();
    give_back();
    if (answers[serial].finished)
        return; /* refused */
    end_load(n_loads - 1);
    assert_int_equal(answers[serial].code, 0);
}

static void a_user_takes_of_another_only_what_is_beyond_its_share(void **state) {
    (void)state;
    budget.limit.bytes = 4 * FILE_BYTES;
    make_resident_as(1, "/a", 1);
    make_resident_as(1, "/b", 2);
    make_resident_as(1, "/c", 3);
    make_resident_as(1, "/d", 4); /* nobody else wanted it */
    make_resident_as(2, "/e", 5);
    make_resident_as(2, "/f", 6);
    assert_null(find(1));
    assert_null(find(2));
    for (uint32_t serial = 7; serial < 12; serial++) {
        const char *const refs[] = {"/g", "/h", "/i", "/j", "/k"};
        make_resident_as(2, refs[serial - 7], serial);
        assert_non_null(find(3)); /* however often the other one loads */
        assert_non_null(find(4));
        assert_null(find(serial - 2)); /* it takes its own */
    }
    make_resident_as(1, "/l", 12);
    assert_null(find(3));
    assert_non_null(find(10));
    assert_non_null(find(11));
}

static void what_does_not_fit_beside_the_shares_of_others_is_refused(void **state) {
    (void)state;
    budget.limit.bytes = 4 * FILE_BYTES;
    make_resident_as(1, "/a", 1);
    make_resident_as(1, "/b", 2);
    file_bytes = 3 * FILE_BYTES;
    make_resident_as(2, "/large", 3);
    assert_int_equal(answers[3].code, HEARTH_E_TOO_LARGE);
    assert_non_null(find(1));
    assert_non_null(find(2));
    file_bytes = 2 * FILE_BYTES;
    make_resident_as(2, "/fits", 4);
    assert_int_equal(answers[4].code, 0);
    assert_non_null(find(1));
    assert_non_null(find(2));
}

static void nothing_goes_for_what_would_not_fit_even_then(void **state) {
    (void)state;
    budget.limit.bytes = 2 * FILE_BYTES + FILE_BYTES / 2;
    make_resident("/a", 1);
    make_resident("/b", 2);
    file_bytes = 2 * FILE_BYTES;
    assert_int_equal(artifacts_lease(find(2), NULL), 0);
    ask("/large", 3);
    assert_non_null(find(1));
    assert_int_equal(answers[3].finished, 0);
    assert_int_equal(find(3)->waits, HEARTH_WAIT_MEMORY);
    assert_int_equal(find(3)->lacks, FILE_BYTES / 2); /* /a would go; this is what /b's client holds */
    artifacts_unlease(find(2));
    assert_null(find(1));
    assert_null(find(2));
    give_back();
    end_load(2);
    assert_int_equal(answers[3].code, 0);
}

static void one_byte_more_than_the_budget_is_refused_and_takes_nobodys_place(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES;
    make_resident("/a", 1);
    ask("/b", 2); /* exactly as much */
    assert_null(find(1));
    give_back();
    end_load(1);
    assert_int_equal(answers[2].code, 0);
    budget.limit.bytes--;
    ask("/c", 3);
    assert_int_equal(answers[3].code, HEARTH_E_TOO_LARGE);
    assert_non_null(find(2));
}

static void descriptors_that_residents_use_up_are_had_again(void **state) {
    (void)state;
    budget.limit.fds = 16;
    for (uint32_t serial = 1; serial <= 8; serial++) {
        char ref[8];
        snprintf(ref, sizeof(ref), "/%u", serial);
        ask(ref, serial);
        give_back();
        end_load(serial - 1);
        assert_int_equal(answers[serial].code, 0);
        assert_true(budget.used.fds <= 16);
    }
    assert_int_equal(count(), 7); /* two each, and a load takes two more */
    assert_non_null(find(8));
    budget.limit.fds = 3;
    ask("/9", 9);
    assert_int_equal(answers[9].code, HEARTH_E_NO_FDS); /* a load takes four */
}

static void what_is_in_the_background_takes_nobodys_place(void **state) {
    (void)state;
    budget.limit.bytes = FILE_BYTES;
    make_resident("/a", 1);
    ask_in_background("/b", 2);
    assert_non_null(find(1));
    assert_int_equal(find(2)->state, HEARTH_STATE_QUEUED);
    ask("/b", 3); /* now somebody waits for it */
    assert_int_equal(answers[2].id, answers[3].id);
    assert_null(find(1));
    give_back();
    assert_int_equal(n_loads, 2);
    end_load(1);
    assert_int_equal(answers[2].code + answers[3].code, 0);
    assert_int_equal(answers[2].finished + answers[3].finished, 2);
}

static void what_is_in_the_background_may_be_allowed_to_take_places(void **state) {
    (void)state;
    artifacts->o.background_evicts = true;
    budget.limit.bytes = FILE_BYTES;
    make_resident("/a", 1);
    ask_in_background("/b", 2);
    assert_null(find(1));
    give_back();
    end_load(1);
    assert_int_equal(answers[2].code, 0);
}

static void what_is_waited_for_goes_before_the_background(void **state) {
    (void)state;
    ask("/a", 1);
    ask("/b", 2);
    ask_in_background("/c", 3);
    ask("/d", 4);
    assert_int_equal(n_loads, 2);
    assert_int_equal(find(4)->waits, HEARTH_WAIT_TURN);
    end_load(0);
    assert_int_equal(find(4)->state, HEARTH_STATE_LOADING);
    end_load(1); /* one place is left to what somebody may wait for */
    assert_int_equal(find(3)->state, HEARTH_STATE_QUEUED);
    end_load(2);
    assert_int_equal(find(3)->state, HEARTH_STATE_LOADING);
    end_load(3);
}

static void the_background_never_takes_the_last_place(void **state) {
    (void)state;
    ask_in_background("/a", 1);
    ask_in_background("/b", 2);
    assert_int_equal(n_loads, 1);
    ask("/c", 3);
    assert_int_equal(n_loads, 2);
    ask("/a", 4); /* is not in the background any more, and leaves no place for it */
    end_load(1);
    assert_int_equal(n_loads, 2);
    end_load(0);
    assert_int_equal(n_loads, 3);
    end_load(2);
    assert_int_equal(answers[1].code + answers[2].code + answers[3].code + answers[4].code, 0);
}

static void who_looks_on_hastens_nothing(void **state) {
    (void)state;
    ask_in_background("/a", 1);
    struct generation *g = find(1);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_a, .serial = 2, .background = true});
    assert_true(g->background);
    artifacts_watch(artifacts, g, &(struct waiter){.client = &client_a, .serial = 3});
    assert_false(g->background);
    assert_true(loads[0]->request.background && loads[0]->hastened);
    end_load(0);
    assert_int_equal(answers[2].finished + answers[3].finished, 2);
}

static void small_ones_do_not_keep_a_large_one_waiting(void **state) {
    (void)state;
    budget.limit.bytes = 4 * FILE_BYTES;
    ask("/a", 1);
    ask("/b", 2);
    file_bytes = 3 * FILE_BYTES;
    artifacts->slots.at_once = 8;
    ask("/large", 3);
    assert_int_equal(find(3)->waits, HEARTH_WAIT_MEMORY);
    file_bytes = FILE_BYTES;
    ask("/c", 4); /* fits beside the large one */
    assert_int_equal(find(4)->state, HEARTH_STATE_LOADING);
    ask("/d", 5); /* would not, and there is room for it now */
    assert_int_equal(budget.used.bytes, 3 * FILE_BYTES);
    assert_int_equal(find(5)->state, HEARTH_STATE_QUEUED);
    end_load(0);
    end_load(1);
    give_back();
    assert_int_equal(find(3)->state, HEARTH_STATE_LOADING);
    end_load(2);
    give_back();
    end_load(3);
    give_back();
    end_load(4);
    assert_int_equal(answers[3].code + answers[4].code + answers[5].code, 0);
}

static void what_waits_for_clients_keeps_nobody_waiting(void **state) {
    (void)state;
    budget.limit.bytes = 4 * FILE_BYTES;
    make_resident("/a", 1);
    assert_int_equal(artifacts_lease(find(1), NULL), 0);
    file_bytes = 4 * FILE_BYTES;
    ask("/large", 2);
    assert_int_equal(find(2)->state, HEARTH_STATE_QUEUED);
    file_bytes = FILE_BYTES;
    make_resident("/b", 3);
    artifacts_unlease(find(1));
    give_back();
    end_load(2);
    assert_int_equal(answers[2].code, 0);
}

static void what_was_cancelled_is_waited_for_before_others_go(void **state) {
    (void)state;
    budget.limit.bytes = 2 * FILE_BYTES;
    make_resident("/a", 1);
    ask_as(&client_b, "/b", 2, false);
    settle();
    artifacts_forget(artifacts, &client_b, 0, NULL);
    ask("/c", 3);
    assert_non_null(find(1));
    struct generation *cancelled = NULL;
    for (struct generation *g = find(1); g; g = TAILQ_NEXT(g, link))
        if (g->ending)
            cancelled = g;
    assert_non_null(cancelled);
    cancelled->cancelled_ns -= UINT64_C(2000000000); /* its storage hangs */
    ask("/d", 4);
    assert_null(find(1));
    give_back();
    assert_int_equal(find(3)->state, HEARTH_STATE_LOADING);
    end_load(1);
    end_load(2);
    give_back();
    end_load(3);
    assert_int_equal(answers[3].code + answers[4].code, 0);
}

static void quit_when_retired(void *user) {
    (void)user;
    if (n_retired)
        loop_quit(loop);
}

static void what_clients_hold_of_the_dropped_is_charged_until_they_let_go(void **state) {
    (void)state;
    struct hearth_msg_info info;
    struct hearth_error why = HEARTH_ERROR_INIT;
    make_resident("/a", 1);
    uint64_t id = answers[1].id;
    held = true;
    artifacts_evict(find(1), &why, &(struct waiter){.client = &client_a, .serial = 2, .evicts = true});
    assert_null(artifacts_find(artifacts, id));
    give_back();
    assert_int_equal(answers[2].finished, 1); /* what nobody holds has come back */
    generation_info(find(1), 0, &info);
    assert_int_equal(info.state, HEARTH_STATE_GONE);
    assert_int_equal(info.flags, HEARTH_INFO_HELD);
    assert_int_equal(info.resident_bytes, 1000);
    assert_int_equal(budget.used.bytes, 1000);
    assert_int_equal(budget.used.fds, 1);
    assert_int_equal(artifacts_lease(find(1), NULL), HEARTH_E_NOT_FOUND);
    artifacts_evict(find(1), &why, &(struct waiter){.client = &client_a, .serial = 3, .evicts = true});
    assert_int_equal(answers[3].finished, 1);
    assert_int_equal(loop_run(loop, quit_when_retired, NULL, NULL), 0); /* it looks again by itself */
    assert_non_null(find(1));
    give_back();
    assert_int_equal(budget.used.bytes, 1000);
    assert_int_equal(loop_run(loop, quit_when_retired, NULL, NULL), 0);
    held = false;
    give_back();
    assert_int_equal(count(), 0);
    assert_int_equal(budget.used.bytes, 0);
}

static void what_is_held_does_not_keep_the_daemon_from_ending(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    make_resident("/a", 1);
    make_resident("/b", 2);
    held = true;
    artifacts_evict(find(1), &why, &(struct waiter){.client = &client_a, .serial = 3, .evicts = true});
    give_back();
    assert_int_equal(count(), 2);
    artifacts_evict_all(artifacts, &why);
    give_back();
    assert_false(artifacts_busy(artifacts));
    assert_int_equal(count(), 0);
    assert_int_equal(n_residents, 0);
}

static void a_budget_that_becomes_smaller_takes_what_nobody_uses(void **state) {
    (void)state;
    make_resident("/a", 1);
    make_resident("/b", 2);
    make_resident("/c", 3);
    assert_int_equal(artifacts_lease(find(1), NULL), 0);
    budget.limit.bytes = 2 * FILE_BYTES;
    artifacts_tune(artifacts, 2, false);
    assert_null(find(2));
    assert_non_null(find(3));
    artifacts_tune(artifacts, 2, false); /* what is on its way back counts */
    assert_non_null(find(3));
    budget.limit.bytes = 1;
    artifacts_tune(artifacts, 2, false);
    assert_null(find(3));
    assert_non_null(find(1)); /* its client has it */
    artifacts_unlease(find(1));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(the_least_recently_used_go_for_what_a_client_waits_for),
        T(a_user_takes_of_another_only_what_is_beyond_its_share),
        T(what_does_not_fit_beside_the_shares_of_others_is_refused),
        T(nothing_goes_for_what_would_not_fit_even_then),
        T(one_byte_more_than_the_budget_is_refused_and_takes_nobodys_place),
        T(descriptors_that_residents_use_up_are_had_again),
        T(what_is_in_the_background_takes_nobodys_place),
        T(what_is_in_the_background_may_be_allowed_to_take_places),
        T(what_is_waited_for_goes_before_the_background),
        T(the_background_never_takes_the_last_place),
        T(who_looks_on_hastens_nothing),
        T(small_ones_do_not_keep_a_large_one_waiting),
        T(what_waits_for_clients_keeps_nobody_waiting),
        T(what_was_cancelled_is_waited_for_before_others_go),
        T(a_budget_that_becomes_smaller_takes_what_nobody_uses),
        T(what_clients_hold_of_the_dropped_is_charged_until_they_let_go),
        T(what_is_held_does_not_keep_the_daemon_from_ending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
