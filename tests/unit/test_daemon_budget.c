/* daemon/budget: what is charged is refunded, and what does not fit is refused with the figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "daemon/budget.h"
#include "util/error.h"

static void charges_are_refunded_exactly(void **state) {
    (void)state;
    struct budget b = {.limit = {1000, 10}};
    struct charge c = {600, 4};
    assert_int_equal(budget_charge(&b, c, "/a", NULL), 0);
    budget_settle(&b, &c, (struct charge){700, 5});
    assert_int_equal(b.used.bytes, 700);
    assert_int_equal(c.fds, 5);
    budget_refund(&b, c);
    assert_int_equal(b.used.bytes, 0);
    assert_int_equal(b.used.fds, 0);
}

static void what_does_not_fit_is_refused_with_its_figures(void **state) {
    (void)state;
    struct budget b = {.limit = {1000, 10}};
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(budget_charge(&b, (struct charge){600, 4}, "/a", &err), 0);
    assert_int_equal(budget_charge(&b, (struct charge){401, 1}, "/b", &err), HEARTH_E_TOO_LARGE);
    assert_string_equal(err.file, "/b");
    assert_string_equal(err.expected, "at most 400 bytes");
    assert_string_equal(err.found, "401 bytes");
    assert_non_null(strstr(err.message, "600 B of the budget of 1000 B"));
    assert_int_equal(budget_charge(&b, (struct charge){400, 7}, "/b", &err), HEARTH_E_NO_FDS);
    assert_string_equal(err.expected, "at most 6 descriptors");
    assert_int_equal(b.used.bytes, 600); /* a refusal charges nothing */
    assert_int_equal(b.used.fds, 4);
    assert_int_equal(budget_charge(&b, (struct charge){400, 6}, "/b", &err), 0);
}

static void more_than_settled_for_leaves_no_room_and_does_not_wrap(void **state) {
    (void)state;
    struct budget b = {.limit = {1000, 10}};
    struct charge c = {900, 1};
    assert_int_equal(budget_charge(&b, c, "/a", NULL), 0);
    budget_settle(&b, &c, (struct charge){1200, 1});
    assert_int_equal(budget_charge(&b, (struct charge){1, 0}, "/b", NULL), HEARTH_E_TOO_LARGE);
    assert_int_equal(budget_charge(&b, (struct charge){UINT64_MAX, 0}, "/b", NULL), HEARTH_E_TOO_LARGE);
}

static void an_estimate_is_whole_pages_and_never_wraps(void **state) {
    (void)state;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct budget b = {.huge_page = 2 << 20};
    struct artifact_file files[3] = {{.identity.bytes = 0}, {.identity.bytes = 1}, {.identity.bytes = (2 << 20) + 1}};
    struct artifact a = {.files = files, .n_files = 3};
    struct charge c = budget_estimate(&b, &a);
    assert_int_equal(c.bytes, page + (4 << 20));
    assert_int_equal(c.fds, 6);
    b.huge_page = 1 << 30; /* a pool of large ones: what does not fill one is elsewhere */
    files[0].identity.bytes = (1 << 30) + 1;
    assert_int_equal(budget_estimate(&b, &a).bytes, (UINT64_C(2) << 30) + page + (2 << 20) + page);
    b.huge_page = 2 << 20;
    files[0].identity.bytes = files[2].identity.bytes = UINT64_MAX / 2;
    assert_true(budget_estimate(&b, &a).bytes >= UINT64_MAX - (4 << 20));
    files[0].identity.bytes = files[2].identity.bytes = UINT64_MAX - 1;
    assert_int_equal(budget_estimate(&b, &a).bytes, UINT64_MAX);
}

static void the_default_is_a_part_of_what_is_available(void **state) {
    (void)state;
    struct budget b;
    struct rlimit nofile;
    assert_int_equal(budget_init(&b, 0, false, NULL), 0);
    assert_true(b.limit.bytes > 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &nofile), 0);
    assert_int_equal(nofile.rlim_cur, nofile.rlim_max);
    assert_true(b.limit.fds > 0 && b.limit.fds < nofile.rlim_max);
    assert_int_equal(budget_init(&b, 4096, false, NULL), 0);
    assert_int_equal(b.limit.bytes, 4096);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(charges_are_refunded_exactly),
        cmocka_unit_test(what_does_not_fit_is_refused_with_its_figures),
        cmocka_unit_test(more_than_settled_for_leaves_no_room_and_does_not_wrap),
        cmocka_unit_test(an_estimate_is_whole_pages_and_never_wraps),
        cmocka_unit_test(the_default_is_a_part_of_what_is_available),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
