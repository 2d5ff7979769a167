/* loader: what was loaded is what was on storage: byte for byte, sealed, hashed, and described truthfully. */
#include "loader_fixture.h"
#include "util/text.h"

#include <sched.h>
#include <xxhash.h>

/* Around every border there is: pages, small files, pieces, huge pages, chunks. */
static const uint64_t sizes[] = {0,       1,       511,     4096,    262144,  262145,   1048579,
                                 2097152, 2097153, 4194304, 4194305, 5000001, 12582912, 17000003};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void put_sizes(void) {
    char name[32];
    for (size_t i = 0; i < N_SIZES; i++) {
        snprintf(name, sizeof(name), "f%02zu.bin", i);
        put_file(name, sizes[i], i);
    }
}

static void check_blob(const struct blob *b, uint64_t bytes, uint64_t seed, bool hashed) {
    uint8_t *expected = malloc(bytes + 1), *found = malloc(bytes + 1);
    assert_non_null(expected);
    assert_non_null(found);
    fill(expected, bytes, seed);
    assert_int_equal(b->bytes, bytes);
    assert_int_equal(pread(b->fd, found, bytes + 1, 0), bytes);
    assert_memory_equal(found, expected, bytes);
    assert_int_equal(fcntl(b->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(b->fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);
    uint32_t chunks = (uint32_t)((bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    assert_int_equal(b->n_chunks, hashed ? chunks : 0);
    for (uint32_t c = 0; c < b->n_chunks; c++) {
        uint64_t left = bytes - c * CHUNK_BYTES;
        XXH128_hash_t h = XXH3_128bits(expected + c * CHUNK_BYTES, left < CHUNK_BYTES ? left : CHUNK_BYTES);
        assert_int_equal(b->chunks[c].low, h.low64);
        assert_int_equal(b->chunks[c].high, h.high64);
    }
    if (b->has_sha256) {
        uint8_t sha[32];
        assert_int_equal(EVP_Digest(expected, bytes, sha, NULL, EVP_sha256(), NULL), 1);
        assert_memory_equal(b->sha256, sha, sizeof(sha));
    }
    /* The rest of the last page is what mappings show behind the end: zeros. */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), mapped = (bytes + page - 1) / page * page;
    if (mapped > bytes) {
        const uint8_t *at = mmap(NULL, mapped, PROT_READ, MAP_SHARED, b->fd, 0);
        assert_ptr_not_equal(at, MAP_FAILED);
        for (uint64_t i = bytes; i < mapped; i++)
            assert_int_equal(at[i], 0);
        munmap((void *)at, mapped);
    }
    free(expected);
    free(found);
}

static void check_all(enum backing_choice backing, enum hearth_verify verify, enum hearth_verified expected) {
    struct engine *e = engine(backing);
    struct artifact *a = resolve(NULL, 0, verify);
    struct resident *r;
    struct hearth_error err;
    if (load_once(e, a, verify, &r, &err))
        fail_msg("%s (%s)", err.message, err.file);
    assert_int_equal(r->n_blobs, N_SIZES);
    uint64_t bytes = 0;
    for (size_t i = 0; i < N_SIZES; i++) {
        check_blob(&r->blobs[i], sizes[i], i, verify != HEARTH_VERIFY_NONE);
        assert_int_equal(r->blobs[i].verified, expected);
        assert_int_equal(r->blobs[i].has_sha256, verify == HEARTH_VERIFY_ALWAYS);
        bytes += sizes[i];
    }
    assert_int_equal(r->bytes, bytes);
    assert_true(r->resident_bytes >= bytes);
    assert_int_equal(r->from_disk + r->from_page_cache, bytes);
    assert_int_equal(r->verified, expected);
    resident_free(r);
    engine_free(e);
}

static void every_size_lands_whole_on_huge_pages(void **state) {
    (void)state;
    put_sizes();
    check_all(BACKING_AUTO, HEARTH_VERIFY_XXH3, HEARTH_VERIFIED_RECORDED);
}

static void every_size_lands_whole_on_small_pages(void **state) {
    (void)state;
    put_sizes();
    check_all(BACKING_SMALL, HEARTH_VERIFY_XXH3, HEARTH_VERIFIED_RECORDED);
}

static void every_size_lands_whole_with_or_without_a_hugetlb_pool(void **state) {
    (void)state;
    put_sizes();
    struct engine *e = engine(BACKING_HUGETLB);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    for (size_t i = 0; i < N_SIZES; i++) {
        if (r->blobs[i].backing != HEARTH_BACKING_HUGETLB) {
            check_blob(&r->blobs[i], sizes[i], i, true);
            continue;
        }
        uint8_t *data = malloc(sizes[i]), *expected = malloc(sizes[i]);
        assert_int_equal(pread(r->blobs[i].fd, data, sizes[i], 0), sizes[i]);
        fill(expected, sizes[i], i);
        assert_memory_equal(data, expected, sizes[i]);
        free(data);
        free(expected);
    }
    resident_free(r);
    engine_free(e);
}

static void nothing_is_hashed_when_nothing_is_to_be_verified(void **state) {
    (void)state;
    put_sizes();
    check_all(BACKING_AUTO, HEARTH_VERIFY_NONE, HEARTH_VERIFIED_NONE);
}

static void always_computes_sha256_of_every_file(void **state) {
    (void)state;
    put_sizes();
    check_all(BACKING_AUTO, HEARTH_VERIFY_ALWAYS, HEARTH_VERIFIED_RECORDED);
}

static void what_is_on_huge_pages_is_measured(void **state) {
    (void)state;
    put_file("big.bin", UINT64_C(9) << 20, 1);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    assert_true(r->blobs[0].huge_bytes <= r->blobs[0].resident_bytes);
    assert_int_equal(r->blobs[0].backing == HEARTH_BACKING_SHMEM_HUGE,
                     r->blobs[0].huge_bytes * 2 > r->blobs[0].resident_bytes);
    resident_free(r);
    engine_free(e);
    e = engine(BACKING_SMALL);
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    assert_int_equal(r->blobs[0].backing, HEARTH_BACKING_SHMEM);
    assert_int_equal(r->huge_bytes, 0);
    assert_int_equal(r->blobs[0].resident_bytes, UINT64_C(9) << 20);
    resident_free(r);
    engine_free(e);
}

static void an_expected_digest_makes_it_sha256_and_the_weakest_file_counts(void **state) {
    (void)state;
    put_file("large.bin", 9000001, 3);
    put_file("little.bin", 1000, 4);
    uint8_t *data = malloc(9000001);
    struct artifact_digest d[2] = {{.path = "large.bin"}, {.path = "little.bin"}};
    fill(data, 9000001, 3);
    EVP_Digest(data, 9000001, d[0].sha256, NULL, EVP_sha256(), NULL);
    fill(data, 1000, 4);
    EVP_Digest(data, 1000, d[1].sha256, NULL, EVP_sha256(), NULL);
    free(data);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(d, 2, 0), HEARTH_VERIFY_REMEMBERED, &r, &err), 0);
    assert_int_equal(r->verified, HEARTH_VERIFIED_SHA256);
    resident_free(r);
    assert_int_equal(load_once(e, resolve(d, 1, 0), HEARTH_VERIFY_REMEMBERED, &r, &err), 0);
    assert_int_equal(r->verified, HEARTH_VERIFIED_RECORDED);
    assert_int_equal(r->blobs[0].verified, HEARTH_VERIFIED_SHA256);
    assert_memory_equal(r->blobs[0].sha256, d[0].sha256, 32);
    assert_false(r->blobs[1].has_sha256);
    resident_free(r);
    engine_free(e);
}

static void a_digest_that_the_request_gives_is_proven_whatever_the_policy(void **state) {
    (void)state;
    static const char *const names[] = {"large.bin", "little.bin"};
    static const uint64_t bytes[] = {9000001, 1000};
    static const enum hearth_verify policies[] = {HEARTH_VERIFY_NONE, HEARTH_VERIFY_XXH3};
    struct engine *e = engine(BACKING_AUTO);
    for (size_t i = 0; i < 2; i++)
        put_file(names[i], bytes[i], i);
    for (size_t i = 0; i < 4; i++) {
        uint8_t *data = malloc(bytes[i % 2]);
        struct artifact_digest d = {.path = names[i % 2]};
        fill(data, bytes[i % 2], i % 2);
        EVP_Digest(data, bytes[i % 2], d.sha256, NULL, EVP_sha256(), NULL);
        free(data);
        enum hearth_verify policy = policies[i / 2];
        struct resident *r;
        struct hearth_error err;
        assert_int_equal(load_once(e, resolve(&d, 1, policy), policy, &r, &err), 0);
        assert_int_equal(r->blobs[i % 2].verified, HEARTH_VERIFIED_SHA256);
        assert_true(r->verified < HEARTH_VERIFIED_SHA256);
        resident_free(r);
        d.sha256[31] ^= 1;
        assert_int_equal(load_once(e, resolve(&d, 1, policy), policy, &r, &err), HEARTH_E_INTEGRITY);
    }
    engine_free(e);
}

static bool serves(const struct resident *r, const struct artifact_digest *d, size_t n, enum hearth_verify verify) {
    struct artifact *a = resolve(d, n, verify);
    bool yes = resident_serves(r, a, verify);
    artifact_free(a);
    return yes;
}

static void what_is_resident_serves_those_who_ask_for_no_more(void **state) {
    (void)state;
    put_file("a.bin", 1000, 1);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *none, *xxh3, *all, *proven;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_NONE, &none, &err), 0);
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &xxh3, &err), 0);
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &all, &err), 0);
    struct artifact_digest d = {.path = "a.bin"};
    memcpy(d.sha256, all->blobs[0].sha256, sizeof(d.sha256));
    assert_int_equal(load_once(e, resolve(&d, 1, 0), HEARTH_VERIFY_REMEMBERED, &proven, &err), 0);
    assert_true(serves(none, NULL, 0, HEARTH_VERIFY_NONE));
    assert_false(serves(none, NULL, 0, HEARTH_VERIFY_XXH3));
    assert_true(serves(xxh3, NULL, 0, HEARTH_VERIFY_NONE));
    assert_true(serves(xxh3, NULL, 0, HEARTH_VERIFY_REMEMBERED)); /* nothing is expected of it */
    assert_false(serves(xxh3, NULL, 0, HEARTH_VERIFY_ALWAYS));
    assert_false(serves(xxh3, &d, 1, HEARTH_VERIFY_NONE));
    assert_true(serves(all, NULL, 0, HEARTH_VERIFY_ALWAYS));
    assert_false(serves(all, &d, 1, HEARTH_VERIFY_REMEMBERED)); /* its index says that it was compared to nothing */
    assert_true(serves(proven, &d, 1, HEARTH_VERIFY_ALWAYS));
    assert_true(serves(proven, NULL, 0, HEARTH_VERIFY_ALWAYS));
    d.sha256[0] ^= 1;
    assert_false(serves(proven, &d, 1, HEARTH_VERIFY_XXH3));
    put_file("b.bin", 1, 1);
    assert_false(serves(all, NULL, 0, HEARTH_VERIFY_NONE));
    char path[256];
    test_path("b.bin", path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    put_file("a.bin", 1001, 1);
    assert_false(serves(all, NULL, 0, HEARTH_VERIFY_NONE));
    resident_free(none);
    resident_free(xxh3);
    resident_free(all);
    resident_free(proven);
    engine_free(e);
}

