/* cli/options: what people type behind a verb. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/options.h"

static void options_and_operands_mix(void **state) {
    (void)state;
    struct options o = {0};
    struct hearth_error err;
    char *argv[] = {"hearth", "a", "--json", "--timeout=2m", "-q", "b", "--include", "*.json", "--include=-x", NULL};
    assert_int_equal(options_parse(&o, OPTIONS_LOAD | OPTIONS_ALL, 9, argv, NULL, &err), 0);
    assert_true(o.json && o.quiet && o.has_timeout && !o.progress);
    assert_int_equal(o.timeout_ns, UINT64_C(120000000000));
    assert_int_equal(o.n_operands, 2);
    assert_string_equal(o.operands[1], "b");
    assert_int_equal(o.n_include, 2);
    assert_string_equal(o.include[1], "-x");
    options_free(&o);
}

static void two_dashes_end_the_options(void **state) {
    (void)state;
    struct options o = {0};
    char *argv[] = {"hearth", "ref", "--", "cmd", "--json", "--", NULL};
    assert_int_equal(options_parse(&o, OPTIONS_ALL, 6, argv, NULL, NULL), 0);
    assert_int_equal(o.n_command, 3);
    assert_string_equal(o.command[0], "cmd");
    assert_null(o.command[3]);
    assert_false(o.json);
    options_fold_command(&o);
    assert_int_equal(o.n_operands, 4);
    assert_string_equal(o.operands[2], "--json");
    options_free(&o);
}

static void options_before_the_verb_stop_at_it(void **state) {
    (void)state;
    struct options o = {0};
    char *argv[] = {"hearth", "--socket", "load", "load", "--json", NULL};
    int at = 0;
    assert_int_equal(options_parse(&o, OPTIONS_DAEMON | OPTIONS_ALL, 5, argv, &at, NULL), 0);
    assert_int_equal(at, 3);
    assert_string_equal(o.socket, "load");
    options_free(&o);
}

static void a_digest_is_for_a_file_or_for_the_only_one(void **state) {
    (void)state;
    static char hex[] = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    char named[128] = "a=b.safetensors=";
    strcat(named, hex);
    struct options o = {0};
    char *argv[] = {"hearth", "--sha256", named, "--sha256", hex, NULL};
    assert_int_equal(options_parse(&o, OPTIONS_LOAD, 5, argv, NULL, NULL), 0);
    assert_int_equal(o.n_digests, 2);
    assert_string_equal(o.digests[0].path, "a=b.safetensors");
    assert_string_equal(o.digests[1].path, "");
    assert_int_equal(o.digests[1].sha256[31], 0xff);
    options_free(&o);
}

static void what_makes_no_sense_is_refused_in_words(void **state) {
    (void)state;
    static char *const bad[][3] = {
        {"--nothing"},        {"--js"},
        {"--json=1"},         {"-x"},
        {"--timeout"},        {"--timeout", "soon"},
        {"--timeout=-1"},     {"--verify", "some"},
        {"--sha256", "a=12"}, {"--sha256", ""},
        {"--socket="},        {"--force"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct options o = {0};
        struct hearth_error err = {0};
        char *argv[] = {"hearth", bad[i][0], bad[i][1], NULL};
        assert_int_equal(options_parse(&o, OPTIONS_LOAD | OPTIONS_ALL, bad[i][1] ? 3 : 2, argv, NULL, &err),
                         HEARTH_E_INVALID);
        assert_true(strlen(err.message) > 10);
        options_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_mix),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(options_before_the_verb_stop_at_it),
        cmocka_unit_test(a_digest_is_for_a_file_or_for_the_only_one),
        cmocka_unit_test(what_makes_no_sense_is_refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
