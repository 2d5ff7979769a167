/* cli/doctor_*: what is found on recorded systems, and what mends it. */
#include "recorded_tree.h"

#include <unistd.h>

#include "cli/doctor.h"
#include "util/huge_pages.h"

static struct doctor d;

static int setup(void **state) {
    d = (struct doctor){.root = root};
    return tree_setup(state);
}

static int teardown(void **state) {
    doctor_deinit(&d);
    return tree_teardown(state);
}

/* The finding of this check; fails when there is not exactly one. */
static const struct finding *found(const char *check) {
    const struct finding *f = NULL;
    for (size_t i = 0; i < d.n_findings; i++)
        if (strcmp(d.findings[i].check, check) == 0) {
            assert_null(f);
            f = &d.findings[i];
        }
    assert_non_null(f);
    return f;
}

static void expect(const char *check, enum level level, const char *text, const char *mend) {
    const struct finding *f = found(check);
    assert_int_equal(f->level, level);
    if (!strstr(f->found, text))
        fail_msg("%s: '%s' does not say '%s'", check, f->found, text);
    if (!mend)
        assert_null(f->mend);
    else if (!f->mend || !strstr(f->mend, mend))
        fail_msg("%s: mended by '%s', not by '%s'", check, f->mend ? f->mend : "nothing", mend);
}

static const struct kernel_calls all_calls = {true, true, true, true, true};

static void a_kernel_with_every_call_is_ok(void **state) {
    (void)state;
    check_kernel(&d, "6.18.44-fc", &all_calls);
    for (size_t i = 0; i < d.n_findings; i++)
        assert_int_equal(d.findings[i].level, LEVEL_OK);
    expect("kernel", LEVEL_OK, "6.18.44-fc", NULL);
}

static void a_kernel_that_is_too_old_is_a_warning(void **state) {
    (void)state;
    check_kernel(&d, "5.15.0-91-generic", &all_calls);
    expect("kernel", LEVEL_WARNING, "5.15.0", "6.1");
}

static void a_release_that_is_no_version_is_taken_as_it_is(void **state) {
    (void)state;
    check_kernel(&d, "weird", &all_calls);
    expect("kernel", LEVEL_OK, "weird", NULL);
}

static void what_hearth_cannot_do_without_is_a_problem(void **state) {
    (void)state;
    check_kernel(&d, "6.1.0", &(struct kernel_calls){0});
    expect("memfd", LEVEL_PROBLEM, "refused", "memfd_create");
    expect("MADV_POPULATE_WRITE", LEVEL_PROBLEM, "refused", NULL);
    expect("MADV_COLLAPSE", LEVEL_NOTE, "not there", NULL);
    expect("cachestat", LEVEL_NOTE, "not there", NULL);
}

static void the_calls_of_this_kernel_are_found(void **state) {
    (void)state;
    struct kernel_calls calls;
    probe_calls(&calls);
    assert_true(calls.memfd);
    assert_true(calls.populate_write);
}

static void a_refused_io_uring_is_named_and_mended(void **state) {
    (void)state;
    check_uring(&d, EPERM);
    expect("io_uring", LEVEL_NOTE, "seccomp", "--security-opt seccomp=");
    doctor_deinit(&d);
    d.root = root;
    put("/proc/sys/kernel/io_uring_disabled", "2\n");
    check_uring(&d, EPERM);
    expect("io_uring", LEVEL_NOTE, "io_uring_disabled is 2", "sysctl kernel.io_uring_disabled=0");
    doctor_deinit(&d);
    d.root = root;
    check_uring(&d, ENOMEM);
    expect("io_uring", LEVEL_NOTE, "memory", NULL);
    doctor_deinit(&d);
    d.root = root;
    check_uring(&d, 0);
    expect("io_uring", LEVEL_OK, "can be used", NULL);
}

static void put_huge(const char *shmem, const char *enabled) {
    put(HUGE_PAGES_FOLDER "/hpage_pmd_size", "2097152\n");
    put(HUGE_PAGES_FOLDER "/shmem_enabled", shmem);
    put(HUGE_PAGES_FOLDER "/enabled", enabled);
}

static void huge_pages_that_are_given_are_ok(void **state) {
    (void)state;
    put_huge("always within_size [advise] never deny force\n", "always [madvise] never\n");
    check_huge_pages(&d);
    expect("huge pages", LEVEL_OK, "of 2.0 MiB", NULL);
    expect("hugetlb pool", LEVEL_OK, "none", NULL);
    assert_int_equal(d.n_findings, 2);
}