/* Writes NAME's digest into a file of the artifact. */
static void put_digest(const char *name, uint64_t bytes, uint64_t seed, const char *into) {
    char path[256], line[256], hex[65];
    uint8_t *data = malloc(bytes), sha[32];
    fill(data, bytes, seed);
    EVP_Digest(data, bytes, sha, NULL, EVP_sha256(), NULL);
    free(data);
    test_path(into, path, sizeof(path));
    int n = snprintf(line, sizeof(line), "%s  %s\n", format_hex(sha, sizeof(sha), hex), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(write(fd, line, (size_t)n), n);
    close(fd);
}

static void a_list_of_digests_does_not_make_the_artifact_weaker(void **state) {
    (void)state;
    put_file("little.bin", 1000, 4);
    put_digest("little.bin", 1000, 4, "SHA256SUMS");
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, &r, &err), 0);
    assert_int_equal(r->blobs[file_number(r->artifact, "SHA256SUMS")].verified, HEARTH_VERIFIED_RECORDED);
    assert_int_equal(r->verified, HEARTH_VERIFIED_SHA256);
    resident_free(r);
    put_file("unlisted.bin", 1000, 5);
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_REMEMBERED, &r, &err), 0);
    assert_int_equal(r->verified, HEARTH_VERIFIED_RECORDED);
    resident_free(r);
    engine_free(e);
}

