/* util/memory_limit: the tightest of all limits that apply is found, on recorded trees of /proc and /sys. */
#include "recorded_tree.h"

#include <sys/resource.h>

#include "util/error.h"
#include "util/memory_limit.h"

#define MIB (UINT64_C(1) << 20)
#define UNLIMITED "9223372036854771712\n" /* v1's way to say so */

static void put_machine(const char *available_kb) {
    char text[128];
    snprintf(text, sizeof(text), "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:   %s kB\n", available_kb);
    put("/proc/meminfo", text);
}

static void expect(uint64_t available, const char *source) {
    struct memory_limit m;
    struct hearth_error err = HEARTH_ERROR_INIT;
    char full[256];
    assert_int_equal(memory_limit_read(root, &m, &err), 0);
    snprintf(full, sizeof(full), "%s%s", root, source);
    assert_string_equal(m.source, full);
    assert_int_equal(m.available, available);
}

static void put_v1(const char *group_below) {
    char text[256];
    put_machine("8388608");
    snprintf(text, sizeof(text), "5:cpu,cpuacct:/elsewhere\n4:memory:%s\n1:name=systemd:/\n", group_below);
    put("/proc/self/cgroup", text);
    put("/proc/self/mountinfo", "20 1 0:1 / / rw - ext4 /dev/vda rw\n"
                                "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                                "34 30 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED);
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "cache 5\ntotal_inactive_file 0\n");
}

static void without_control_groups_the_machine_counts(void **state) {
    (void)state;
    put_machine("2048");
    expect(2 * MIB, "/proc/meminfo");
}

static void a_v1_group_limits_and_its_inactive_cache_does_not_count(void **state) {
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "104857600\n");
    put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "62914560\n");
    put("/sys/fs/cgroup/memory/job/memory.stat", "inactive_file 7\ntotal_inactive_file 20971520\n");
    expect(60 * MIB, "/sys/fs/cgroup/memory/job/memory.limit_in_bytes");
}

static void an_ancestor_that_is_tighter_counts(void **state) {
    (void)state;
    put_v1("/slice/job");
    put("/sys/fs/cgroup/memory/slice/job/memory.limit_in_bytes", "1048576000\n");
    put("/sys/fs/cgroup/memory/slice/job/memory.usage_in_bytes", "0\n");
    put("/sys/fs/cgroup/memory/slice/memory.limit_in_bytes", "20971520\n");
    put("/sys/fs/cgroup/memory/slice/memory.usage_in_bytes", "10485760\n");
    put("/sys/fs/cgroup/memory/slice/memory.stat", "total_inactive_file 0\n");
    expect(10 * MIB, "/sys/fs/cgroup/memory/slice/memory.limit_in_bytes");
}

static void memory_and_swap_together_limit_in_v1(void **state) {
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "104857600\n");
    put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "10485760\n");
    put("/sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", "104857600\n");
    put("/sys/fs/cgroup/memory/job/memory.memsw.usage_in_bytes", "94371840\n"); /* of which most is swapped out */
    put("/sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 0\n");
    expect(10 * MIB, "/sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes");
}

static void put_v2(const char *group, const char *mount_root) {
    char text[256];
    put_machine("8388608");
    snprintf(text, sizeof(text), "0::%s\n", group);
    put("/proc/self/cgroup", text);
    snprintf(text, sizeof(text), "34 30 0:30 %s /sys/fs/my\\040cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
             mount_root);
    put("/proc/self/mountinfo", text);
}

static void a_v2_group_and_its_ancestors_limit(void **state) {
    (void)state;
    put_v2("/user.slice/app.scope", "/");
    put("/sys/fs/my cgroup/user.slice/app.scope/memory.max", "max\n");
    put("/sys/fs/my cgroup/user.slice/app.scope/memory.current", "4096\n");
    put("/sys/fs/my cgroup/user.slice/memory.max", "31457280\n");
    put("/sys/fs/my cgroup/user.slice/memory.current", "10485760\n");
    put("/sys/fs/my cgroup/user.slice/memory.stat", "anon 1\nworkingset_inactive_file 9\ninactive_file 5242880\n");
    expect(25 * MIB, "/sys/fs/my cgroup/user.slice/memory.max");
}

