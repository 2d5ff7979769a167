/* loader/remembered and artifact/record: what stands in for a proof, and what does not. */
#include "loader_fixture.h"

#include <openssl/evp.h>
#include <time.h>

#define LARGE (2 * CHUNK_BYTES + 12345) /* three chunks, read by the engine's threads */
#define SMALL 1000u

static const struct timespec settle = {.tv_sec = 2, .tv_nsec = 100000000};

/* One directory for all tests: its files must not be younger than two seconds. */
static int make(void **state) {
    int r = fixture_setup(state);
    put_file("empty", 0, 0);
    put_file("large", LARGE, 1);
    put_file("small", SMALL, 2);
    nanosleep(&settle, NULL);
    return r;
}

static int load_with(struct engine *e, struct artifact *a, enum hearth_verify verify, const struct record *records,
                     struct resident **out, struct hearth_error *err) {
    struct waiter w = WAITER_INIT;
    struct load *l;
    const struct load_request q = {
        .start_ns = 1, .artifact = a, .verify = verify, .records = records, .done = on_done, .user = &w};
    assert_int_equal(load_start(e, &q, &l, err), 0);
    wait_done(&w);
    error_clear(err);
    int r = load_take(l, out, err);
    load_free(l);
    return r;
}

/* As the daemon makes them of a load. */
static struct record *records_of(struct resident *r) {
    struct record *records = calloc(r->n_blobs, sizeof(*records));
    for (size_t i = 0; i < r->n_blobs; i++) {
        struct blob *b = &r->blobs[i];
        assert_true(b->lasting);
        records[i] = (struct record){.identity = r->artifact->files[i].identity,
                                     .has_sha256 = b->has_sha256,
                                     .n_chunks = b->n_chunks,
                                     .chunks = b->chunks ? steal_ptr(&b->chunks) : calloc(1, sizeof(*b->chunks))};
        memcpy(records[i].sha256, b->sha256, sizeof(b->sha256));
    }
    return records;
}

static struct artifact_digest digest_of(const char *name, uint64_t bytes, uint64_t seed) {
    struct artifact_digest d = {.path = name};
    uint8_t *data = malloc(bytes + 1);
    fill(data, bytes, seed);
    assert_int_equal(EVP_Digest(data, bytes, d.sha256, NULL, EVP_sha256(), NULL), 1);
    free(data);
    return d;
}

/* The artifact as with a list of digests beside the files: known, and not demanded. */
static struct artifact *with_digests(void) {
    const struct artifact_digest d[] = {digest_of("empty", 0, 0), digest_of("large", LARGE, 1),
                                        digest_of("small", SMALL, 2)};
    struct artifact *a = resolve(d, 3, 0);
    for (size_t i = 0; i < a->n_files; i++)
        a->files[i].demanded = false;
    return a;
}

static struct record *proven(struct engine *e) {
    struct resident *r;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(load_with(e, with_digests(), HEARTH_VERIFY_REMEMBERED, NULL, &r, &err), 0);
    assert_int_equal(r->verified, HEARTH_VERIFIED_SHA256);
    struct record *records = records_of(r);
    resident_free(r);
    return records;
}

static enum hearth_verified verified_by(struct engine *e, struct artifact *a, enum hearth_verify verify,
                                        const struct record *records) {
    struct resident *r;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (load_with(e, a, verify, records, &r, &err))
        fail_msg("%s", err.message);
    enum hearth_verified v = r->verified;
    for (size_t i = 0; v == HEARTH_VERIFIED_MATCHED && i < r->n_blobs; i++) {
        assert_int_equal(r->blobs[i].has_sha256, records[i].has_sha256);
        assert_memory_equal(r->blobs[i].sha256, records[i].sha256, sizeof(records[i].sha256));
    }
    resident_free(r);
    return v;
}

static void what_was_proven_once_is_matched_from_then_on(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    struct record *records = proven(e);
    assert_int_equal(verified_by(e, with_digests(), HEARTH_VERIFY_REMEMBERED, records), HEARTH_VERIFIED_MATCHED);
    assert_int_equal(verified_by(e, with_digests(), HEARTH_VERIFY_XXH3, records), HEARTH_VERIFIED_MATCHED);
    assert_int_equal(verified_by(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, records), HEARTH_VERIFIED_MATCHED);
    assert_int_equal(verified_by(e, with_digests(), HEARTH_VERIFY_ALWAYS, records), HEARTH_VERIFIED_SHA256);
    assert_int_equal(verified_by(e, with_digests(), HEARTH_VERIFY_NONE, records), HEARTH_VERIFIED_NONE);
    records_free(records, 3);
    engine_free(e);
}

