/* daemon/metrics: histograms that add up, and their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/metrics.h"
#include "daemon/metrics_listen.h"
#include "util/error.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

static char *text_of(const struct metrics *m) {
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    assert_non_null(f);
    metrics_write(m, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void has_line(const char *text, const char *line) {
    char whole[256];
    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("no line '%s' in:\n%s", line, text);
}

static void buckets_are_cumulative_and_take_their_bounds_in(void **state) {
    (void)state;
    struct metrics m = {0};
    static const uint64_t took[] = {1 * US, 5 * US, 5 * US + 1, 20 * US, 200 * MS};
    for (size_t i = 0; i < sizeof(took) / sizeof(took[0]); i++)
        metrics_attach(&m, took[i]);
    char *text = text_of(&m);
    has_line(text, "hearth_attach_seconds_bucket{le=\"5e-06\"} 2");
    has_line(text, "hearth_attach_seconds_bucket{le=\"1e-05\"} 3");
    has_line(text, "hearth_attach_seconds_bucket{le=\"2.5e-05\"} 4");
    has_line(text, "hearth_attach_seconds_bucket{le=\"0.1\"} 4");
    has_line(text, "hearth_attach_seconds_bucket{le=\"+Inf\"} 5");
    has_line(text, "hearth_attach_seconds_count 5");
    has_line(text, "hearth_attach_seconds_sum 0.200031001");
    free(text);
}

static void a_load_counts_with_the_phases_that_occurred(void **state) {
    (void)state;
    struct metrics m = {0};
    struct resident r = {.from_disk = 3, .from_page_cache = 4};
    r.phases[HEARTH_PHASE_READ] = (struct hearth_span){2 * MS, 9 * MS};
    metrics_load(&m, &r, 10 * MS);
    char *text = text_of(&m);
    has_line(text, "hearth_load_seconds_count 1");
    has_line(text, "hearth_load_seconds_bucket{le=\"0.01\"} 1");
    has_line(text, "hearth_load_phase_seconds_sum{phase=\"read\"} 0.007000000");
    has_line(text, "hearth_load_phase_seconds_count{phase=\"parse\"} 0");
    has_line(text, "hearth_read_bytes_total{origin=\"disk\"} 3");
    has_line(text, "hearth_read_bytes_total{origin=\"page_cache\"} 4");
    free(text);
}

static void a_place_that_somebody_has_is_refused(void **state) {
    (void)state;
    char path[] = "/tmp/hearth-test-metrics-XXXXXX";
    struct hearth_error err = HEARTH_ERROR_INIT;
    int one = -1, two = -1;
    assert_non_null(mkdtemp(path));
    char socket[sizeof(path) + 8];
    snprintf(socket, sizeof(socket), "%s/s", path);
    assert_int_equal(metrics_listen(socket, &one, &err), 0);
    assert_int_not_equal(metrics_listen(socket, &two, &err), 0);
    assert_string_equal(err.file, socket);
    assert_true(err.hint[0]);
    close(one); /* it died and left its file */
    assert_int_equal(metrics_listen(socket, &two, &err), 0);
    close(two);
    metrics_unlisten(socket);
    FILE *f = fopen(socket, "w"); /* no socket: it may be worth something to somebody */
    assert_non_null(f);
    fclose(f);
    assert_int_not_equal(metrics_listen(socket, &two, &err), 0);
    assert_int_equal(unlink(socket), 0);
    assert_int_equal(rmdir(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_cumulative_and_take_their_bounds_in),
        cmocka_unit_test(a_load_counts_with_the_phases_that_occurred),
        cmocka_unit_test(a_place_that_somebody_has_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