static void the_index_is_completed_and_sealed(void **state) {
    (void)state;
    put_file("large.bin", 5000000, 3);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &r, &err), 0);
    assert_int_equal(fcntl(r->index_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(r->index_fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);
    const struct hearth_index_header *h = mmap(NULL, r->index_bytes, PROT_READ, MAP_SHARED, r->index_fd, 0);
    assert_ptr_not_equal(h, MAP_FAILED);
    const struct hearth_index_file *f = (const void *)((const uint8_t *)h + h->files.offset);
    assert_int_equal(h->id, 7);
    assert_int_equal(h->verified, HEARTH_VERIFIED_RECORDED);
    assert_int_equal(f->verified, HEARTH_VERIFIED_RECORDED);
    assert_int_equal(f->flags, HEARTH_FILE_HAS_SHA256);
    assert_memory_equal(f->sha256, r->blobs[0].sha256, 32);
    munmap((void *)h, r->index_bytes);
    resident_free(r);
    engine_free(e);
}

/* A parser that reads a file's tail and middle finds what is on storage, though the load has only begun. */
static int read_tail_and_middle(const struct parse_request *q, struct hearth_error *err) {
    static const uint64_t at[] = {33000000, 20000000, 12345678, 4194300, 0};
    size_t i = file_number(q->artifact, "large.bin");
    uint8_t *expected = malloc(33554432), found[1000];
    fill(expected, 33554432, 9);
    int fd = q->file_fd(q->user, i, err);
    assert_true(fd >= 0);
    for (size_t k = 0; k < sizeof(at) / sizeof(at[0]); k++) {
        assert_int_equal(q->wait_range(q->user, i, at[k], sizeof(found), err), 0);
        assert_int_equal(pread(fd, found, sizeof(found), (off_t)at[k]), sizeof(found));
        assert_memory_equal(found, expected + at[k], sizeof(found));
    }
    assert_int_equal(q->wait_range(q->user, file_number(q->artifact, "config.json"), 0, 2, err), 0);
    free(expected);
    return 0;
}

static void the_parser_gets_the_ranges_it_waits_for(void **state) {
    (void)state;
    put_file("large.bin", 33554432, 9);
    put_file("config.json", 2, 1);
    on_parse = read_tail_and_middle;
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    resident_free(r);
    engine_free(e);
}

static void phases_of_small_files_occur_too(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u.bin", (unsigned)i);
        put_file(name, 1000, i);
    }
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    const struct hearth_span *p = r->phases;
    for (unsigned i = HEARTH_PHASE_OPEN; i < HEARTH_PHASES; i++)
        assert_true(p[i].end_ns > p[i].start_ns);
    assert_true(p[HEARTH_PHASE_OPEN].start_ns < p[HEARTH_PHASE_READ].start_ns);
    assert_true(p[HEARTH_PHASE_READ].start_ns < p[HEARTH_PHASE_SEAL].start_ns);
    resident_free(r);
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_NONE, &r, &err), 0);
    assert_int_equal(r->phases[HEARTH_PHASE_HASH].end_ns, 0); /* what did not occur is not there */
    resident_free(r);
    engine_free(e);
}