static void a_record_stands_in_for_its_own_digest_only(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    struct record *records = proven(e);
    records[1].sha256[0] ^= 1; /* of other content */
    struct artifact *a = with_digests();
    struct resident *r;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(load_with(e, a, HEARTH_VERIFY_REMEMBERED, records, &r, &err), 0);
    assert_int_equal(r->blobs[1].verified, HEARTH_VERIFIED_SHA256); /* proven, not matched */
    assert_int_equal(r->blobs[2].verified, HEARTH_VERIFIED_MATCHED);
    resident_free(r);
    /* A digest that the request gives is proven in any case. */
    const struct artifact_digest d = digest_of("large", LARGE, 1);
    records[1].sha256[0] ^= 1;
    assert_int_equal(load_with(e, resolve(&d, 1, 0), HEARTH_VERIFY_REMEMBERED, records, &r, &err), 0);
    assert_int_equal(r->blobs[1].verified, HEARTH_VERIFIED_SHA256);
    resident_free(r);
    records_free(records, 3);
    engine_free(e);
}

static void a_record_of_another_identity_or_length_is_none(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    struct record *records = proven(e);
    records[1].identity.ctime_ns++;
    assert_int_equal(verified_by(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, records), HEARTH_VERIFIED_RECORDED);
    records[1].identity.ctime_ns--;
    records[1].n_chunks--;
    assert_int_equal(verified_by(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, records), HEARTH_VERIFIED_RECORDED);
    records_free(records, 3);
    engine_free(e);
}

static void a_chunk_that_differs_from_its_record_fails_the_load_and_is_named(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    struct record *records = proven(e);
    struct resident *r;
    struct hearth_error err = HEARTH_ERROR_INIT;
    records[1].chunks[1].high ^= 1;
    assert_int_equal(load_with(e, with_digests(), HEARTH_VERIFY_REMEMBERED, records, &r, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(err.offset, CHUNK_BYTES);
    assert_non_null(strstr(err.file, "/large"));
    assert_non_null(strstr(err.expected, "XXH3"));
    assert_int_equal(strlen(err.found), 32);
    assert_non_null(strstr(err.hint, "--verify always"));
    records[1].chunks[1].high ^= 1;
    records[2].chunks[0].low ^= 1;
    assert_int_equal(load_with(e, with_digests(), HEARTH_VERIFY_XXH3, records, &r, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(err.offset, 0);
    assert_non_null(strstr(err.file, "/small"));
    /* The way to accept it. */
    assert_int_equal(verified_by(e, with_digests(), HEARTH_VERIFY_ALWAYS, records), HEARTH_VERIFIED_SHA256);
    records_free(records, 3);
    engine_free(e);
}

static void what_changed_within_two_seconds_is_not_remembered(void **state) {
    (void)state;
    struct engine *e = engine(BACKING_AUTO);
    struct record *records = proven(e);
    struct resident *r;
    struct hearth_error err = HEARTH_ERROR_INIT;
    put_file("large", LARGE, 1);
    put_file("small", SMALL, 2);
    assert_int_equal(load_with(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, records, &r, &err), 0);
    assert_false(r->blobs[1].lasting);
    assert_false(r->blobs[2].lasting);
    assert_true(r->blobs[0].lasting);
    resident_free(r);
    records_free(records, 3);
    engine_free(e);

    const struct file_identity f = {.ctime_ns = 10000000000};
    assert_true(record_would_last(&f, 12000000000));
    assert_false(record_would_last(&f, 11999999999));
    assert_false(record_would_last(&f, 5000000000)); /* the clock was set back */
}

static void only_storage_that_is_known_to_be_local_is_trusted(void **state) {
    (void)state;
    _cleanup_close_ int proc = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    assert_true(proc >= 0);
    assert_false(record_on_local_storage(proc)); /* as FUSE and NFS: not among those that are known */
    assert_false(record_on_local_storage(-1));
}

int main(void) {
    _cleanup_close_ int here = open("/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!record_on_local_storage(here)) { /* a container's own overlay, say */
        print_message("SKIPPED: /var/tmp is on storage whose records are not trusted\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_proven_once_is_matched_from_then_on),
        cmocka_unit_test(a_record_stands_in_for_its_own_digest_only),
        cmocka_unit_test(a_record_of_another_identity_or_length_is_none),
        cmocka_unit_test(a_chunk_that_differs_from_its_record_fails_the_load_and_is_named),
        cmocka_unit_test(only_storage_that_is_known_to_be_local_is_trusted),
        cmocka_unit_test(what_changed_within_two_seconds_is_not_remembered), /* the last: it changes them */
    };
    return cmocka_run_group_tests(tests, make, fixture_teardown);
}
