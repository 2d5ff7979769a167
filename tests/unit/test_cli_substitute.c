/* cli/substitute: {} and {N} in the arguments of `hearth run`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cli/substitute.h"

static const char *const directories[] = {"/d/one", "/d/two", "/d/{1}"};

static void check(const char *argument, size_t n, const char *expected) {
    char *got = substitute(argument, directories, n);
    assert_non_null(got);
    assert_string_equal(got, expected);
    free(got);
}

static void braces_are_the_first_directory_anywhere_and_often(void **state) {
    (void)state;
    check("{}", 1, "/d/one");
    check("--model={}/a:{}", 2, "--model=/d/one/a:/d/one");
    check("{}{1}{2}", 2, "/d/one/d/one/d/two");
    check("{{}}", 1, "{/d/one}");
    check("", 1, "");
}

static void a_number_without_a_directory_stays(void **state) {
    (void)state;
    check("a{3}b{2}", 2, "a{3}b/d/two");
    check("{0} {01} {1 {1,2} {x} { } {-1} {99999999999999999999}", 2,
          "{0} {01} {1 {1,2} {x} { } {-1} {99999999999999999999}");
    check("{}", 0, "{}");
    check("{", 1, "{");
}

static void what_was_put_in_is_not_looked_at_again(void **state) {
    (void)state;
    check("{3}", 3, "/d/{1}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(braces_are_the_first_directory_anywhere_and_often),
        cmocka_unit_test(a_number_without_a_directory_stays),
        cmocka_unit_test(what_was_put_in_is_not_looked_at_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