static void huge_pages_that_are_switched_off_have_the_command(void **state) {
    (void)state;
    put_huge("always within_size advise [never] deny force\n", "always madvise [never]\n");
    check_huge_pages(&d);
    expect("huge pages", LEVEL_NOTE, "MADV_COLLAPSE", "echo advise | sudo tee");
    expect("huge pages, private", LEVEL_NOTE, "never", "echo madvise | sudo tee");
}

static void denied_huge_pages_are_a_warning_with_what_was_measured(void **state) {
    (void)state;
    put_huge("always within_size advise never [deny] force\n", "always [madvise] never\n");
    d.rates.small = 1e9;
    d.rates.huge = 8e9;
    check_huge_pages(&d);
    expect("huge pages", LEVEL_WARNING, "deny", "echo advise");
    assert_non_null(strstr(found("huge pages")->cost, "1.0 GB/s on small pages, and at 8.0 GB/s"));
}

static void a_pool_of_huge_pages_is_told(void **state) {
    (void)state;
    put("/proc/meminfo", "HugePages_Total: 4\nHugePages_Free: 3\nHugepagesize: 2048 kB\n");
    check_huge_pages(&d);
    expect("hugetlb pool", LEVEL_OK, "6.0 MiB free, in pages of 2.0 MiB", NULL);
}

static void put_memory(const char *available_kb, const char *swap) {
    char text[256];
    snprintf(text, sizeof(text), "MemTotal: 16777216 kB\nMemAvailable: %s kB\n%s", available_kb, swap);
    put("/proc/meminfo", text);
}

static void put_group(const char *max, const char *swap_max) {
    put("/proc/self/cgroup", "0::/system.slice/hearthd.service\n");
    put("/proc/self/mountinfo", "24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/system.slice/memory.max", max);
    put("/sys/fs/cgroup/system.slice/memory.current", "1048576\n");
    put("/sys/fs/cgroup/system.slice/memory.stat", "inactive_file 0\n");
    put("/sys/fs/cgroup/system.slice/hearthd.service/memory.swap.max", swap_max);
}

static void every_limit_of_memory_is_told(void **state) {
    (void)state;
    put_memory("8388608", "");
    put_group("34603008\n", "max\n");
    check_memory_limits(&d);
    expect("memory", LEVEL_OK, "8.0 GiB of 16.0 GiB", NULL);
    expect("memory limit", LEVEL_PROBLEM, "/sys/fs/cgroup/system.slice/memory.max", "MemoryMax=");
}

static void no_limit_is_not_told(void **state) {
    (void)state;
    put_memory("524288", "");
    put_group("max\n", "max\n");
    check_memory_limits(&d);
    assert_int_equal(d.n_findings, 1);
    expect("memory", LEVEL_WARNING, "512.0 MiB", NULL);
}

