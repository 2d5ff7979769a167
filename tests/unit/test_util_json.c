/* util/json: what is written parses with an independent reader (jansson) to the same values, whatever the bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/json.h"

static char *text;
static size_t text_bytes;
static struct json j;

static void begin(bool pretty) {
    json_init(&j, open_memstream(&text, &text_bytes), pretty);
    assert_non_null(j.out);
}

/* Ends the document and returns it parsed; the text stays until discard(). */
static json_t *finish(void) {
    json_error_t why;
    assert_int_equal(fclose(j.out), 0);
    assert_int_equal(j.depth, 0);
    json_t *document = json_loadb(text, text_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!document)
        fail_msg("%s, at %d in: %s", why.text, why.position, text);
    return document;
}

static void discard(json_t *document) {
    json_decref(document);
    free(text);
    text = NULL;
}

static void write_nested(void) {
    json_object_begin(&j);
    json_key(&j, "empty");
    json_array_begin(&j);
    json_array_end(&j);
    json_key(&j, "list");
    json_array_begin(&j);
    json_u64(&j, UINT64_C(9223372036854775807));
    json_bool(&j, true);
    json_nil(&j);
    json_object_begin(&j);
    json_object_end(&j);
    json_array_end(&j);
    json_key(&j, "last");
    json_str(&j, "x");
    json_object_end(&j);
}

static void what_does_something_to_a_terminal_is_escaped(void **state) {
    (void)state;
    begin(false);
    json_array_begin(&j);
    json_str(&j, "\x7f \xc2\x9b \xc2\xa0 \xd8\x9c \xe2\x80\xae \xe2\x81\xa6 \xe2\x82\xac");
    json_array_end(&j);
    json_t *value = finish();
    assert_string_equal(text, "[\"\\u007f \\u009b \xc2\xa0 \\u061c \\u202e \\u2066 \xe2\x82\xac\"]\n");
    discard(value);
}

static void commas_and_nesting_are_right_compact_and_pretty(void **state) {
    (void)state;
    begin(false);
    write_nested();
    json_t *compact = finish();
    assert_string_equal(text, "{\"empty\":[],\"list\":[9223372036854775807,true,null,{}],"
                              "\"last\":\"x\"}\n");
    free(text);
    begin(true);
    write_nested();
    json_t *pretty = finish();
    assert_true(json_equal(compact, pretty));
    json_decref(compact);
    discard(pretty);
}

static void every_single_byte_survives_or_is_replaced(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        begin(false);
        json_array_begin(&j);
        json_str_n(&j, &byte, 1);
        json_array_end(&j);
        json_t *document = finish();
        const json_t *s = json_array_get(document, 0);
        if (c < 0x80) {
            assert_int_equal(json_string_length(s), 1);
            assert_memory_equal(json_string_value(s), &byte, 1);
        } else {
            assert_string_equal(json_string_value(s), "\xef\xbf\xbd");
        }
        discard(document);
    }
}

static void nothing_but_utf8_passes_for_utf8(void **state) {
    (void)state;
    static const char *const good[] = {
        "", "a", "\xc2\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",     "\xc1\xbf",         "\xc2",         "\xe0\x80\x80",     "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "a\xe2\x82",    "\xe2\x28\xa1"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_int_equal(utf8_length((const unsigned char *)"", 0), 0);
}

static void a_path_that_is_not_utf8_comes_with_its_exact_bytes(void **state) {
    (void)state;
    static const struct {
        const char *path, *base64;
    } cases[] = {{"a\xff", "Yf8="}, {"\xff", "/w=="}, {"ab\xfe", "YWL+"}, {"\xc3(\n\x01", "wygKAQ=="}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(i % 2);
        json_object_begin(&j);
        json_path(&j, "path", cases[i].path, strlen(cases[i].path));
        json_object_end(&j);
        json_t *document = finish();
        assert_non_null(json_object_get(document, "path"));
        assert_string_equal(json_string_value(json_object_get(document, "path_b64")), cases[i].base64);
        discard(document);
    }
    begin(false);
    json_object_begin(&j);
    json_path(&j, "path", "caf\xc3\xa9", 5);
    json_object_end(&j);
    json_t *document = finish();
    assert_string_equal(json_string_value(json_object_get(document, "path")), "caf\xc3\xa9");
    assert_null(json_object_get(document, "path_b64"));
    discard(document);
}

static void numbers_that_json_lacks_are_null(void **state) {
    (void)state;
    begin(false);
    json_array_begin(&j);
    json_double(&j, NAN);
    json_double(&j, -INFINITY);
    json_double(&j, 0.95);
    json_double(&j, 1e300);
    json_array_end(&j);
    json_t *document = finish();
    assert_string_equal(text, "[null,null,0.95,1e+300]\n");
    discard(document);
}

static void an_error_has_every_fact_or_null(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_INTEGRITY, "a \"quoted\" message");
    error_at(&err, "/a\xff", 4096);
    error_expected(&err, "aa");
    begin(false);
    json_object_begin(&j);
    json_error(&j, &err);
    json_object_end(&j);
    json_t *document = finish();
    const json_t *e = json_object_get(document, "error");
    assert_string_equal(json_string_value(json_object_get(e, "code")), "integrity");
    assert_string_equal(json_string_value(json_object_get(e, "message")), err.message);
    assert_string_equal(json_string_value(json_object_get(e, "file_b64")), "L2H/");
    assert_int_equal(json_integer_value(json_object_get(e, "offset")), 4096);
    assert_string_equal(json_string_value(json_object_get(e, "expected")), "aa");
    assert_true(json_is_null(json_object_get(e, "found")));
    assert_true(json_is_null(json_object_get(e, "hint")));
    discard(document);

    error_set(&err, HEARTH_E_BUSY, "x");
    begin(true);
    json_object_begin(&j);
    json_error(&j, &err);
    json_object_end(&j);
    document = finish();
    e = json_object_get(document, "error");
    assert_true(json_is_null(json_object_get(e, "file")));
    assert_true(json_is_null(json_object_get(e, "offset")));
    discard(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_something_to_a_terminal_is_escaped),
        cmocka_unit_test(commas_and_nesting_are_right_compact_and_pretty),
        cmocka_unit_test(every_single_byte_survives_or_is_replaced),
        cmocka_unit_test(nothing_but_utf8_passes_for_utf8),
        cmocka_unit_test(a_path_that_is_not_utf8_comes_with_its_exact_bytes),
        cmocka_unit_test(numbers_that_json_lacks_are_null),
        cmocka_unit_test(an_error_has_every_fact_or_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
