/* loader: what clients see of a load under way: the progress page, descriptors of files that fill, leases. */
#include "loader_fixture.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include <hearth/progress.h>

#define LARGE (UINT64_C(24) << 20)
#define N_CHUNKS 6

static struct hearth_error err;

/* Reads wait until they are let go. The device's entry must be there. */
static void hold_reads(struct engine *e, bool hold) {
    pthread_mutex_lock(&e->lock);
    for (struct device *d = e->devices; d; d = d->next)
        d->in_flight += hold ? UINT64_C(1) << 40 : -(UINT64_C(1) << 40);
    e->reader->wake(e->reader);
    pthread_mutex_unlock(&e->lock);
}

/* A load that has an index and has read nothing, and what a client has of it. */
struct streamed {
    struct engine *engine;
    struct waiter streams, done;
    struct load *load;
    const struct hearth_progress_header *page;
    const struct hearth_progress_file *file;
    int index_fd, page_fd, file_fd;
    uint64_t page_bytes;
};

static void on_streams(void *user, struct load *l) {
    struct streamed *s = user;
    on_done(&s->streams, l);
}

static void on_end(void *user, struct load *l) {
    struct streamed *s = user;
    on_done(&s->done, l);
}

static void begin_held(struct streamed *s, struct artifact *a, enum hearth_verify verify,
                       const struct record *records) {
    *s = (struct streamed){.streams = WAITER_INIT, .done = WAITER_INIT};
    s->engine = engine(BACKING_AUTO);
    struct resident *r;
    struct artifact *first = resolve(NULL, 0, 0); /* makes the device's entry */
    assert_int_equal(load_once(s->engine, first, HEARTH_VERIFY_NONE, &r, &err), 0);
    resident_free(r);
    hold_reads(s->engine, true);
    const struct load_request q = {.id = 7,
                                   .start_ns = 1,
                                   .artifact = a,
                                   .verify = verify,
                                   .records = records,
                                   .streams = on_streams,
                                   .done = on_end,
                                   .user = s};
    assert_int_equal(load_start(s->engine, &q, &s->load, &err), 0);
    wait_done(&s->streams);
    assert_int_equal(load_stream(s->load, &s->index_fd, &s->page_fd, &err), 0);
    assert_int_equal(load_stream_file(s->load, 0, &s->file_fd, &err), 0);
    struct stat st;
    assert_int_equal(fstat(s->page_fd, &st), 0);
    s->page_bytes = (uint64_t)st.st_size;
    s->page = mmap(NULL, s->page_bytes, PROT_READ, MAP_SHARED, s->page_fd, 0);
    assert_ptr_not_equal(s->page, MAP_FAILED);
    s->file = (const void *)((const char *)s->page + s->page->files);
}

static void end_streamed(struct streamed *s) {
    load_free(s->load);
    engine_free(s->engine);
    munmap((void *)s->page, s->page_bytes);
    close(s->index_fd);
    close(s->page_fd);
    close(s->file_fd);
}

static uint64_t bits(const struct streamed *s, uint64_t words) {
    return __atomic_load_n((const uint64_t *)((const char *)s->page + words), __ATOMIC_ACQUIRE);
}

static uint32_t state_of(const struct streamed *s) {
    return __atomic_load_n(&s->page->state, __ATOMIC_ACQUIRE);
}

/* As a client does. A wake that is lost ends the test by its time limit. */
static void wait_for_end(const struct streamed *s) {
    for (;;) {
        uint32_t seen = __atomic_load_n(&s->page->sequence, __ATOMIC_ACQUIRE);
        if (state_of(s) != HEARTH_PROGRESS_LOADING)
            return;
        syscall(SYS_futex, &s->page->sequence, FUTEX_WAIT, seen, NULL, NULL, 0);
    }
}

