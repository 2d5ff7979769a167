/* util/error: an error keeps its facts, cuts what does not fit, and every code has a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "util/error.h"

static void failing_is_one_statement(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(error_set(&err, HEARTH_E_MALFORMED, "the header says %d bytes", 3), HEARTH_E_MALFORMED);
    assert_int_equal(err.code, HEARTH_E_MALFORMED);
    assert_string_equal(err.message, "the header says 3 bytes");
    assert_int_equal(err.offset, HEARTH_NO_OFFSET);
    assert_int_equal(err.sys_errno, 0);
}

static void a_new_error_has_none_of_the_last_ones_facts(void **state) {
    (void)state;
    struct hearth_error err;
    memset(&err, 'x', sizeof(err));
    error_set(&err, HEARTH_E_IO, "first");
    error_at(&err, "/f", 1);
    error_expected(&err, "a");
    error_found(&err, "b");
    error_hint(&err, "c");
    assert_string_equal(err.file, "/f");
    error_errno(&err, ENOENT, "cannot open %s", "/g");
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.message, "cannot open /g: No such file or directory");
    assert_string_equal(err.file, "");
    assert_string_equal(err.expected, "");
    assert_string_equal(err.found, "");
    assert_string_equal(err.hint, "");
    assert_int_equal(err.offset, HEARTH_NO_OFFSET);
}

static void an_offset_can_be_added_to_a_file_named_before(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_at(&err, "/f", HEARTH_NO_OFFSET);
    error_at(&err, NULL, 8);
    assert_string_equal(err.file, "/f");
    assert_int_equal(err.offset, 8);
}

static void a_caller_may_want_the_code_alone(void **state) {
    (void)state;
    assert_int_equal(error_set(NULL, HEARTH_E_BUSY, "x"), HEARTH_E_BUSY);
    assert_int_equal(error_errno(NULL, EMFILE, "x"), HEARTH_E_NO_FDS);
    error_at(NULL, "/f", 0);
    error_expected(NULL, "x");
    error_found(NULL, "x");
    error_hint(NULL, "x");
    error_clear(NULL);
}

static void what_does_not_fit_is_cut(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    char longer[8192];
    memset(longer, 'y', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    error_errno(&err, EIO, "%s", longer);
    error_at(&err, longer, 0);
    error_expected(&err, "%s", longer);
    error_hint(&err, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    assert_int_equal(strlen(err.file), sizeof(err.file) - 1);
    assert_int_equal(strlen(err.expected), sizeof(err.expected) - 1);
    assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
    assert_string_equal(err.found, "");
}

static void every_code_has_a_name_of_its_own(void **state) {
    (void)state;
    for (int i = HEARTH_OK; i <= HEARTH_E_PARSER; i++) {
        assert_string_not_equal(hearth_code_name((enum hearth_code)i), "unknown");
        for (int j = HEARTH_OK; j < i; j++)
            assert_string_not_equal(hearth_code_name((enum hearth_code)i), hearth_code_name((enum hearth_code)j));
    }
    assert_string_equal(hearth_code_name((enum hearth_code)(HEARTH_E_PARSER + 1)), "unknown");
    assert_string_equal(hearth_code_name((enum hearth_code) - 1), "unknown");
}

static void refusals_are_about_content_not_about_the_system(void **state) {
    (void)state;
    static const enum hearth_code refused[] = {HEARTH_E_MALFORMED, HEARTH_E_UNSAFE, HEARTH_E_INTEGRITY,
                                               HEARTH_E_CHANGED, HEARTH_E_PARSER};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_true(error_is_refusal(refused[i]));
    assert_false(error_is_refusal(HEARTH_OK));
    assert_false(error_is_refusal(HEARTH_E_DENIED));
    assert_false(error_is_refusal(HEARTH_E_UNSUPPORTED));
}

static void an_errno_becomes_the_code_that_tells_what_to_do(void **state) {
    (void)state;
    assert_int_equal(error_code_of_errno(ENOENT), HEARTH_E_NOT_FOUND);
    assert_int_equal(error_code_of_errno(EACCES), HEARTH_E_DENIED);
    assert_int_equal(error_code_of_errno(ENOMEM), HEARTH_E_NO_MEMORY);
    assert_int_equal(error_code_of_errno(ENFILE), HEARTH_E_NO_FDS);
    assert_int_equal(error_code_of_errno(EIO), HEARTH_E_IO);
    assert_int_equal(error_code_of_errno(EPIPE), HEARTH_E_DISCONNECTED);
    assert_int_equal(error_code_of_errno(EDOM), HEARTH_E_SYSTEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_is_one_statement),
        cmocka_unit_test(a_new_error_has_none_of_the_last_ones_facts),
        cmocka_unit_test(an_offset_can_be_added_to_a_file_named_before),
        cmocka_unit_test(a_caller_may_want_the_code_alone),
        cmocka_unit_test(what_does_not_fit_is_cut),
        cmocka_unit_test(every_code_has_a_name_of_its_own),
        cmocka_unit_test(refusals_are_about_content_not_about_the_system),
        cmocka_unit_test(an_errno_becomes_the_code_that_tells_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
