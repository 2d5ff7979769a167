/* loader: on a file system without direct reads, all goes through the page cache, and what is said to have come from
 * the disk did. */
#include "loader_fixture.h"

/* Instead of the C library's: no file system has direct reads here. */
int statx(int fd, const char *path, int flags, unsigned mask, struct statx *out) {
    (void)fd, (void)path, (void)flags;
    *out = (struct statx){.stx_mask = mask};
    return 0;
}

#define LARGE (UINT64_C(64) << 20)

static void readahead_of_our_own_reads_does_not_count_as_cached(void **state) {
    (void)state;
    char path[256];
    put_file("large.bin", LARGE, 1);
    test_path("large.bin", path, sizeof(path));
    struct engine *e = engine(BACKING_AUTO);
    for (unsigned warm = 0; warm < 2; warm++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        uint64_t cached = cached_bytes(fd, 0, LARGE);
        close(fd);
        struct resident *r;
        struct hearth_error err = HEARTH_ERROR_INIT;
        if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err))
            fail_msg("%s (%s)", err.message, err.file);
        assert_false(r->direct_io);
        assert_non_null(strstr(r->not_direct, " has no direct reads"));
        assert_int_equal(r->from_page_cache, cached);
        assert_int_equal(r->from_disk, LARGE - cached);
        resident_free(r);
    }
    engine_free(e);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {T(readahead_of_our_own_reads_does_not_count_as_cached)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