static void phases_lie_inside_of_the_load_and_all_occur(void **state) {
    (void)state;
    put_file("large.bin", 33554432, 9);
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    const struct hearth_span *p = r->phases;
    for (unsigned i = HEARTH_PHASE_OPEN; i < HEARTH_PHASES; i++) {
        assert_true(p[i].end_ns > 0);
        assert_true(p[i].start_ns <= p[i].end_ns);
        assert_true(p[i].end_ns <= p[HEARTH_PHASE_PUBLISH].end_ns);
    }
    assert_int_equal(p[HEARTH_PHASE_FIRST_BYTE].start_ns, p[HEARTH_PHASE_READ].start_ns);
    assert_true(p[HEARTH_PHASE_READ].end_ns <= p[HEARTH_PHASE_HASH].end_ns);
    assert_true(p[HEARTH_PHASE_POPULATE].start_ns <= p[HEARTH_PHASE_READ].start_ns);
    assert_true(p[HEARTH_PHASE_HASH].end_ns <= p[HEARTH_PHASE_SEAL].start_ns);
    resident_free(r);
    engine_free(e);
}

static void two_loads_at_once_do_not_mix(void **state) {
    (void)state;
    put_sizes();
    struct engine *e = engine(BACKING_AUTO);
    struct waiter w[3] = {WAITER_INIT, WAITER_INIT, WAITER_INIT};
    struct load *l[3];
    for (unsigned i = 0; i < 3; i++)
        l[i] = begin(e, resolve(NULL, 0, 0), i == 1 ? HEARTH_VERIFY_ALWAYS : HEARTH_VERIFY_XXH3, &w[i]);
    for (unsigned i = 0; i < 3; i++) {
        struct resident *r;
        struct hearth_error err;
        wait_done(&w[i]);
        assert_int_equal(load_take(l[i], &r, &err), 0);
        for (size_t k = 0; k < N_SIZES; k++)
            check_blob(&r->blobs[k], sizes[k], k, true);
        resident_free(r);
        load_free(l[i]);
    }
    engine_free(e);
}

