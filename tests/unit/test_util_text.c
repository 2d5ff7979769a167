/* util/text: sizes, durations, digests and ids as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/text.h"

static void sizes_are_binary_units_with_or_without_i(void **state) {
    (void)state;
    uint64_t v;
    assert_int_equal(parse_size("512", &v), 0);
    assert_int_equal(v, 512);
    assert_int_equal(parse_size("64K", &v), 0);
    assert_int_equal(v, 65536);
    assert_int_equal(parse_size("1.5GiB", &v), 0);
    assert_int_equal(v, UINT64_C(3) << 29);
    assert_int_equal(parse_size("2 tb", &v), 0);
    assert_int_equal(v, UINT64_C(2) << 40);
}

static void what_is_not_a_size_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "-1", "K", "1e9", "0x10", "1KK", "1 Kilo", "nan", "inf", " 1"};
    uint64_t v;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_size(bad[i], &v), -EINVAL);
    assert_int_equal(parse_size("99999999P", &v), -ERANGE);
}

static void a_terminal_never_sees_control_characters(void **state) {
    (void)state;
    char out[64];
    const char evil[] = "a\x1b[2Jb\xff\xc2\x9b";
    format_printable(evil, sizeof(evil) - 1, out, sizeof(out));
    assert_string_equal(out, "a\\x1b[2Jb\\xff\\x9b");
    format_printable("0123456789", 10, out, 9);
    assert_string_equal(out, "01234...");
}

static void a_name_cannot_turn_the_direction_of_writing(void **state) {
    (void)state;
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"\u061c", "\\u061c"}, {"\u200e", "\\u200e"}, {"\u200f", "\\u200f"}, {"\u202a", "\\u202a"},
        {"\u202b", "\\u202b"}, {"\u202c", "\\u202c"}, {"\u202d", "\\u202d"}, {"\u202e", "\\u202e"},
        {"\u2066", "\\u2066"}, {"\u2067", "\\u2067"}, {"\u2068", "\\u2068"}, {"\u2069", "\\u2069"},
        {"\u061b", "\u061b"},  {"\u061d", "\u061d"},  {"\u200d", "\u200d"},  {"\u2010", "\u2010"},
        {"\u2030", "\u2030"},  {"\u2065", "\u2065"},  {"\u206a", "\u206a"},  {"\U0001202e", "\U0001202e"},
        {"\u05d0", "\u05d0"}, /* letters that are written from the right stay */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[32], text[16];
        snprintf(text, sizeof(text), "a%sb", cases[i].text);
        format_printable(text, strlen(text), out, sizeof(out));
        assert_int_equal(out[0], 'a');
        assert_memory_equal(out + 1, cases[i].shown, strlen(cases[i].shown));
        assert_string_equal(out + 1 + strlen(cases[i].shown), "b");
        char tight[4 * 4 + 5]; /* four times as long, and 4 in reserve: nothing is cut */
        format_printable(cases[i].text, strlen(cases[i].text), tight, 4 * strlen(cases[i].text) + 5);
        assert_string_equal(tight, cases[i].shown);
    }
}

static void an_id_is_twelve_hex_digits_and_not_zero(void **state) {
    (void)state;
    uint64_t id;
    char text[ID_TEXT_BYTES];
    assert_true(parse_id("0000000000ff", &id));
    assert_int_equal(id, 255);
    assert_string_equal(format_id(id, text), "0000000000ff");
    assert_false(parse_id("000000000000", &id));
    assert_false(parse_id("00000000000g", &id));
    assert_false(parse_id("0000000000ff0", &id));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_binary_units_with_or_without_i),
        cmocka_unit_test(what_is_not_a_size_is_refused),
        cmocka_unit_test(a_terminal_never_sees_control_characters),
        cmocka_unit_test(a_name_cannot_turn_the_direction_of_writing),
        cmocka_unit_test(an_id_is_twelve_hex_digits_and_not_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