/* Opens the file as a program does that was given a link. */
static int open_path(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static void expect_bytes(int fd, uint64_t seed) {
    uint8_t *got = malloc(LARGE), *want = malloc(LARGE);
    assert_non_null(got);
    assert_non_null(want);
    fill(want, LARGE, seed);
    assert_int_equal(pread(fd, got, LARGE, 0), LARGE);
    assert_memory_equal(got, want, LARGE);
    free(got);
    free(want);
}

static void a_file_shows_its_chunks_as_they_come_and_can_be_opened_when_all_are_there(void **state) {
    (void)state;
    static const enum hearth_verify verifies[] = {HEARTH_VERIFY_NONE, HEARTH_VERIFY_XXH3, HEARTH_VERIFY_ALWAYS};
    put_file("large.bin", LARGE, 1);
    for (size_t i = 0; i < sizeof(verifies) / sizeof(verifies[0]); i++) {
        struct streamed s;
        begin_held(&s, resolve(NULL, 0, 0), verifies[i], NULL);
        assert_memory_equal(s.page->magic, HEARTH_PROGRESS_MAGIC, 8);
        assert_int_equal(s.page->version, HEARTH_PROGRESS_VERSION);
        assert_int_equal(s.page->total_bytes, s.page_bytes);
        assert_int_equal(s.page->id, 7);
        assert_int_equal(s.page->chunk_bytes, CHUNK_BYTES);
        assert_int_equal(s.page->n_files, 1);
        assert_int_equal(s.file->bytes, LARGE);
        assert_int_equal(s.file->n_chunks, N_CHUNKS);
        assert_int_equal(state_of(&s), HEARTH_PROGRESS_LOADING);
        assert_int_equal(bits(&s, s.file->exposed) | bits(&s, s.file->landed), 0);
        assert_int_equal(s.file->flags, HEARTH_PROGRESS_LEASED);
        assert_int_equal(open_path(s.file_fd, O_RDONLY | O_NONBLOCK), -1);
        assert_int_equal(errno, EWOULDBLOCK);
        hold_reads(s.engine, false);
        int waited = open_path(s.file_fd, O_RDONLY);
        assert_true(waited >= 0);
        expect_bytes(waited, 1);
        close(waited);
        wait_for_end(&s);
        assert_int_equal(state_of(&s), HEARTH_PROGRESS_RESIDENT);
        assert_int_equal(bits(&s, s.file->exposed), (1 << N_CHUNKS) - 1);
        assert_int_equal(bits(&s, s.file->landed), (1 << N_CHUNKS) - 1);
        assert_int_equal(s.file->flags, HEARTH_PROGRESS_SETTLED);
        assert_int_equal(s.file->verified,
                         verifies[i] == HEARTH_VERIFY_NONE ? HEARTH_VERIFIED_NONE : HEARTH_VERIFIED_RECORDED);
        expect_bytes(s.file_fd, 1);
        assert_int_equal(fcntl(s.file_fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);
        assert_int_equal(fcntl(s.index_fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);

        wait_done(&s.done);
        struct resident *r;
        assert_int_equal(load_take(s.load, &r, &err), 0);
        /* The blob's is a description of its own: nobody who has a dup of the other one can lease it. */
        assert_int_equal(lseek(s.file_fd, 5, SEEK_SET), 5);
        assert_int_equal(lseek(r->blobs[0].fd, 0, SEEK_CUR), 0);
        assert_int_equal(fcntl(s.file_fd, F_SETLEASE, F_WRLCK), -1);
        resident_free(r);
        end_streamed(&s);
    }
}

static void bytes_that_are_to_be_proven_are_told_apart_from_those_that_are(void **state) {
    (void)state;
    const struct artifact_digest wrong = {.path = "large.bin", .sha256 = {1, 2, 3}};
    put_file("large.bin", LARGE, 1);
    struct streamed s;
    begin_held(&s, resolve(&wrong, 1, 0), HEARTH_VERIFY_REMEMBERED, NULL);
    hold_reads(s.engine, false);
    wait_for_end(&s);
    assert_int_equal(state_of(&s), HEARTH_PROGRESS_FAILED);
    assert_int_equal(s.page->error.code, HEARTH_E_INTEGRITY);
    assert_int_equal(strncmp(s.page->error.expected, "010203", 6), 0);
    assert_int_equal(bits(&s, s.file->landed), (1 << N_CHUNKS) - 1);
    assert_int_equal(bits(&s, s.file->exposed), 0);
    wait_done(&s.done);
    /* Who has the lease's description keeps openers out. */
    assert_int_equal(open_path(s.file_fd, O_RDONLY | O_NONBLOCK), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    int fd, page;
    assert_int_equal(load_stream(s.load, &fd, &page, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(load_stream_file(s.load, 0, &fd, &err), HEARTH_E_INTEGRITY);
    end_streamed(&s);
}

static void on_retired(void *user) {
    on_done(user, NULL);
}

static void what_clients_share_of_a_failed_load_is_told_until_they_let_go(void **state) {
    (void)state;
    for (unsigned cancelled = 0; cancelled < 2; cancelled++) {
        const struct artifact_digest wrong = {.path = "large.bin", .sha256 = {1, 2, 3}};
        struct streamed s;
        put_file("large.bin", LARGE, 1);
        begin_held(&s, resolve(&wrong, 1, 0), HEARTH_VERIFY_ALWAYS, NULL);
        void *mapped = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, s.file_fd, 0);
        assert_ptr_not_equal(mapped, MAP_FAILED);
        if (cancelled)
            load_cancel(s.load);
        else
            hold_reads(s.engine, false);
        wait_done(&s.done);
        struct waiter w = WAITER_INIT;
        struct retirement r = {.resident = load_take_shared(s.load), .done = on_retired, .user = &w};
        assert_non_null(r.resident);
        assert_null(load_take_shared(s.load));
        for (unsigned let_go = 0; let_go < 4; let_go++) {
            r.next_blob = r.held_bytes = r.held_fds = 0;
            w.done = false;
            resident_retire(s.engine, &r);
            wait_done(&w);
            assert_int_equal(r.held_fds, let_go < 2 ? 2 : let_go < 3 ? 1 : 0);
            if (let_go < 2 && !cancelled)
                assert_true(r.held_bytes > LARGE);
            if (let_go == 0) {
                close(s.file_fd); /* what is mapped is held as well */
                s.file_fd = -1;
            } else if (let_go == 1) {
                munmap(mapped, LARGE);
            } else if (let_go == 2) {
                close(s.index_fd);
                s.index_fd = -1;
            }
        }
        assert_null(r.resident);
        if (cancelled)
            hold_reads(s.engine, false);
        end_streamed(&s);
    }
}

/* What was proven once is exposed chunk by chunk although a digest is expected, and what differs never is. */
static void chunks_that_match_a_record_are_exposed_and_others_are_not(void **state) {
    (void)state;
    enum { BAD = 4 }; /* the last one to be read: the tail comes early */
    const struct artifact_digest digest = {.path = "large.bin", .sha256 = {1, 2, 3}};
    put_file("large.bin", LARGE, 1);
    nanosleep(&(struct timespec){.tv_sec = 2, .tv_nsec = 100000000}, NULL); /* records are of what has been quiet */
    struct engine *e = engine(BACKING_AUTO);
    struct resident *r;
    assert_int_equal(load_once(e, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, &r, &err), 0);
    engine_free(e);
    if (!r->blobs[0].lasting) {
        resident_free(r);
        skip(); /* not on local storage */
    }
    struct record record = {.identity = r->artifact->files[0].identity,
                            .has_sha256 = true,
                            .sha256 = {1, 2, 3}, /* what was proven is not looked at again */
                            .n_chunks = N_CHUNKS,
                            .chunks = r->blobs[0].chunks};
    for (unsigned damaged = 0; damaged < 2; damaged++) {
        struct artifact *a = resolve(&digest, 1, 0);
        a->files[0].demanded = false;
        record.chunks[BAD].low ^= damaged;
        struct streamed s;
        begin_held(&s, a, HEARTH_VERIFY_REMEMBERED, &record);
        hold_reads(s.engine, false);
        wait_for_end(&s);
        assert_int_equal(s.file->verified, HEARTH_VERIFIED_MATCHED);
        if (damaged) {
            assert_int_equal(state_of(&s), HEARTH_PROGRESS_FAILED);
            assert_int_equal(s.page->error.code, HEARTH_E_INTEGRITY);
            assert_int_equal(s.page->error.offset, BAD * CHUNK_BYTES);
            assert_int_equal(bits(&s, s.file->exposed) & (1 << BAD | 1), 1);
        } else {
            assert_int_equal(state_of(&s), HEARTH_PROGRESS_RESIDENT);
        }
        wait_done(&s.done);
        end_streamed(&s);
    }
    resident_free(r);
}

static void a_load_that_is_cancelled_tells_so(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    struct streamed s;
    begin_held(&s, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, NULL);
    load_cancel(s.load);
    wait_for_end(&s);
    assert_int_equal(state_of(&s), HEARTH_PROGRESS_FAILED);
    assert_int_equal(s.page->error.code, HEARTH_E_CANCELLED);
    hold_reads(s.engine, false);
    wait_done(&s.done);
    end_streamed(&s);
}

/* Everything that the owner's uid, or root, could try. */
static void nobody_else_can_write_cut_or_seal_what_fills(void **state) {
    (void)state;
    put_file("large.bin", LARGE, 1);
    struct streamed s;
    begin_held(&s, resolve(NULL, 0, 0), HEARTH_VERIFY_XXH3, NULL);
    assert_int_equal(fcntl(s.file_fd, F_SETLEASE, F_UNLCK), 0); /* what our own uid can do: it opens to itself */
    const int fds[] = {s.page_fd, s.index_fd, s.file_fd};
    for (size_t i = 0; i < 3; i++) {
        char byte = 'x';
        assert_int_equal(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0), MAP_FAILED);
        assert_int_equal(fchmod(fds[i], 0666), 0);
        int writable = open_path(fds[i], O_RDWR);
        assert_true(writable >= 0);
        assert_int_equal(pwrite(writable, &byte, 1, 0), -1);
        assert_int_equal(ftruncate(writable, 0), -1);
        assert_int_equal(ftruncate(writable, (off_t)LARGE * 2), -1);
        assert_int_equal(fallocate(writable, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
        assert_int_equal(fcntl(writable, F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable, 0), MAP_FAILED);
        void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, writable, 0);
        assert_ptr_not_equal(at, MAP_FAILED);
        assert_int_equal(mprotect(at, 4096, PROT_READ | PROT_WRITE), -1);
        munmap(at, 4096);
        close(writable);
    }
    hold_reads(s.engine, false);
    wait_for_end(&s);
    assert_int_equal(state_of(&s), HEARTH_PROGRESS_RESIDENT);
    expect_bytes(s.file_fd, 1);
    wait_done(&s.done);
    end_streamed(&s);
}

static void only_a_load_with_a_large_file_can_be_streamed(void **state) {
    (void)state;
    put_file("small.bin", 1000, 1);
    struct engine *e = engine(BACKING_AUTO);
    struct streamed s = {.streams = WAITER_INIT, .done = WAITER_INIT};
    const struct load_request q = {.id = 7,
                                   .start_ns = 1,
                                   .artifact = resolve(NULL, 0, 0),
                                   .verify = HEARTH_VERIFY_XXH3,
                                   .streams = on_streams,
                                   .done = on_end,
                                   .user = &s};
    int index, page;
    assert_int_equal(load_start(e, &q, &s.load, &err), 0);
    wait_done(&s.done);
    assert_false(s.streams.done);
    assert_int_equal(load_stream(s.load, &index, &page, &err), HEARTH_E_BUSY);
    load_want(s.load, 0, 0, 1);
    load_want(s.load, 9, 5, UINT64_MAX);
    load_free(s.load);
    engine_free(e);
}

int main(void) {
    /* What tells the holder of a lease that somebody wants it. */
    sigset_t io;
    sigemptyset(&io);
    sigaddset(&io, SIGIO);
    pthread_sigmask(SIG_BLOCK, &io, NULL);
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        TEST(a_file_shows_its_chunks_as_they_come_and_can_be_opened_when_all_are_there),
        TEST(bytes_that_are_to_be_proven_are_told_apart_from_those_that_are),
        TEST(what_clients_share_of_a_failed_load_is_told_until_they_let_go),
        TEST(chunks_that_match_a_record_are_exposed_and_others_are_not),
        TEST(a_load_that_is_cancelled_tells_so),
        TEST(nobody_else_can_write_cut_or_seal_what_fills),
        TEST(only_a_load_with_a_large_file_can_be_streamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