static void a_limit_of_version_1_that_is_none_is_not_told(void **state) {
    (void)state;
    put_memory("8388608", "");
    put("/proc/self/cgroup", "4:memory:/\n");
    put("/proc/self/mountinfo", "34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
    check_memory_limits(&d);
    assert_int_equal(d.n_findings, 1);
}

static void without_swap_nothing_is_swapped(void **state) {
    (void)state;
    put_memory("8388608", "SwapTotal: 0 kB\nSwapFree: 0 kB\n");
    check_swap(&d, false);
    expect("swap", LEVEL_OK, "there is none", NULL);
}

static void a_group_that_forbids_swap_is_found(void **state) {
    (void)state;
    put_memory("8388608", "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n");
    put_group("max\n", "0\n");
    check_swap(&d, false);
    expect("swap", LEVEL_OK, "1.0 GiB of 2.0 GiB used; kept out", NULL);
}

static void swap_that_may_take_residents_is_a_warning(void **state) {
    (void)state;
    put_memory("8388608", "SwapTotal: 2097152 kB\nSwapFree: 2097152 kB\n");
    put_group("max\n", "max\n");
    check_swap(&d, false);
    expect("swap", LEVEL_WARNING, "may be swapped out", "MemorySwapMax=0");
    doctor_deinit(&d);
    d.root = root;
    check_swap(&d, true);
    expect("swap", LEVEL_OK, "may lock", NULL);
}

static void a_host_that_takes_memory_back_asks_for_a_reserve(void **state) {
    (void)state;
    check_page_reporting(&d);
    expect("free memory", LEVEL_OK, "would not pay", NULL);
    doctor_deinit(&d);
    d.root = root;
    put("/sys/bus/virtio/drivers/virtio_balloon/virtio0/features", "0110010100\n");
    check_page_reporting(&d);
    expect("free memory", LEVEL_NOTE, "takes it back", "reserve = SIZE");
    doctor_deinit(&d);
    d.root = root;
    d.rates.fresh = 0.3e9;
    d.rates.again = 6e9;
    check_page_reporting(&d);
    expect("free memory", LEVEL_WARNING, "takes it back", "reserve = SIZE");
    assert_non_null(strstr(found("free memory")->cost, "0.3 GB/s, and at 6.0 GB/s"));
    doctor_deinit(&d);
    d.root = root;
    d.reserve = UINT64_C(4) << 30;
    check_page_reporting(&d);
    expect("free memory", LEVEL_OK, "reserve is 4.0 GiB", NULL);
}

static void few_descriptors_are_a_warning_and_none_a_problem(void **state) {
    (void)state;
    check_descriptors(&d, 1024, 4096);
    expect("open files", LEVEL_WARNING, "at most 4096", "LimitNOFILE=");
    doctor_deinit(&d);
    check_descriptors(&d, 64, 64);
    expect("open files", LEVEL_PROBLEM, "at most 64", "LimitNOFILE=");
    doctor_deinit(&d);
    check_descriptors(&d, 1024, 524288);
    expect("open files", LEVEL_OK, "soft limit 1024", NULL);
    doctor_deinit(&d);
    check_descriptors(&d, UINT64_MAX, UINT64_MAX);
    expect("open files", LEVEL_OK, "no limit", NULL);
}

static void a_state_directory_is_one_that_can_be_written(void **state) {
    (void)state;
    setenv("XDG_STATE_HOME", root, 1);
    check_state_directory(&d);
    expect("state directory", LEVEL_OK, "which hearthd will make", NULL);
    doctor_deinit(&d);
    put("/hearth", "no directory");
    check_state_directory(&d);
    expect("state directory", LEVEL_WARNING, "cannot be written", "mkdir");
    doctor_deinit(&d);
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    check_state_directory(&d);
    expect("state directory", LEVEL_WARNING, "no $HOME", "XDG_STATE_HOME");
}

static void storage_is_asked_of_the_largest_file(void **state) {
    (void)state;
    char path[128];
    put("/model/config.json", "{}");
    put("/model/sub/weights", "larger than the other one");
    snprintf(path, sizeof(path), "%s/model", root);
    check_path(&d, path);
    assert_int_equal(found("storage")->level == LEVEL_PROBLEM, 0);
    assert_non_null(strstr(found("storage")->found, "/model/sub/weights: "));
    assert_true(found("storage")->direct == 0 && found("storage")->buffered == 0); /* too small to be measured */
}

static void storage_that_is_not_there_is_a_problem(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof(path), "%s/none", root);
    check_path(&d, path);
    expect("storage", LEVEL_PROBLEM, "No such file", "ls -ld");
    doctor_deinit(&d);
    check_path(&d, root); /* empty */
    expect("storage", LEVEL_NOTE, "no file in it", NULL);
}

static void reads_are_measured_up_to_what_was_asked(void **state) {
    (void)state;
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), 32 << 20), 0);
    uint64_t read = 0;
    assert_true(measure_reads(fileno(f), 0, 16 << 20, &read) > 0);
    assert_int_equal(read, 16 << 20);
    fclose(f);
    assert_true(measure_reads(-1, 0, 16 << 20, &read) == 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_kernel_with_every_call_is_ok),
        T(a_kernel_that_is_too_old_is_a_warning),
        T(a_release_that_is_no_version_is_taken_as_it_is),
        T(what_hearth_cannot_do_without_is_a_problem),
        T(the_calls_of_this_kernel_are_found),
        T(a_refused_io_uring_is_named_and_mended),
        T(huge_pages_that_are_given_are_ok),
        T(huge_pages_that_are_switched_off_have_the_command),
        T(denied_huge_pages_are_a_warning_with_what_was_measured),
        T(a_pool_of_huge_pages_is_told),
        T(every_limit_of_memory_is_told),
        T(no_limit_is_not_told),
        T(a_limit_of_version_1_that_is_none_is_not_told),
        T(without_swap_nothing_is_swapped),
        T(a_group_that_forbids_swap_is_found),
        T(swap_that_may_take_residents_is_a_warning),
        T(a_host_that_takes_memory_back_asks_for_a_reserve),
        T(few_descriptors_are_a_warning_and_none_a_problem),
        T(a_state_directory_is_one_that_can_be_written),
        T(storage_is_asked_of_the_largest_file),
        T(storage_that_is_not_there_is_a_problem),
        T(reads_are_measured_up_to_what_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