static void where_v2_slows_down_is_a_limit_and_swap_is_no_room(void **state) {
    (void)state;
    put_v2("/job", "/");
    put("/sys/fs/my cgroup/job/memory.max", "104857600\n");
    put("/sys/fs/my cgroup/job/memory.high", "52428800\n");
    put("/sys/fs/my cgroup/job/memory.current", "20971520\n");
    put("/sys/fs/my cgroup/job/memory.swap.max", "max\n");
    put("/sys/fs/my cgroup/job/memory.swap.current", "20971520\n");
    expect(30 * MIB, "/sys/fs/my cgroup/job/memory.high");
    put("/sys/fs/my cgroup/job/memory.high", "max\n");
    expect(80 * MIB, "/sys/fs/my cgroup/job/memory.max");
}

/* A container's mount shows its own group as the root. */
static void a_mount_that_shows_a_part_of_the_tree_is_understood(void **state) {
    (void)state;
    put_v2("/docker/abc/job", "/docker/abc");
    put("/sys/fs/my cgroup/job/memory.max", "max\n");
    put("/sys/fs/my cgroup/memory.max", "10485760\n");
    put("/sys/fs/my cgroup/memory.current", "0\n");
    put("/sys/fs/my cgroup/memory.stat", "inactive_file 0\n");
    expect(10 * MIB, "/sys/fs/my cgroup/memory.max");
    put("/proc/self/cgroup", "0::/../other\n"); /* outside of what can be seen */
    expect(10 * MIB, "/sys/fs/my cgroup/memory.max");
}

static void a_group_that_is_over_its_limit_has_nothing_left(void **state) {
    (void)state;
    put_v2("/", "/");
    put("/sys/fs/my cgroup/memory.max", "4096\n");
    put("/sys/fs/my cgroup/memory.current", "8192\n");
    expect(0, "/sys/fs/my cgroup/memory.max");
}

static void what_does_not_fit_is_told_with_figures(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    put_machine("2048");
    assert_int_equal(memory_limit_check(root, 2 * MIB, 0, &err), 0);
    assert_int_equal(memory_limit_check(root, 2 * MIB + 1, 0, &err), HEARTH_E_TOO_LARGE);
    assert_string_equal(err.found, "2097153 bytes");
    assert_int_equal(strncmp(err.expected, "at most 2097152 bytes", 21), 0);
    assert_non_null(strstr(err.message, "/proc/meminfo"));
    /* What is to stay free is not there for more. */
    assert_int_equal(memory_limit_check(root, MIB, MIB, &err), 0);
    assert_int_equal(memory_limit_check(root, MIB + 1, MIB, &err), HEARTH_E_TOO_LARGE);
    assert_int_equal(strncmp(err.expected, "at most 1048576 bytes", 21), 0);
    assert_int_equal(memory_limit_check(root, 0, 3 * MIB, &err), 0);
    assert_int_equal(memory_limit_check(root, 1, 3 * MIB, &err), HEARTH_E_TOO_LARGE);
    assert_int_equal(strncmp(err.expected, "at most 0 bytes", 15), 0);
}

static void a_pool_of_huge_pages_is_counted_apart(void **state) {
    (void)state;
    uint64_t page;
    put("/proc/meminfo", "MemTotal: 9 kB\nHugePages_Total:    12\nHugePages_Free:     10\nHugePages_Rsvd:      3\n"
                         "Hugepagesize:       2048 kB\n");
    assert_int_equal(memory_pool_free(root, &page), 20 * MIB);
    assert_int_equal(page, 2 * MIB);
    put("/proc/meminfo", "HugePages_Total:     0\nHugePages_Free:      0\nHugepagesize:       2048 kB\n");
    assert_int_equal(memory_pool_free(root, &page), 0);
    assert_int_equal(page, 0);
}

