/* loader/page_cache: what the page cache holds comes from there, the rest from storage, and each is said to. */
#include "loader_fixture.h"
#include "without_syscall.h"

#include <sys/statfs.h>
#include <sys/uio.h>

#define MIB (UINT64_C(1) << 20)
#define LARGE (9 * MIB + 4321)

/* Instead of the C library's: some of what was cached has left the page cache by the time it is copied. */
enum leaves { NEVER, SOME, HALF_WAY, UNSUPPORTED };
static enum leaves leaves;
static atomic_uint copies;

ssize_t preadv2(int fd, const struct iovec *to, int n, off_t offset, int flags) {
    unsigned k = atomic_fetch_add(&copies, 1);
    if (leaves == UNSUPPORTED || (leaves == SOME && k % 3 == 0) || (leaves == HALF_WAY && offset % (off_t)MIB != 0)) {
        errno = leaves == UNSUPPORTED ? EOPNOTSUPP : EAGAIN;
        return -1;
    }
    size_t length = leaves == HALF_WAY ? to->iov_len / 3 : to->iov_len;
    (void)n;
    assert_int_equal(flags, RWF_NOWAIT);
    return pread(fd, to->iov_base, length, offset);
}

static struct hearth_error err;

/* Reads every `step` MiB of the file into the page cache, up to `end`; returns how much that is. */
static uint64_t cache(const char *name, uint64_t step, uint64_t end) {
    static char buffer[MIB];
    char path[256];
    test_path(name, path, sizeof(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0); /* no more than that */
    uint64_t held = 0;
    for (uint64_t at = 0; at < end; at += step * MIB) {
        ssize_t n = pread(fd, buffer, MIB, (off_t)at);
        assert_true(n > 0);
        held += (uint64_t)n;
    }
    close(fd);
    return held;
}

static void forget(const char *name) {
    char path[256];
    test_path(name, path, sizeof(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    assert_int_equal(cached_bytes(fd, 0, LARGE), 0);
    close(fd);
}

static struct resident *load(struct engine *e, enum hearth_verify verify) {
    struct resident *r;
    atomic_store(&copies, 0);
    if (load_once(e, resolve(NULL, 0, 0), verify, &r, &err))
        fail_msg("%s (%s)", err.message, err.file);
    uint8_t *expected = malloc(LARGE), *found = malloc(LARGE);
    fill(expected, LARGE, 1);
    assert_int_equal(pread(r->blobs[0].fd, found, LARGE, 0), LARGE);
    assert_memory_equal(found, expected, LARGE);
    for (uint32_t c = 0; c < r->blobs[0].n_chunks; c++) {
        struct blob one = {.chunks = calloc(1, sizeof(*one.chunks))};
        uint64_t at = c * CHUNK_BYTES;
        hash_chunk(&one, 0, expected + at, LARGE - at < CHUNK_BYTES ? LARGE - at : CHUNK_BYTES);
        assert_memory_equal(&r->blobs[0].chunks[c], &one.chunks[0], sizeof(*one.chunks));
        free(one.chunks);
    }
    free(expected);
    free(found);
    return r;
}

/* The system may take cached pages back at any time, and some do so ahead of need: so a figure that is too low is
 * looked at again, one that is too high never. */
#define ATTEMPTS 5

static bool is_as_expected(struct engine *e, enum hearth_verify verify, uint64_t from_page_cache) {
    struct resident *r = load(e, verify);
    uint64_t found = r->from_page_cache;
    assert_int_equal(r->from_disk, LARGE - found);
    assert_true(found <= from_page_cache);
    resident_free(r);
    return found == from_page_cache;
}

static void expect(struct engine *e, enum hearth_verify verify, uint64_t step, uint64_t end) {
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        forget("f.bin");
        if (is_as_expected(e, verify, cache("f.bin", step, end))) {
            assert_true(atomic_load(&copies) > 0);
            return;
        }
    }
    fail_msg("it never took from the page cache what that held");
}

static void what_is_cached_is_copied_whatever_the_policy_and_the_pages(void **state) {
    (void)state;
    static const enum hearth_verify policies[] = {HEARTH_VERIFY_NONE, HEARTH_VERIFY_XXH3, HEARTH_VERIFY_ALWAYS};
    static const enum backing_choice backings[] = {BACKING_AUTO, BACKING_SMALL};
    leaves = NEVER;
    put_file("f.bin", LARGE, 1);
    for (size_t i = 0; i < 2; i++) {
        struct engine *e = engine(backings[i]);
        for (size_t k = 0; k < 3; k++) {
            expect(e, policies[k], 1, LARGE);
            expect(e, policies[k], 1, 5 * MIB);
            expect(e, policies[k], 2, LARGE);
        }
        engine_free(e);
    }
}

static void what_has_left_the_page_cache_is_read(void **state) {
    (void)state;
    put_file("f.bin", LARGE, 1);
    struct engine *e = engine(BACKING_AUTO);
    for (leaves = SOME; leaves <= HALF_WAY; leaves++)
        for (unsigned step = 1; step <= 2; step++) {
            forget("f.bin");
            cache("f.bin", step, LARGE);
            struct resident *r = load(e, step == 1 ? HEARTH_VERIFY_XXH3 : HEARTH_VERIFY_ALWAYS);
            assert_int_equal(r->from_disk + r->from_page_cache, LARGE);
            resident_free(r);
        }
    engine_free(e);
}

static void a_file_system_that_may_block_is_asked_once_for_each_worker(void **state) {
    (void)state;
    put_file("f.bin", LARGE, 1);
    struct engine *e = engine(BACKING_AUTO);
    leaves = UNSUPPORTED;
    bool all = false;
    for (unsigned i = 0; i < ATTEMPTS && !all; i++) {
        cache("f.bin", 1, LARGE);
        all = is_as_expected(e, HEARTH_VERIFY_XXH3, LARGE); /* by the reader, then */
        assert_true(atomic_load(&copies) <= e->n_hashers);
    }
    assert_true(all);
    engine_free(e);
}

static void memory_file_systems_hold_all_of_it(void **state) {
    (void)state;
    char other[64] = "/dev/shm/hearth-loader-XXXXXX", path[256];
    struct statfs fs;
    if (statfs("/dev/shm", &fs) < 0 || fs.f_type != 0x01021994 || !mkdtemp(other))
        skip();
    char before[64];
    memcpy(before, test_dir, sizeof(before));
    memcpy(test_dir, other, sizeof(other));
    leaves = NEVER;
    put_file("f.bin", LARGE, 1);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r = load(e, HEARTH_VERIFY_XXH3);
    assert_int_equal(r->from_disk, 0);
    resident_free(r);
    engine_free(e);
    test_path("f.bin", path, sizeof(path));
    unlink(path);
    rmdir(other);
    memcpy(test_dir, before, sizeof(before));
}

/* As kernels before 6.5 do. */
static int without_cachestat(void) {
    struct engine *e = engine(BACKING_AUTO);
    bool good = false;
    for (unsigned i = 0; i < ATTEMPTS && !good; i++)
        good = is_as_expected(e, HEARTH_VERIFY_XXH3, cache("f.bin", 2, LARGE));
    engine_free(e);
    return good ? 0 : 2;
}

static void kernels_without_cachestat_tell_by_mincore(void **state) {
    (void)state;
    leaves = NEVER;
    put_file("f.bin", LARGE, 1);
    without_syscall(SYS_cachestat, ENOSYS, without_cachestat);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_cached_is_copied_whatever_the_policy_and_the_pages),
        T(what_has_left_the_page_cache_is_read),
        T(a_file_system_that_may_block_is_asked_once_for_each_worker),
        T(memory_file_systems_hold_all_of_it),
        T(kernels_without_cachestat_tell_by_mincore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
