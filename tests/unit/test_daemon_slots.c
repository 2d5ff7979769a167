/* daemon/slots: loads are counted for each storage; what was let go makes room, up to a bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "daemon/slots.h"
#include "util/error.h"

static void one_storage_that_is_full_leaves_the_others_alone(void **state) {
    (void)state;
    struct slots s = {.at_once = 2};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(slots_check(&s, 7, false, "/a", NULL), 0);
        assert_int_equal(slots_take(&s, 7, false, NULL), 0);
    }
    assert_int_equal(slots_check(&s, 7, false, "/a", NULL), SLOTS_WAIT);
    assert_int_equal(slots_check(&s, 8, false, "/b", NULL), 0);
    slots_give_back(&s, 7, false, false);
    assert_int_equal(slots_check(&s, 7, false, "/a", NULL), 0);
    slots_give_back(&s, 7, false, false);
    assert_int_equal(s.running, 0);
    slots_deinit(&s);
    slots_deinit(&s);
}

static void what_is_let_go_makes_room_until_too_many_are(void **state) {
    (void)state;
    struct slots s = {.at_once = 1};
    struct hearth_error err = HEARTH_ERROR_INIT;
    for (unsigned i = 0; i < LET_GO_MAX; i++) {
        assert_int_equal(slots_check(&s, 7, false, "/a", &err), 0);
        assert_int_equal(slots_take(&s, 7, false, &err), 0);
        slots_let_go(&s, 7, false);
    }
    assert_int_equal(s.let_go, LET_GO_MAX);
    assert_int_equal(slots_check(&s, 7, false, "/a", &err), HEARTH_E_BUSY);
    assert_string_equal(err.file, "/a");
    assert_non_null(strstr(err.message, "16 cancelled loads"));
    assert_int_equal(slots_check(&s, 8, false, "/b", &err), 0);
    for (unsigned i = LET_GO_MAX; i > 0; i--) {
        slots_give_back(&s, 7, true, false);
        assert_int_equal(slots_check(&s, 7, false, "/a", &err), 0);
        assert_int_equal(s.running, i - 1);
        assert_int_equal(s.let_go, i - 1);
    }
    slots_deinit(&s);
}

static void the_background_leaves_a_place(void **state) {
    (void)state;
    struct slots s = {.at_once = 3};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(slots_check(&s, 7, true, "/a", NULL), 0);
        assert_int_equal(slots_take(&s, 7, true, NULL), 0);
    }
    assert_int_equal(slots_check(&s, 7, true, "/a", NULL), SLOTS_WAIT);
    assert_int_equal(slots_check(&s, 7, false, "/b", NULL), 0);
    assert_int_equal(slots_take(&s, 7, false, NULL), 0);
    assert_int_equal(slots_check(&s, 7, false, "/b", NULL), SLOTS_WAIT);
    slots_hasten(&s, 7);
    slots_let_go(&s, 7, true);
    slots_give_back(&s, 7, true, true);
    slots_give_back(&s, 7, false, false);
    slots_give_back(&s, 7, false, false);
    assert_int_equal(s.running, 0);
    slots_deinit(&s);
}

static void where_there_is_one_place_the_background_does_not_hold_it_up(void **state) {
    (void)state;
    struct slots s = {.at_once = 1};
    assert_int_equal(slots_check(&s, 7, true, "/a", NULL), 0);
    assert_int_equal(slots_take(&s, 7, true, NULL), 0);
    assert_int_equal(slots_check(&s, 7, true, "/a", NULL), SLOTS_WAIT);
    assert_int_equal(slots_check(&s, 7, false, "/b", NULL), 0);
    assert_int_equal(slots_take(&s, 7, false, NULL), 0);
    assert_int_equal(slots_check(&s, 7, false, "/b", NULL), SLOTS_WAIT);
    slots_give_back(&s, 7, false, false);
    slots_give_back(&s, 7, false, true);
    slots_deinit(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_storage_that_is_full_leaves_the_others_alone),
        cmocka_unit_test(the_background_leaves_a_place),
        cmocka_unit_test(where_there_is_one_place_the_background_does_not_hold_it_up),
        cmocka_unit_test(what_is_let_go_makes_room_until_too_many_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
