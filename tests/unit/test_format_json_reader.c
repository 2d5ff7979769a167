/* artifact/format/json_reader: the grammar, the tokens, and any cutting of the input into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/format/json_reader.h"
#include "util/error.h"

struct text {
    const char *bytes;
    uint64_t fail_at; /* reading at or behind it fails */
};

static int read_text(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err) {
    struct text *t = user;
    if (offset + bytes > t->fail_at)
        return error_set(err, HEARTH_E_IO, "this part cannot be read");
    memcpy(buffer, t->bytes + offset, bytes);
    return 0;
}

/* The tokens of a text as one string: a letter each, strings and numbers with their values. */
static const char *tokens(const char *bytes, size_t length, struct json_reader *r) {
    static char out[4096];
    size_t used = 0;
    struct text t = {bytes, UINT64_MAX};
    json_reader_init(r, 0, length, read_text, &t, NULL);
    for (;;) {
        enum json_token token = json_read(r);
        if (token == JSON_TOKEN_KEY || token == JSON_TOKEN_STRING)
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%c(%.*s)", token == JSON_TOKEN_KEY ? 'k' : 's',
                                     (int)r->length, r->text);
        else if (token == JSON_TOKEN_U64)
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%llu,", (unsigned long long)r->number);
        else
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%c", "!.{}[]ksunTFN"[token]);
        if (token == JSON_TOKEN_FAULT || token == JSON_TOKEN_END)
            break;
    }
    json_reader_deinit(r);
    return out;
}

static const char *read_all(const char *text) {
    struct json_reader r;
    return tokens(text, strlen(text), &r);
}

static void values_come_as_tokens(void **state) {
    (void)state;
    assert_string_equal(read_all("{\"a\":[1,-1,2.5,1e3,true,false,null,{}],\"b\":\"c\"}"),
                        "{k(a)[1,nnnTFN{}]k(b)s(c)}.");
    assert_string_equal(read_all(" \t\r\n[ ] \n"), "[].");
    assert_string_equal(read_all("\"x\""), "s(x).");
    assert_string_equal(read_all("0"), "0,.");
    assert_string_equal(read_all("[18446744073709551615,18446744073709551616,-0,0.0,1E+2,1e-2]"),
                        "[18446744073709551615,nnnnn].");
}

static void strings_are_decoded(void **state) {
    (void)state;
    assert_string_equal(read_all("\"\\\"\\\\\\/\\b\\f\\n\\r\\t|\""), "s(\"\\/\b\f\n\r\t|).");
    assert_string_equal(read_all("\"\\u0041\\u00e4\\u20AC\\ud83d\\uDE00z\""),
                        "s(A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z).");
    assert_string_equal(read_all("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""),
                        "s(\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80).");
    assert_string_equal(read_all("{\"\\u006b\":\"\"}"), "{k(k)s()}.");
}

static void what_is_not_json_is_a_fault(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "]",
        "}",
        "[}",
        "{]",
        "[1}",
        "{\"a\":1]",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "--1",
        "NaN",
        "nul",
        "nulll",
        "tru",
        "True",
        "'a'",
        "\"",
        "\"a",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\n\"",
        "\"\\ud800\\ud800\"",
        "\"\\udc00\"",
        "\"\n\"",
        "\"\x01\"",
        "\"\t\"",
        "1 2",
        "{} {}",
        "[],",
        "/**/1",
        "\xef\xbb\xbf{}",
        "\f1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct json_reader r;
        const char *got = tokens(bad[i], strlen(bad[i]), &r);
        if (got[strlen(got) - 1] != '!' || r.fault != JSON_FAULT_SYNTAX)
            fail_msg("%s gave %s", bad[i], got);
        assert_true(r.fault_at <= strlen(bad[i]));
        assert_non_null(r.fault_text);
    }
}

static void text_that_is_not_utf8_is_a_fault_of_its_own(void **state) {
    (void)state;
    static const char *const bad[] = {"\"\xff\"",         "\"\xc0\x80\"",         "\"\xe0\x80\x80\"",
                                      "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\x80\"",
                                      "\"\xc3\"",         "\"\xf0\x9f\x98\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct json_reader r;
        tokens(bad[i], strlen(bad[i]), &r);
        assert_int_equal(r.fault, JSON_FAULT_UTF8);
        assert_int_equal(r.fault_at, 1);
    }
}