static void swap_is_kept_out_by_any_group_above(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/system.slice/hearthd.service\n");
    put("/proc/self/mountinfo", "24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/system.slice/hearthd.service/memory.swap.max", "max\n");
    put("/proc/meminfo", "MemTotal: 8 kB\nSwapTotal: 0 kB\n");
    assert_false(memory_swap_is_on(root));
    put("/proc/meminfo", "MemTotal: 8 kB\nSwapTotal: 4 kB\n");
    assert_true(memory_swap_is_on(root));
    assert_false(memory_swap_is_forbidden(root));
    put("/sys/fs/cgroup/system.slice/memory.swap.max", "0\n");
    assert_true(memory_swap_is_forbidden(root));
}

static void swap_is_possible_where_groups_cannot_forbid_it(void **state) {
    (void)state;
    put_v1("/a");
    put("/sys/fs/cgroup/memory/a/memory.swappiness", "0\n");
    assert_false(memory_swap_is_forbidden(root));
}

static void a_file_of_the_own_group_is_found(void **state) {
    (void)state;
    char path[256], expected[256];
    put_v1("/a");
    assert_false(memory_group_file(root, "memory.pressure", path, sizeof(path)));
    put("/proc/self/cgroup", "4:memory:/x\n0::/a/b\n");
    put("/proc/self/mountinfo", "34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                "24 23 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    assert_true(memory_group_file(root, "memory.pressure", path, sizeof(path)));
    snprintf(expected, sizeof(expected), "%s/sys/fs/cgroup/unified/a/b/memory.pressure", root);
    assert_string_equal(path, expected);
    assert_false(memory_group_file(root, "memory.pressure", path, 20));
}

static void count_limit(void *user, const struct memory_limit *m) {
    unsigned *counts = user;
    counts[m->of_machine]++;
}

static void each_limit_is_told_once(void **state) {
    (void)state;
    unsigned counts[2] = {0};
    struct hearth_error err = HEARTH_ERROR_INIT;
    put_v1("/a/b");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", UNLIMITED);
    put("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1\n");
    assert_int_equal(memory_limit_each(root, count_limit, counts, &err), 0);
    assert_int_equal(counts[true], 1);
    assert_int_equal(counts[false], 2);
}

static void no_figures_at_all_is_an_error(void **state) {
    (void)state;
    struct memory_limit m;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(memory_limit_read(root, &m, &err), HEARTH_E_SYSTEM);
}

static void running_out_of_descriptors_is_not_running_out_of_memory(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = memory_limit_check("", 4096, 0, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r, HEARTH_E_NO_FDS);
    assert_int_equal(err.code, HEARTH_E_NO_FDS);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)
    const struct CMUnitTest tests[] = {
        T(without_control_groups_the_machine_counts),
        T(a_v1_group_limits_and_its_inactive_cache_does_not_count),
        T(an_ancestor_that_is_tighter_counts),
        T(memory_and_swap_together_limit_in_v1),
        T(a_v2_group_and_its_ancestors_limit),
        T(where_v2_slows_down_is_a_limit_and_swap_is_no_room),
        T(a_mount_that_shows_a_part_of_the_tree_is_understood),
        T(a_group_that_is_over_its_limit_has_nothing_left),
        T(what_does_not_fit_is_told_with_figures),
        T(a_pool_of_huge_pages_is_counted_apart),
        T(swap_is_kept_out_by_any_group_above),
        T(swap_is_possible_where_groups_cannot_forbid_it),
        T(a_file_of_the_own_group_is_found),
        T(each_limit_is_told_once),
        T(no_figures_at_all_is_an_error),
        T(running_out_of_descriptors_is_not_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