static void threads_are_counted_by_the_cores_that_may_be_used(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    CPU_ZERO(&one);
    for (unsigned i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    struct engine *e = engine(BACKING_AUTO);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(e->n_hashers, 1);
    assert_int_equal(e->n_populators, 1);
    engine_free(e);
}

static void more_files_than_streams_may_be_open_are_loaded(void **state) {
    (void)state;
    char name[32];
    enum { N = STREAMS_OPEN_MAX + 40 };
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "m%04u.bin", i);
        put_file(name, SMALL_FILE_MAX + 1 + i, i);
    }
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    struct hearth_error err;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_ALWAYS, &r, &err), 0);
    for (unsigned i = 0; i < N; i++)
        check_blob(&r->blobs[i], SMALL_FILE_MAX + 1 + i, i, true);
    resident_free(r);
    engine_free(e);
}

struct retired {
    struct waiter waiter;
    pthread_t by; /* each its own: two populators may give back at once */
};

static void on_retired(void *user) {
    struct retired *r = user;
    r->by = pthread_self();
    on_done(&r->waiter, NULL);
}

static void what_is_retired_is_given_back_by_other_threads(void **state) {
    (void)state;
    put_sizes();
    size_t before = open_fds();
    struct engine *e = engine(BACKING_AUTO);
    size_t with_engine = open_fds();
    struct hearth_error err;
    struct retirement r[3];
    struct retired w[3] = {{.waiter = WAITER_INIT}, {.waiter = WAITER_INIT}, {.waiter = WAITER_INIT}};
    for (size_t i = 0; i < 3; i++) {
        r[i] = (struct retirement){.done = on_retired, .user = &w[i]};
        assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r[i].resident, &err), 0);
    }
    resident_retire(e, &r[0]);
    resident_retire(e, &r[1]);
    for (size_t i = 0; i < 2; i++) {
        wait_done(&w[i].waiter);
        assert_false(pthread_equal(w[i].by, pthread_self()));
    }
    assert_int_equal(open_fds(), with_engine + N_SIZES + 1); /* the third: its files and index */
    resident_retire(e, &r[2]);
    engine_free(e); /* ends when all of it has been given back */
    assert_true(w[2].waiter.done);
    assert_int_equal(open_fds(), before);
}

