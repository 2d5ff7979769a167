/* loader/io: whatever way the bytes come, in pieces, refused as direct reads, from the page cache or not at all, they
 * are the file's, or there is an error that says where. A layer over the reader's queue() makes the faults. */
#include "loader_fixture.h"

#define LARGE ((UINT64_C(13) << 20) + 4321)

static void (*real_queue)(struct reader *r, struct read_op *op);
static struct hearth_error err;

static struct engine *engine_with(void (*queue)(struct reader *r, struct read_op *op)) {
    struct engine *e = engine(BACKING_AUTO);
    pthread_mutex_lock(&e->lock);
    real_queue = e->reader->queue;
    e->reader->queue = queue;
    pthread_mutex_unlock(&e->lock);
    return e;
}

/* Loads what is in the directory and compares all of it. */
static struct resident *load_and_compare(struct engine *e, uint64_t seed) {
    struct resident *r;
    if (load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err))
        fail_msg("%s (%s)", err.message, err.file);
    uint8_t *expected = malloc(LARGE), *found = malloc(LARGE);
    fill(expected, LARGE, seed);
    assert_int_equal(pread(r->blobs[0].fd, found, LARGE, 0), LARGE);
    assert_memory_equal(found, expected, LARGE);
    free(expected);
    free(found);
    return r;
}

static void less_than_asked(struct reader *r, struct read_op *op) {
    if (op->length > 65536)
        op->length = 65536;
    real_queue(r, op);
}

static void short_reads_are_continued(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 5);
    struct engine *e = engine_with(less_than_asked);
    resident_free(load_and_compare(e, 5));
    engine_free(e);
}

/* An offset that is no multiple of a sector: what a file system says to a direct read that it does not like. */
static void refuse_direct(struct reader *r, struct read_op *op) {
    if (!op->copies)
        op->offset += 1;
    else if (op->length > 100003)
        op->length = 100003; /* nothing to do with alignment any more */
    real_queue(r, op);
}

static void direct_reads_that_are_refused_go_through_the_page_cache(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 6);
    struct engine *e = engine_with(refuse_direct);
    struct resident *r = load_and_compare(e, 6);
    assert_false(r->direct_io);
    assert_non_null(strstr(r->not_direct, " refuses direct reads"));
    assert_int_equal(r->from_disk + r->from_page_cache, LARGE);
    resident_free(r);
    engine_free(e);
}

static void break_the_second_piece(struct reader *r, struct read_op *op) {
    if (op->offset == 4194304)
        op->fd = -1;
    real_queue(r, op);
}

static void a_read_that_fails_is_told_with_its_place(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 7);
    struct engine *e = engine_with(break_the_second_piece);
    struct resident *r = NULL;
    char path[256];
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), HEARTH_E_SYSTEM);
    test_path("large.bin", path, sizeof(path));
    assert_string_equal(err.file, path);
    assert_int_equal(err.offset, 4194304);
    assert_int_equal(err.sys_errno, EBADF);
    engine_free(e);
}

static void what_the_page_cache_holds_is_read_from_there(void **state) {
    (void)state;
    char path[256];
    put_file("large.bin", LARGE, 8);
    test_path("large.bin", path, sizeof(path));
    _cleanup_close_ int fd = open(path, O_RDONLY);
    uint8_t *data = malloc(LARGE);
    assert_int_equal(pread(fd, data, LARGE, 0), LARGE);
    free(data);
    uint64_t held = cached_bytes(fd, 0, LARGE);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r = load_and_compare(e, 8);
    if (held == LARGE) /* this kernel has cachestat, and nothing was taken away */
        assert_int_equal(r->from_page_cache, LARGE);
    else
        assert_int_equal(r->from_disk + r->from_page_cache, LARGE);
    resident_free(r);
    engine_free(e);
}

/* Head and tail come first, then front to back; every piece once. */
static void the_order_of_pieces_is_head_tail_and_the_rest(void **state) {
    (void)state;
    for (uint32_t n = 1; n < 10; n++) {
        struct stream s = {.n_pieces = n};
        uint8_t seen[10] = {0};
        for (uint32_t place = 0; place < n; place++)
            seen[stream_nth(&s, place)]++;
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(seen[i], 1);
        assert_int_equal(stream_nth(&s, 0), 0);
        if (n > 1)
            assert_int_equal(stream_nth(&s, 1), n - 1);
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(short_reads_are_continued),
        T(direct_reads_that_are_refused_go_through_the_page_cache),
        T(a_read_that_fails_is_told_with_its_place),
        T(what_the_page_cache_holds_is_read_from_there),
        T(the_order_of_pieces_is_head_tail_and_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
