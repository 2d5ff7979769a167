/* cli/table: columns that line up, whatever is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cli/table.h"

static void check(const struct table *t, unsigned indent, const char *expected) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    table_print(t, indent, out);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void columns_line_up_on_either_side(void **state) {
    (void)state;
    _cleanup_table_ struct table *t = table_new("lrl");
    const char *const cells[] = {"NAME", "SIZE", "REF", "a", "1", "/x", "longer", "12345", "/y"};
    for (size_t i = 0; i < 9; i++)
        table_cell(t, "%s", cells[i]);
    check(t, 2, "  NAME     SIZE  REF\n  a           1  /x\n  longer  12345  /y\n");
}

static void lines_end_without_blanks_and_empty_cells_keep_their_place(void **state) {
    (void)state;
    _cleanup_table_ struct table *t = table_new("llr");
    const char *const cells[] = {"a", "", "1", "bb", "cc", "", "", "", "22"};
    for (size_t i = 0; i < 9; i++)
        table_cell(t, "%s", cells[i]);
    check(t, 0, "a        1\nbb  cc\n        22\n");
}

static void characters_count_and_not_bytes(void **state) {
    (void)state;
    _cleanup_table_ struct table *t = table_new("ll");
    const char *const cells[] = {"\u00e9t\u00e9", "x", "four", "y"};
    for (size_t i = 0; i < 4; i++)
        table_cell(t, "%s", cells[i]);
    check(t, 0, "\u00e9t\u00e9   x\nfour  y\n");
}

static void a_cell_cannot_move_the_cursor(void **state) {
    (void)state;
    _cleanup_table_ struct table *t = table_new("ll");
    table_cell_n(t, "a\x1b[2J\n\xff", 7);
    table_cell(t, "%s", "b");
    check(t, 0, "a\\x1b[2J\\x0a\\xff  b\n");
}

static void no_name_is_cut(void **state) {
    (void)state;
    char name[5001], expected[5003];
    for (size_t i = 0; i < 5000; i++)
        name[i] = expected[i] = 'n';
    name[5000] = '\0';
    expected[5000] = '\n';
    expected[5001] = '\0';
    _cleanup_table_ struct table *t = table_new("l");
    table_cell(t, "%s", name);
    check(t, 0, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_line_up_on_either_side),
        cmocka_unit_test(lines_end_without_blanks_and_empty_cells_keep_their_place),
        cmocka_unit_test(characters_count_and_not_bytes),
        cmocka_unit_test(a_cell_cannot_move_the_cursor),
        cmocka_unit_test(no_name_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