static void nesting_is_bounded(void **state) {
    (void)state;
    char text[2 * JSON_READ_DEPTH_MAX + 4];
    for (unsigned depth = JSON_READ_DEPTH_MAX; depth <= JSON_READ_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct json_reader r;
        tokens(text, 2 * depth, &r);
        assert_int_equal(r.fault, depth <= JSON_READ_DEPTH_MAX ? JSON_FAULT_NONE : JSON_FAULT_SYNTAX);
    }
}

static void a_nul_in_the_text_does_not_end_it(void **state) {
    (void)state;
    struct json_reader r;
    tokens("[1]\0", 4, &r);
    assert_int_equal(r.fault, JSON_FAULT_SYNTAX);
    assert_int_equal(r.fault_at, 3);
}

static void skipping_passes_over_one_value(void **state) {
    (void)state;
    const char *bytes = "[{\"a\":[1,{\"b\":[]}]},7,[],8]";
    struct text t = {bytes, UINT64_MAX};
    struct json_reader r;
    json_reader_init(&r, 0, strlen(bytes), read_text, &t, NULL);
    assert_int_equal(json_read(&r), JSON_TOKEN_ARRAY);
    assert_true(json_skip(&r, json_read(&r)));
    assert_true(json_skip(&r, json_read(&r)));
    assert_int_equal(r.number, 7);
    assert_true(json_skip(&r, json_read(&r)));
    assert_int_equal(json_read(&r), JSON_TOKEN_U64);
    assert_int_equal(r.number, 8);
    assert_int_equal(r.at, 25);
    json_reader_deinit(&r);
}

/* The buffer is 256 KiB: white space of every length around that puts each byte of the value on the border once. */
static void a_value_may_straddle_any_border_of_the_buffer(void **state) {
    (void)state;
    const char *value = "{\"k\\u00e4\xc3\xa4y\":[\"\xf0\x9f\x98\x80\\ud83d\\ude00\",12345,-1.5e+3,true,null]}";
    size_t border = (size_t)256 << 10, n = strlen(value);
    char *text = malloc(border + n), *expected = strdup(read_all(value));
    assert_non_null(text);
    for (size_t before = 0; before <= n; before++) {
        memset(text, ' ', border - before);
        memcpy(text + border - before, value, n);
        struct json_reader r;
        assert_string_equal(tokens(text, border - before + n, &r), expected);
        assert_int_equal(r.fault, JSON_FAULT_NONE);
    }
    free(text);
    free(expected);
}

static void a_string_may_be_longer_than_the_buffer(void **state) {
    (void)state;
    size_t n = (size_t)3 << 20;
    char *text = malloc(n + 2);
    assert_non_null(text);
    memset(text, 'x', n + 2);
    text[0] = text[n + 1] = '"';
    memcpy(text + n - 5, "\\u0041", 6);
    struct text t = {text, UINT64_MAX};
    struct json_reader r;
    json_reader_init(&r, 0, n + 2, read_text, &t, NULL);
    assert_int_equal(json_read(&r), JSON_TOKEN_STRING);
    assert_int_equal(r.length, n - 5);
    assert_int_equal(r.text[n - 6], 'A');
    assert_int_equal(json_read(&r), JSON_TOKEN_END);
    json_reader_deinit(&r);
    free(text);
}

static void a_failing_read_is_told_as_it_is(void **state) {
    (void)state;
    size_t n = (size_t)1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, ' ', n);
    struct text t = {text, (uint64_t)300 << 10};
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct json_reader r;
    json_reader_init(&r, 0, n, read_text, &t, &err);
    assert_int_equal(json_read(&r), JSON_TOKEN_FAULT);
    assert_int_equal(r.fault, JSON_FAULT_INPUT);
    assert_int_equal(err.code, HEARTH_E_IO);
    assert_int_equal(json_read(&r), JSON_TOKEN_FAULT);
    json_reader_deinit(&r);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_as_tokens),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(what_is_not_json_is_a_fault),
        cmocka_unit_test(text_that_is_not_utf8_is_a_fault_of_its_own),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_nul_in_the_text_does_not_end_it),
        cmocka_unit_test(skipping_passes_over_one_value),
        cmocka_unit_test(a_value_may_straddle_any_border_of_the_buffer),
        cmocka_unit_test(a_string_may_be_longer_than_the_buffer),
        cmocka_unit_test(a_failing_read_is_told_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
