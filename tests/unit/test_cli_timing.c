/* cli/timing: what is said to hold a load back, from phases made for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/timing.h"
#include "util/cleanup.h"

#define MS UINT64_C(1000000)
#define BYTES (UINT64_C(1) << 30)

/* A load of 1 GiB from a disk that gives that in a second. */
static const struct disk_rate disk = {BYTES, 1000 * MS};

static struct hearth_info load_of(uint64_t ms) {
    struct hearth_info i = {.bytes = BYTES, .from_disk = BYTES, .seconds_ns = ms * MS};
    i.phases[HEARTH_PHASE_OPEN] = (struct hearth_span){0, 2 * MS};
    i.phases[HEARTH_PHASE_READ] = (struct hearth_span){2 * MS, 1002 * MS};
    i.phases[HEARTH_PHASE_POPULATE] = (struct hearth_span){2 * MS, 300 * MS};
    i.phases[HEARTH_PHASE_HASH] = (struct hearth_span){10 * MS, 1003 * MS};
    i.phases[HEARTH_PHASE_PARSE] = (struct hearth_span){3 * MS, 30 * MS};
    i.phases[HEARTH_PHASE_SEAL] = (struct hearth_span){1003 * MS, ms * MS};
    return i;
}

static enum holdup holdup_of(const struct hearth_info *i) {
    struct verdict v;
    timing_judge(i, &disk, &v);
    assert_true(v.sentence[0] && v.sentence[strlen(v.sentence) - 1] == '.');
    return v.holdup;
}

static void a_load_at_the_disks_limit_is_held_back_by_the_disk(void **state) {
    (void)state;
    struct hearth_info i = load_of(1010);
    struct verdict v;
    timing_judge(&i, &disk, &v);
    assert_int_equal(v.holdup, HOLDUP_DISK);
    assert_non_null(strstr(v.sentence, "99 %"));
    i.seconds_ns = 400 * MS; /* from a hypervisor's cache, say */
    timing_judge(&i, &disk, &v);
    assert_int_equal(v.holdup, HOLDUP_DISK);
    assert_non_null(strstr(v.sentence, "faster"));
}

static void what_takes_most_beyond_the_disks_time_is_named(void **state) {
    (void)state;
    struct hearth_info i = load_of(3000);
    assert_int_equal(holdup_of(&i), HOLDUP_SEALING);
    i.phases[HEARTH_PHASE_HASH].end_ns = 2900 * MS;
    assert_int_equal(holdup_of(&i), HOLDUP_HASHING);
    i.phases[HEARTH_PHASE_HASH].end_ns = 1003 * MS;
    i.phases[HEARTH_PHASE_PARSE].end_ns = 2900 * MS;
    assert_int_equal(holdup_of(&i), HOLDUP_PARSING);
    i.phases[HEARTH_PHASE_PARSE].end_ns = 30 * MS;
    i.phases[HEARTH_PHASE_READ].end_ns = 2900 * MS;
    assert_int_equal(holdup_of(&i), HOLDUP_READING);
    i.phases[HEARTH_PHASE_POPULATE].end_ns = 2850 * MS; /* as long as the reads */
    assert_int_equal(holdup_of(&i), HOLDUP_MEMORY);
    i.phases[HEARTH_PHASE_READ] = (struct hearth_span){1900 * MS, 2950 * MS};
    assert_int_equal(holdup_of(&i), HOLDUP_OPENING);
}

static void without_a_disk_there_is_no_limit_to_hold_it_against(void **state) {
    (void)state;
    struct hearth_info i = load_of(1010);
    struct verdict v;
    timing_judge(&i, &(struct disk_rate){0, 0}, &v);
    assert_int_equal(v.holdup, HOLDUP_UNKNOWN);
    i.from_disk = 0;
    i.from_page_cache = BYTES;
    assert_int_equal(holdup_of(&i), HOLDUP_CACHE);
    i.from_page_cache = 0;
    assert_int_equal(holdup_of(&i), HOLDUP_NOTHING);
}

static void the_chart_has_a_bar_for_each_phase_that_occurred(void **state) {
    (void)state;
    struct hearth_info i = load_of(1010);
    _cleanup_free_ char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    timing_chart(&i, 10, out);
    i.seconds_ns = 0; /* nothing to scale by */
    timing_chart(&i, 10, out);
    fclose(out);
    assert_non_null(strstr(text, "  read         1.00 s  |==========|\n"));
    assert_null(strstr(text, "resolve"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_int_equal(strlen(line), 2 + 10 + 1 + 8 + 2 + 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_at_the_disks_limit_is_held_back_by_the_disk),
        cmocka_unit_test(what_takes_most_beyond_the_disks_time_is_named),
        cmocka_unit_test(without_a_disk_there_is_no_limit_to_hold_it_against),
        cmocka_unit_test(the_chart_has_a_bar_for_each_phase_that_occurred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
