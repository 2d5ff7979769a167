/* loader/backing: what blobs are made of follows what the system allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/blob.h"
#include "util/memory_limit.h"

static char root[64];

static int setup(void **state) {
    (void)state;
    char command[192];
    snprintf(root, sizeof(root), "/tmp/hearth-backing-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(command, sizeof(command), "mkdir -p %s/sys/kernel/mm/transparent_hugepage/hugepages-2048kB", root);
    return system(command);
}

static int teardown(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/sys/kernel/mm/transparent_hugepage/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static enum pages choice_of(const char *all, const char *own) {
    struct backing b;
    put("hpage_pmd_size", "2097152\n");
    put("shmem_enabled", all);
    put("hugepages-2048kB/shmem_enabled", own);
    backing_choose(root, BACKING_AUTO, &b);
    assert_int_equal(b.huge_page, b.pages == PAGES_SMALL ? 0 : 2097152);
    assert_string_not_equal(b.why, "");
    return b.pages;
}

static void the_switch_for_all_sizes_counts_where_its_own_inherits(void **state) {
    (void)state;
    static const char *const inherit = "always [inherit] within_size advise never\n";
    assert_int_equal(choice_of("always within_size [advise] never deny force\n", inherit), PAGES_HUGE);
    assert_int_equal(choice_of("[always] within_size advise never deny force\n", inherit), PAGES_HUGE);
    assert_int_equal(choice_of("always [within_size] advise never deny force\n", inherit), PAGES_HUGE);
    assert_int_equal(choice_of("always within_size advise [never] deny force\n", inherit), PAGES_COLLAPSE);
    assert_int_equal(choice_of("always within_size advise never [deny] force\n", inherit), PAGES_SMALL);
    assert_int_equal(choice_of("always within_size advise never deny [force]\n", inherit), PAGES_HUGE);
}

static void a_size_s_own_switch_beats_all_but_deny_and_force(void **state) {
    (void)state;
    static const char *const advise = "always inherit within_size [advise] never\n";
    static const char *const never = "always inherit within_size advise [never]\n";
    assert_int_equal(choice_of("always within_size advise [never] deny force\n", advise), PAGES_HUGE);
    assert_int_equal(choice_of("[always] within_size advise never deny force\n", never), PAGES_COLLAPSE);
    assert_int_equal(choice_of("always within_size advise never [deny] force\n", advise), PAGES_SMALL);
    assert_int_equal(choice_of("always within_size advise never deny [force]\n", never), PAGES_HUGE);
}

static void a_kernel_without_huge_pages_has_small_ones(void **state) {
    (void)state;
    struct backing b;
    backing_choose(root, BACKING_AUTO, &b);
    assert_int_equal(b.pages, PAGES_SMALL);
    put("hpage_pmd_size", "garbage\n");
    put("shmem_enabled", "[always] never\n");
    backing_choose(root, BACKING_AUTO, &b);
    assert_int_equal(b.pages, PAGES_SMALL);
}

static void what_was_asked_for_explicitly_is_taken(void **state) {
    (void)state;
    struct backing b;
    assert_int_equal(choice_of("[always] never\n", "[inherit]\n"), PAGES_HUGE);
    backing_choose(root, BACKING_SMALL, &b);
    assert_int_equal(b.pages, PAGES_SMALL);
    backing_choose(root, BACKING_HUGETLB, &b);
    assert_int_equal(b.pages, PAGES_HUGETLB);
    assert_int_equal(b.otherwise, PAGES_HUGE);
}

/* A pool without room, which every system can be: the blob is made of what there is. */
static void a_hugetlb_pool_without_room_is_fallen_back_from(void **state) {
    (void)state;
    struct backing b;
    struct blob_memory m;
    struct hearth_error err;
    backing_choose("", BACKING_HUGETLB, &b);
    uint64_t page;
    const uint64_t bytes = memory_pool_free("", &page) + (UINT64_C(1) << 30);
    assert_int_equal(blob_make(&b, "hearth", bytes, &m, &err), 0);
    assert_int_not_equal(m.pages, PAGES_HUGETLB);
    assert_int_equal(m.mapped, bytes);
    blob_memory_deinit(&m);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_switch_for_all_sizes_counts_where_its_own_inherits),
        T(a_size_s_own_switch_beats_all_but_deny_and_force),
        T(a_kernel_without_huge_pages_has_small_ones),
        T(what_was_asked_for_explicitly_is_taken),
        T(a_hugetlb_pool_without_room_is_fallen_back_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