static void what_others_hold_of_the_retired_is_counted_and_kept_until_they_let_go(void **state) {
    (void)state;
    put_sizes();
    size_t before = open_fds();
    struct engine *e = engine(BACKING_AUTO);
    struct hearth_error err;
    struct retired w = {.waiter = WAITER_INIT};
    struct retirement r = {.done = on_retired, .user = &w};
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r.resident, &err), 0);
    struct resident *all = r.resident;
    const struct blob *mapped = NULL, *opened = NULL;
    for (size_t i = 0; i < all->n_blobs; i++)
        if (all->blobs[i].bytes > 0) {
            opened = mapped;
            mapped = &all->blobs[i];
        }
    int fd = memfd_reopen_readonly(opened->fd), other = memfd_reopen_readonly(mapped->fd);
    void *at = mmap(NULL, 1, PROT_READ, MAP_SHARED, other, 0);
    assert_true(fd >= 0 && at != MAP_FAILED);
    close(other);
    resident_retire(e, &r);
    wait_done(&w.waiter);
    assert_ptr_equal(r.resident, all);
    assert_int_equal(r.held_fds, 2);
    assert_int_equal(r.held_bytes, opened->resident_bytes + mapped->resident_bytes);
    close(fd);
    w = (struct retired){.waiter = WAITER_INIT};
    r = (struct retirement){.resident = all, .done = on_retired, .user = &w};
    resident_retire(e, &r);
    wait_done(&w.waiter);
    assert_int_equal(r.held_fds, 1);
    munmap(at, 1);
    w = (struct retired){.waiter = WAITER_INIT};
    r = (struct retirement){.resident = all, .done = on_retired, .user = &w};
    resident_retire(e, &r);
    wait_done(&w.waiter);
    assert_null(r.resident);
    assert_int_equal(r.held_fds + r.held_bytes, 0);
    engine_free(e);
    assert_int_equal(open_fds(), before);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(every_size_lands_whole_on_huge_pages),
        T(every_size_lands_whole_on_small_pages),
        T(every_size_lands_whole_with_or_without_a_hugetlb_pool),
        T(nothing_is_hashed_when_nothing_is_to_be_verified),
        T(always_computes_sha256_of_every_file),
        T(what_is_on_huge_pages_is_measured),
        T(an_expected_digest_makes_it_sha256_and_the_weakest_file_counts),
        T(a_digest_that_the_request_gives_is_proven_whatever_the_policy),
        T(what_is_resident_serves_those_who_ask_for_no_more),
        T(a_list_of_digests_does_not_make_the_artifact_weaker),
        T(the_index_is_completed_and_sealed),
        T(the_parser_gets_the_ranges_it_waits_for),
        T(phases_of_small_files_occur_too),
        T(phases_lie_inside_of_the_load_and_all_occur),
        T(two_loads_at_once_do_not_mix),
        T(threads_are_counted_by_the_cores_that_may_be_used),
        T(more_files_than_streams_may_be_open_are_loaded),
        T(what_is_retired_is_given_back_by_other_threads),
        T(what_others_hold_of_the_retired_is_counted_and_kept_until_they_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
