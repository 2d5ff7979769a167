/* daemon/life, artifacts, waiting: leases on what is still loading. */
#include "artifacts_fixture.h"

#include "daemon/life.h"

/* A load that can be streamed, asked for by request 1. */
static struct generation *begin_streamed(void) {
    ask("/a", 1);
    loads[0]->streams = true;
    return artifacts_find(artifacts, answers[1].id);
}

static void show(unsigned i) {
    struct loop_job last = {.run = quit};
    loads[i]->streams = true;
    loads[i]->request.streams(loads[i]->request.user, loads[i]);
    loop_post(loop, &last);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
}

static void attach(struct generation *g, uint32_t serial) {
    artifacts_watch(artifacts, g,
                    &(struct waiter){.client = &client_b, .serial = serial, .attach = HEARTH_ATTACH_STREAM});
}

static void who_wants_to_stream_waits_until_it_can_be(void **state) {
    (void)state;
    ask("/a", 1);
    struct generation *g = artifacts_find(artifacts, answers[1].id);
    assert_int_equal(artifacts_lease_stream(g, NULL), HEARTH_E_BUSY);
    attach(g, 2);
    assert_int_equal(answers[2].finished, 0);
    show(0);
    assert_int_equal(answers[2].finished, 1);
    assert_int_equal(answers[2].code, 0);
    assert_int_equal(answers[1].finished, 0);
    assert_int_equal(artifacts_lease_stream(g, NULL), 0);
    assert_int_equal(artifacts_lease(g, NULL), HEARTH_E_BUSY); /* who does not ask for streaming gets all of it */
    attach(g, 3);
    assert_int_equal(answers[3].finished, 1); /* at once, this time */
    end_load(0);
    assert_int_equal(g->state, HEARTH_STATE_RESIDENT);
    assert_int_equal(g->leases, 1);
    artifacts_unlease(g);
}

static void a_load_that_shows_nothing_before_its_end_is_attached_then(void **state) {
    (void)state;
    ask("/a", 1);
    attach(artifacts_find(artifacts, answers[1].id), 2);
    end_load(0);
    assert_int_equal(answers[2].finished, 1);
    assert_int_equal(answers[2].code, 0);
}

static void a_streamed_load_goes_on_when_nobody_else_waits(void **state) {
    (void)state;
    struct generation *g = begin_streamed();
    assert_int_equal(artifacts_lease_stream(g, NULL), 0);
    artifacts_forget(artifacts, &client_a, 0, NULL);
    assert_false(loads[0]->cancelled);
    artifacts_unlease(g);
    assert_true(loads[0]->cancelled);
    end_load(0);
    assert_int_equal(count(), 0);
}

static void a_streamed_load_that_fails_keeps_its_leases(void **state) {
    (void)state;
    struct generation *g = begin_streamed();
    assert_int_equal(artifacts_lease_stream(g, NULL), 0);
    loads[0]->fails = true;
    end_load(0);
    assert_int_equal(n_failed, 1);
    assert_int_equal(g->state, HEARTH_STATE_FAILED);
    assert_int_equal(artifacts_lease_stream(g, NULL), HEARTH_E_INTEGRITY);
    /* Newer failures, and a success, take its place in the list of failures; it stays as long as it is leased. */
    for (unsigned i = 1; i <= FAILURES_KEPT; i++) {
        ask("/b", 2);
        loads[i]->fails = true;
        end_load(i);
    }
    assert_int_equal(g->state, HEARTH_STATE_GONE);
    uint64_t id = g->id;
    assert_ptr_equal(artifacts_find(artifacts, id), g);
    artifacts_unlease(g);
    assert_null(artifacts_find(artifacts, id));
}

static void what_clients_hold_of_a_failed_load_is_charged_until_they_let_go(void **state) {
    (void)state;
    for (unsigned cancelled = 0; cancelled < 2; cancelled++) {
        ask("/a", 1);
        struct load *l = loads[n_loads - 1];
        l->streams = l->shared = held = true;
        if (cancelled)
            artifacts_forget(artifacts, &client_a, 0, NULL);
        l->fails = !cancelled;
        end_load(n_loads - 1);
        give_back();
        assert_int_equal(budget.used.bytes, 1000);
        assert_int_equal(count(), cancelled ? 1 : 2);
        struct generation *g;
        struct hearth_msg_info info;
        TAILQ_FOREACH(g, &artifacts->all, link)
        if (g->state == HEARTH_STATE_GONE) {
            generation_info(g, 0, &info);
            assert_int_equal(info.flags, HEARTH_INFO_HELD);
            assert_int_equal(info.resident_bytes, 1000);
        }
        held = false;
        residency_look(artifacts);
        give_back();
        assert_int_equal(budget.used.bytes, 0);
        if (!cancelled) {
            assert_int_equal(count(), 1);
            life_forget_failure(TAILQ_FIRST(&artifacts->all));
        }
        assert_int_equal(count(), 0);
        n_retired = 0;
    }
}

static void a_success_after_a_streamed_failure_leaves_its_leases(void **state) {
    (void)state;
    struct generation *g = begin_streamed();
    assert_int_equal(artifacts_lease_stream(g, NULL), 0);
    loads[0]->fails = true;
    end_load(0);
    ask("/a", 2);
    end_load(1);
    assert_int_equal(answers[2].code, 0);
    assert_int_equal(g->state, HEARTH_STATE_GONE);
    artifacts_unlease(g);
    assert_int_equal(count(), 1);
}

static void a_streamed_load_that_is_evicted_fails(void **state) {
    (void)state;
    struct hearth_error why = HEARTH_ERROR_INIT;
    error_set(&why, HEARTH_E_CANCELLED, "evicted");
    struct generation *g = begin_streamed();
    assert_int_equal(artifacts_lease_stream(g, NULL), 0);
    artifacts_evict_all(artifacts, &why);
    assert_int_equal(answers[1].code, HEARTH_E_CANCELLED);
    assert_true(loads[0]->cancelled);
    assert_true(artifacts_busy(artifacts));
    end_load(0);
    assert_int_equal(n_failed, 1);
    assert_int_equal(g->state, HEARTH_STATE_FAILED);
    assert_int_equal(g->reason->code, HEARTH_E_CANCELLED);
    artifacts_evict(g, &why, &(struct waiter){.client = &client_a, .serial = 5, .evicts = true});
    assert_int_equal(answers[5].finished, 1);
    assert_int_equal(g->state, HEARTH_STATE_GONE);
    artifacts_unlease(g);
    assert_int_equal(count(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
        TEST(who_wants_to_stream_waits_until_it_can_be),
        TEST(a_load_that_shows_nothing_before_its_end_is_attached_then),
        TEST(a_streamed_load_goes_on_when_nobody_else_waits),
        TEST(a_streamed_load_that_fails_keeps_its_leases),
        TEST(what_clients_hold_of_a_failed_load_is_charged_until_they_let_go),
        TEST(a_success_after_a_streamed_failure_leaves_its_leases),
        TEST(a_streamed_load_that_is_evicted_fails),
    };
    return cmocka_run_group_tests_name("daemon_streaming", tests, NULL, NULL);
}
