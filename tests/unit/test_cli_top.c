/* cli/top_frame: what one frame shows of two samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top.h"
#include "util/clock.h"

static struct hearth_info artifacts[3], before[3];
static char frame[8192];

static struct hearth_info info(uint64_t id, enum hearth_state state, const char *ref) {
    struct hearth_info i = {.id = id, .state = state, .bytes = 1000000000, .leases = 2};
    snprintf(i.ref, sizeof(i.ref), "%s", ref);
    return i;
}

static struct top_sample sample(uint64_t at_ns, struct hearth_info *all, size_t n) {
    struct top_sample s = {.at_ns = at_ns, .artifacts = all, .n_artifacts = n};
    s.status =
        (struct hearth_status){.pid = 7, .clients = 3, .leases = 1, .budget_bytes = 4096, .resident_bytes = 1024};
    strcpy(s.status.version, "1.2.3");
    strcpy(s.status.socket, "/run/x.sock");
    strcpy(s.status.swap, "off");
    return s;
}

static const char *draw(struct top_sample *now, const struct top_sample *former, unsigned columns, unsigned rows) {
    memset(frame, 0, sizeof(frame));
    FILE *f = fmemopen(frame, sizeof(frame), "w");
    assert_non_null(f);
    top_frame(now, former, columns, rows, f);
    fclose(f);
    return frame;
}

static void expect(const char *text) {
    if (!strstr(frame, text))
        fail_msg("'%s' is not in:\n%s", text, frame);
}

static void a_daemon_with_nothing_is_shown(void **state) {
    (void)state;
    struct top_sample s = sample(NS_PER_S, NULL, 0);
    draw(&s, NULL, UINT_MAX, UINT_MAX);
    expect("hearthd 1.2.3");
    expect("pid 7");
    expect("[#######.......................] 1.0 KiB of 4.0 KiB");
    expect("3, with 1 lease\n");
    expect("No artifacts.");
    assert_null(strstr(frame, "reserve"));
    assert_null(strstr(frame, "swap"));
}

static void a_reserve_and_swap_that_may_take_residents_are_shown(void **state) {
    (void)state;
    struct top_sample s = sample(NS_PER_S, NULL, 0);
    s.status.reserve_bytes = 2048;
    s.status.reserve_held_bytes = 1024;
    strcpy(s.status.swap, "can be swapped out");
    draw(&s, NULL, UINT_MAX, UINT_MAX);
    expect("[###############...............] 1.0 KiB of 2.0 KiB held");
    expect("can be swapped out");
}

static void what_loads_comes_first_with_its_rate_since_the_last_frame(void **state) {
    (void)state;
    before[0] = info(1, HEARTH_STATE_LOADING, "/z");
    artifacts[0] = info(2, HEARTH_STATE_RESIDENT, "/a");
    artifacts[1] = info(1, HEARTH_STATE_LOADING, "/z");
    before[0].bytes_done = 250000000;
    artifacts[1].bytes_done = 500000000;
    artifacts[1].seconds_ns = 100 * NS_PER_S;
    struct top_sample former = sample(NS_PER_S, before, 1), now = sample(NS_PER_S + NS_PER_S / 2, artifacts, 2);
    draw(&now, &former, UINT_MAX, UINT_MAX);
    expect("1, at 0.50 GB/s");
    expect(" 50%  0.50 ");
    assert_true(strstr(frame, "/z") < strstr(frame, "/a"));
}

static void without_a_former_frame_the_rate_is_the_mean(void **state) {
    (void)state;
    artifacts[0] = info(1, HEARTH_STATE_LOADING, "/z");
    artifacts[0].bytes_done = 600000000;
    artifacts[0].seconds_ns = NS_PER_S / 2;
    struct top_sample now = sample(NS_PER_S, artifacts, 1);
    draw(&now, NULL, UINT_MAX, UINT_MAX);
    expect("1, at 1.20 GB/s");
}

static void an_artifact_of_no_bytes_has_no_share_of_them(void **state) {
    (void)state;
    artifacts[0] = info(1, HEARTH_STATE_LOADING, "/z");
    artifacts[0].bytes = 0;
    struct top_sample now = sample(NS_PER_S, artifacts, 1);
    draw(&now, NULL, UINT_MAX, UINT_MAX);
    expect("loading");
    assert_null(strchr(strstr(frame, "loading"), '%'));
}

static void a_frame_is_no_larger_than_the_window(void **state) {
    (void)state;
    artifacts[0] = info(1, HEARTH_STATE_RESIDENT, "/\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4");
    artifacts[1] = info(2, HEARTH_STATE_FAILED, "/b\x1b[2J");
    struct top_sample now = sample(NS_PER_S, artifacts, 2);
    for (unsigned columns = 1; columns < 120; columns++)
        for (unsigned rows = 1; rows < 12; rows++) {
            unsigned lines = 0, width = 0;
            draw(&now, NULL, columns, rows);
            assert_null(strchr(frame, '\x1b')); /* whatever a name says */
            for (const char *p = frame; *p; p++) {
                width += *p != '\n' && ((unsigned char)*p & 0xc0) != 0x80;
                assert_true(width <= columns);
                lines += *p == '\n';
                width = *p == '\n' ? 0 : width;
            }
            assert_true(lines <= rows);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_daemon_with_nothing_is_shown),
        cmocka_unit_test(a_reserve_and_swap_that_may_take_residents_are_shown),
        cmocka_unit_test(what_loads_comes_first_with_its_rate_since_the_last_frame),
        cmocka_unit_test(without_a_former_frame_the_rate_is_the_mean),
        cmocka_unit_test(an_artifact_of_no_bytes_has_no_share_of_them),
        cmocka_unit_test(a_frame_is_no_larger_than_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
