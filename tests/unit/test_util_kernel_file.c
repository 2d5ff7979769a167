/* util/kernel_file, util/huge_pages, util/page_reporting, util/uring_refusal: the kernel's own words, as recorded. */
#include "recorded_tree.h"

#include "util/huge_pages.h"
#include "util/kernel_file.h"
#include "util/page_reporting.h"
#include "util/uring_refusal.h"

static const char *at(const char *path) {
    static char full[512];
    snprintf(full, sizeof(full), "%s%s", root, path);
    return full;
}

static void a_number_is_read_and_a_word_is_none(void **state) {
    (void)state;
    uint64_t n = 7;
    put("/n", "18446744073709551615\n");
    assert_true(kernel_number(at("/n"), &n));
    assert_int_equal(n, UINT64_MAX);
    put("/max", "max\n");
    assert_false(kernel_number(at("/max"), &n));
    assert_false(kernel_number(at("/none"), &n));
}

static void a_key_is_not_another_one_that_begins_like_it(void **state) {
    (void)state;
    put("/meminfo", "SwapTotalX:   1 kB\nSwapTotal:    42 kB\nSwapFree 7\n");
    assert_int_equal(kernel_keyed(at("/meminfo"), "SwapTotal"), 42);
    assert_int_equal(kernel_keyed(at("/meminfo"), "SwapFree"), 7);
    assert_int_equal(kernel_keyed(at("/meminfo"), "Swap"), 0);
    assert_int_equal(kernel_keyed(at("/none"), "Swap"), 0);
    static const char *const keys[] = {"SwapFree", "Swap", "SwapTotal"};
    uint64_t values[3] = {1, 2, 3};
    assert_true(kernel_keys(at("/meminfo"), keys, values, 3));
    assert_true(values[0] == 7 && values[1] == 2 && values[2] == 42);
    assert_false(kernel_keys(at("/none"), keys, values, 3));
}

static void a_word_is_the_one_in_brackets(void **state) {
    (void)state;
    char word[8];
    put("/w", "always [never] advise\n");
    assert_true(kernel_word(at("/w"), word, sizeof(word)));
    assert_string_equal(word, "never");
    put("/w", "always never\n");
    assert_false(kernel_word(at("/w"), word, sizeof(word)));
    put("/w", "[far too long]\n");
    assert_false(kernel_word(at("/w"), word, sizeof(word)));
}

static void a_line_that_does_not_fit_is_none(void **state) {
    (void)state;
    char line[6];
    put("/l", "12345\nrest\n");
    assert_false(kernel_line(at("/l"), line, sizeof(line)));
    put("/l", "1234\nrest\n");
    assert_true(kernel_line(at("/l"), line, sizeof(line)));
    assert_string_equal(line, "1234");
    put("/l", "12");
    assert_true(kernel_line(at("/l"), line, sizeof(line)));
    assert_string_equal(line, "12");
}

static void huge_pages_are_what_the_deciding_switch_says(void **state) {
    (void)state;
    struct huge_pages h;
    huge_pages_read(root, 4096, &h);
    assert_int_equal(h.shmem, SHMEM_HUGE_NONE);
    put(HUGE_PAGES_FOLDER "/hpage_pmd_size", "2097152\n");
    put(HUGE_PAGES_FOLDER "/shmem_enabled", "always within_size advise [never] deny force\n");
    huge_pages_read(root, 4096, &h);
    assert_int_equal(h.shmem, SHMEM_HUGE_COLLAPSE);
    assert_int_equal(h.bytes, 2097152);
    put(HUGE_PAGES_FOLDER "/hugepages-2048kB/shmem_enabled", "always inherit within_size [advise] never\n");
    huge_pages_read(root, 4096, &h);
    assert_int_equal(h.shmem, SHMEM_HUGE_GIVEN);
    assert_string_equal(h.word, "advise");
    put(HUGE_PAGES_FOLDER "/shmem_enabled", "always within_size advise never [deny] force\n");
    huge_pages_read(root, 4096, &h);
    assert_int_equal(h.shmem, SHMEM_HUGE_DENIED);
    huge_pages_read(root, 2097152, &h); /* a kernel whose small pages are as large */
    assert_int_equal(h.shmem, SHMEM_HUGE_NONE);
}

static void page_reporting_is_told_by_the_balloon(void **state) {
    (void)state;
    assert_false(page_reporting(root));
    put("/sys/bus/virtio/drivers/virtio_balloon/bind", "");
    assert_false(page_reporting(root));
    put("/sys/bus/virtio/drivers/virtio_balloon/virtio3/features", "0110000100000000\n");
    assert_false(page_reporting(root));
    put("/sys/bus/virtio/drivers/virtio_balloon/virtio0/features", "0110010100000000\n");
    assert_true(page_reporting(root));
}

static void what_refuses_io_uring_is_named(void **state) {
    (void)state;
    char why[256];
    assert_null(uring_refusal(root, ENOMEM, why, sizeof(why)));
    assert_null(uring_refusal(root, EMFILE, why, sizeof(why)));
    assert_non_null(strstr(uring_refusal(root, EPERM, why, sizeof(why)), "seccomp"));
    assert_non_null(strstr(uring_refusal(root, ENOSYS, why, sizeof(why)), "has no io_uring"));
    put("/proc/sys/kernel/io_uring_disabled", "2\n");
    assert_non_null(strstr(uring_refusal(root, EPERM, why, sizeof(why)), "kernel.io_uring_disabled is 2"));
    put("/proc/sys/kernel/io_uring_disabled", "1\n");
    assert_non_null(strstr(uring_refusal(root, EPERM, why, sizeof(why)), "io_uring_group"));
    put("/proc/sys/kernel/io_uring_disabled", "0\n");
    assert_non_null(strstr(uring_refusal(root, EPERM, why, sizeof(why)), "seccomp"));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)
    const struct CMUnitTest tests[] = {
        T(a_number_is_read_and_a_word_is_none),
        T(a_key_is_not_another_one_that_begins_like_it),
        T(a_word_is_the_one_in_brackets),
        T(a_line_that_does_not_fit_is_none),
        T(huge_pages_are_what_the_deciding_switch_says),
        T(page_reporting_is_told_by_the_balloon),
        T(what_refuses_io_uring_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
