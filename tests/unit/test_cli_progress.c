/* cli/progress: the line that is redrawn while an artifact loads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/progress.h"

#define GIB (UINT64_C(1) << 30)
#define SECOND UINT64_C(1000000000)

static struct hearth_info loading(uint64_t done, uint64_t all) {
    struct hearth_info info = {.state = HEARTH_STATE_LOADING, .bytes = all, .bytes_done = done};
    strcpy(info.ref, "/models/llama");
    return info;
}

static void it_says_how_much_how_fast_and_how_long(void **state) {
    (void)state;
    struct progress p = {.rate = 1e9};
    struct hearth_info info = loading(GIB, 4 * GIB);
    char line[256];
    progress_format(&p, &info, 72, line, sizeof(line));
    assert_string_equal(line, "llama  [####............]  25%  1.0 GiB of 4.0 GiB  1.00 GB/s  0:03 left");
    assert_int_equal(strlen(line), 72);
}

static void before_the_first_rate_the_time_is_open(void **state) {
    (void)state;
    struct progress p = {0};
    struct hearth_info info = loading(0, GIB);
    char line[256];
    progress_format(&p, &info, 200, line, sizeof(line));
    assert_non_null(strstr(line, "-:-- left"));
}

static void it_never_is_wider_than_the_terminal(void **state) {
    (void)state;
    struct progress p = {.rate = 1};
    struct hearth_info infos[] = {loading(GIB, 4 * GIB), loading(4 * GIB, 4 * GIB), loading(0, 0)};
    memset(infos[1].ref, 'x', sizeof(infos[1].ref) - 1);
    for (size_t i = 0; i < 3; i++) {
        for (unsigned columns = 1; columns < 200; columns++) {
            char line[512];
            progress_format(&p, &infos[i], columns, line, sizeof(line));
            assert_true(strlen(line) <= columns);
        }
    }
}

static void what_is_read_still_has_to_be_verified(void **state) {
    (void)state;
    struct progress p = {.rate = 1e9};
    struct hearth_info info = loading(GIB, GIB);
    char line[256];
    progress_format(&p, &info, 79, line, sizeof(line));
    assert_non_null(strstr(line, "100%"));
    assert_non_null(strstr(line, "verifying"));
}

static void a_state_without_bytes_is_named(void **state) {
    (void)state;
    struct progress p = {0};
    struct hearth_info info = loading(0, 0);
    char line[256];
    info.state = HEARTH_STATE_QUEUED;
    assert_string_equal(progress_format(&p, &info, 79, line, sizeof(line)), "llama  queued");
}

static void a_name_cannot_move_the_cursor(void **state) {
    (void)state;
    struct progress p = {0};
    struct hearth_info info = loading(0, GIB);
    char line[256];
    strcpy(info.ref, "/m/a\x1b[2J");
    progress_format(&p, &info, 120, line, sizeof(line));
    assert_null(strchr(line, '\x1b'));
}

static void the_rate_follows_the_last_seconds(void **state) {
    (void)state;
    struct progress p = {0};
    progress_sample(&p, SECOND, 0);
    assert_true(p.rate == 0);
    progress_sample(&p, 2 * SECOND, 2000);
    assert_true(p.rate == 2000); /* the first interval stands alone */
    for (uint64_t i = 3; i < 30; i++)
        progress_sample(&p, i * SECOND, 2000 + (i - 2) * 100);
    assert_true(p.rate > 99 && p.rate < 101);
    double before = p.rate;
    progress_sample(&p, 30 * SECOND, 0); /* another load's figures: no negative rates */
    assert_true(p.rate == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_how_much_how_fast_and_how_long),
        cmocka_unit_test(before_the_first_rate_the_time_is_open),
        cmocka_unit_test(it_never_is_wider_than_the_terminal),
        cmocka_unit_test(what_is_read_still_has_to_be_verified),
        cmocka_unit_test(a_state_without_bytes_is_named),
        cmocka_unit_test(a_name_cannot_move_the_cursor),
        cmocka_unit_test(the_rate_follows_the_last_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
