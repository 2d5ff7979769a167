/* ipc/client: artifacts that are attached while they load; progress pages that must not be trusted. */
#include "tests/unit/scripted_daemon.h"

#include <hearth/progress.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define ID 7u
#define CHUNK 4096u
#define N_CHUNKS 3u
#define FILE_BYTES (N_CHUNKS * CHUNK)

/* One file that is loading; what the daemon has of it. */
struct model {
    int index, page, file;
    struct hearth_progress_header *header;
    struct hearth_progress_file *progress;
    size_t page_bytes;
    uint8_t *bytes;

    atomic_uint wants;
    struct hearth_msg_want want; /* the last one */
    uint32_t flags;              /* of the ATTACH */
    atomic_bool hang_up;         /* at the next WANT */
};

static void *map_writable(int fd, size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    return at;
}

static int filling(const void *data, size_t bytes) {
    int fd = memfd_new("filling", bytes, 0);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
    return fd;
}

static struct model model_new(void) {
    static const struct test_tensor tensors[] = {
        {"first", 0, 0, 10}, {"last", 0, 2 * CHUNK, CHUNK}, {"span", 0, 4000, 200}};
    struct test_index x = index_new(1, FILE_BYTES, tensors, 3);
    struct model m = {.index = filling(x.header, x.bytes)};
    free(x.header);
    assert_int_equal(memfd_seal(m.index, SEALS_FILLING), 0);
    struct {
        struct hearth_progress_header header;
        struct hearth_progress_file file;
        uint64_t exposed, landed;
    } page = {.header = {.version = HEARTH_PROGRESS_VERSION,
                         .header_bytes = sizeof(page.header),
                         .total_bytes = sizeof(page),
                         .id = ID,
                         .chunk_bytes = CHUNK,
                         .files = sizeof(page.header),
                         .n_files = 1,
                         .state = HEARTH_PROGRESS_LOADING},
              .file = {.bytes = FILE_BYTES,
                       .exposed = (uint64_t)((char *)&page.exposed - (char *)&page),
                       .landed = (uint64_t)((char *)&page.landed - (char *)&page),
                       .n_chunks = N_CHUNKS}};
    memcpy(page.header.magic, HEARTH_PROGRESS_MAGIC, 8);
    m.page_bytes = sizeof(page);
    m.page = filling(&page, sizeof(page));
    m.header = map_writable(m.page, m.page_bytes);
    m.progress = (void *)((char *)m.header + sizeof(page.header));
    assert_int_equal(memfd_seal(m.page, SEALS_FILLING | F_SEAL_SEAL), 0);
    m.file = memfd_new("file", FILE_BYTES, 0);
    m.bytes = map_writable(m.file, FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        m.bytes[i] = (uint8_t)(i * 7);
    assert_int_equal(memfd_seal(m.file, SEALS_FILLING), 0);
    return m;
}

static void tell(struct model *m) {
    __atomic_add_fetch(&m->header->sequence, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &m->header->sequence, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void set_bits(struct model *m, uint64_t at, uint64_t bits) {
    __atomic_fetch_or((uint64_t *)(void *)((char *)m->header + at), bits, __ATOMIC_RELEASE);
    tell(m);
}

static void set_state(struct model *m, uint32_t state) {
    __atomic_store_n(&m->header->state, state, __ATOMIC_RELEASE);
    tell(m);
}

static void finish(struct model *m) {
    if (m->bytes) {
        munmap(m->bytes, FILE_BYTES);
        m->bytes = NULL;
        assert_int_equal(memfd_seal(m->file, SEALS_FINAL), 0);
        assert_int_equal(memfd_seal(m->index, SEALS_FINAL), 0);
    }
    set_bits(m, m->progress->exposed, (1 << N_CHUNKS) - 1);
    __atomic_store_n(&m->progress->flags, HEARTH_PROGRESS_SETTLED, __ATOMIC_RELEASE);
    set_state(m, HEARTH_PROGRESS_RESIDENT);
}

static void sd_streaming(struct scripted *s, int fd, uint32_t serial, const struct model *m) {
    struct hearth_msg_attached *a = wire_begin(&s->out, HEARTH_MSG_ATTACHED, serial, sizeof(*a));
    *a = (struct hearth_msg_attached){.id = ID, .n_files = 1, .n_fds = 1, .flags = HEARTH_ATTACHED_STREAMING};
    struct fdlist fds = {.count = 3, .fds = {m->index, m->page, m->file}};
    sd_send(s, fd, &fds);
}

/* Exposes what is wanted, a little later. */
static void serve(struct scripted *s, int fd) {
    struct model *m = s->arg;
    int type;
    while ((type = sd_read(s, fd)) != 0) {
        uint32_t serial = sd_serial(s);
        if (type == HEARTH_MSG_ATTACH) {
            struct hearth_msg_attach a;
            wire_fixed(&s->in, &a, sizeof(a));
            m->flags = a.flags;
            sd_streaming(s, fd, serial, m);
        } else if (type == HEARTH_MSG_WANT) {
            wire_fixed(&s->in, &m->want, sizeof(m->want));
            m->wants++;
            if (m->hang_up)
                return;
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            for (uint64_t c = m->want.offset / CHUNK; c * CHUNK < m->want.offset + m->want.length; c++)
                set_bits(m, m->progress->exposed, UINT64_C(1) << c);
        } else {
            sd_done(s, fd, serial);
        }
    }
}

static struct hearth_error err;

static struct hearth_artifact *attach(struct hearth *h, unsigned flags) {
    struct hearth_artifact *a;
    if (hearth_attach_stream(h, ID, flags, HEARTH_NO_DEADLINE, &a, &err))
        fail_msg("%s (%s)", err.message, err.expected);
    return a;
}

static void end(struct hearth *h, struct scripted *s, struct model *m) {
    hearth_close(h);
    scripted_stop(s);
    munmap(m->header, m->page_bytes);
    if (m->bytes)
        munmap(m->bytes, FILE_BYTES);
    close(m->index);
    close(m->page);
    close(m->file);
}

static void expect_bytes(const void *data, uint64_t offset, uint64_t length) {
    for (uint64_t i = 0; i < length; i++)
        assert_int_equal(((const uint8_t *)data)[i], (uint8_t)((offset + i) * 7));
}

static void what_is_waited_for_is_wanted_once_and_given_when_it_is_there(void **state) {
    (void)state;
    struct model m = model_new();
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a = attach(h, 0);
    struct hearth_tensor t;
    struct hearth_stream p;
    struct hearth_file f;
    const void *at;
    assert_int_equal(m.flags, HEARTH_ATTACH_ALL | HEARTH_ATTACH_STREAM);
    assert_int_equal(hearth_tensor_at(a, 1, &t, &err), 0);
    assert_string_equal(t.name, "last");
    assert_null(t.data);
    assert_int_equal(hearth_find_tensor(a, NULL, "span", HEARTH_NO_DEADLINE, &t, &err), 0);
    expect_bytes(t.data, 4000, 200);
    assert_int_equal(m.wants, 1);
    assert_int_equal(m.want.id, ID);
    assert_int_equal(m.want.offset, 4000);
    assert_int_equal(m.want.length, 200);
    assert_int_equal(hearth_stream_progress(a, &p, &err), 0);
    assert_int_equal(p.bytes, FILE_BYTES);
    assert_int_equal(p.exposed, 2 * CHUNK);
    assert_int_equal(p.landed, 0);
    assert_false(p.resident);
    assert_int_equal(hearth_find_tensor(a, NULL, "first", 0, &t, &err), 0); /* what is there needs nobody */
    assert_int_equal(hearth_wait_range(a, 0, FILE_BYTES, 0, 0, &at, &err), 0);
    assert_int_equal(hearth_wait_range(a, 0, FILE_BYTES, 1, 0, &at, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_wait_range(a, 0, 1, UINT64_MAX, 0, &at, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_wait_range(a, 1, 0, 0, 0, &at, &err), HEARTH_E_INVALID);
    assert_int_equal(m.wants, 1);
    assert_int_equal(hearth_wait_resident(a, hearth_deadline_in(20), &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_wait_range(a, 0, 3 * CHUNK - 1, 1, HEARTH_NO_DEADLINE, &at, &err), 0);
    expect_bytes(at, 3 * CHUNK - 1, 1);
    assert_int_equal(m.wants, 2);
    m.progress->verified = HEARTH_VERIFIED_MATCHED;
    assert_int_equal(hearth_file_at(a, 0, &f, &err), 0);
    assert_int_equal(f.verified, HEARTH_VERIFIED_MATCHED);
    assert_false(hearth_file_settled(a, 0));
    finish(&m);
    assert_int_equal(hearth_wait_resident(a, 0, &err), 0);
    assert_true(hearth_file_settled(a, 0));
    assert_false(hearth_file_settled(a, 1));
    assert_int_equal(hearth_file_at(a, 0, &f, &err), 0);
    assert_int_equal(f.verified, HEARTH_VERIFIED_NONE); /* now as the index says */
    assert_int_equal(hearth_file_map(a, 0, 0, &at, &err), 0);
    expect_bytes(at, 0, FILE_BYTES);
    end(h, s, &m);
}

static void speculative_bytes_are_those_that_have_landed(void **state) {
    (void)state;
    struct model m = model_new();
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *bold = attach(h, HEARTH_STREAM_SPECULATIVE), *a = attach(h, 0);
    struct hearth_tensor t;
    assert_int_equal(hearth_attach_stream(h, ID, 2, 0, &(struct hearth_artifact *){NULL}, &err), HEARTH_E_INVALID);
    set_bits(&m, m.progress->landed, 1);
    assert_int_equal(hearth_tensor_at(bold, 0, &t, &err), 0);
    assert_non_null(t.data);
    assert_int_equal(hearth_tensor_at(a, 0, &t, &err), 0);
    assert_null(t.data);
    end(h, s, &m);
}

static void a_load_that_fails_fails_everything(void **state) {
    (void)state;
    struct model m = model_new();
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a = attach(h, 0);
    struct hearth_tensor t;
    struct hearth_stream p;
    const void *at;
    set_bits(&m, m.progress->exposed, 1);
    assert_int_equal(hearth_find_tensor(a, NULL, "first", 0, &t, &err), 0);
    error_set(&m.header->error, HEARTH_E_INTEGRITY, "it is not what it should be");
    error_at(&m.header->error, "f00000", 5);
    memset(m.header->error.hint, 'x', sizeof(m.header->error.hint)); /* no NUL */
    set_state(&m, HEARTH_PROGRESS_FAILED);
    assert_int_equal(hearth_find_tensor(a, NULL, "first", 0, &t, &err), HEARTH_E_INTEGRITY);
    assert_string_equal(err.message, "it is not what it should be");
    assert_string_equal(err.file, "f00000");
    assert_int_equal(err.offset, 5);
    assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
    assert_int_equal(hearth_tensor_at(a, 0, &t, NULL), HEARTH_E_INTEGRITY);
    assert_int_equal(hearth_wait_range(a, 0, 0, 1, 0, &at, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(hearth_wait_resident(a, 0, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(hearth_file_map(a, 0, 0, &at, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(hearth_file_fd(a, 0, 0, &err), -1);
    assert_int_equal(hearth_leased_fd(a, 0, 0, &err), -1);
    assert_int_equal(hearth_stream_progress(a, &p, &err), HEARTH_E_INTEGRITY);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0); /* the connection lives */
    end(h, s, &m);
}

static void a_daemon_that_hangs_up_is_seen_by_who_waits(void **state) {
    (void)state;
    struct model m = model_new();
    m.hang_up = true;
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a = attach(h, 0);
    struct hearth_tensor t;
    set_bits(&m, m.progress->exposed, 1);
    assert_int_equal(hearth_find_tensor(a, NULL, "last", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_DISCONNECTED);
    assert_int_equal(hearth_find_tensor(a, NULL, "first", 0, &t, &err), 0);
    assert_int_equal(hearth_wait_resident(a, HEARTH_NO_DEADLINE, &err), HEARTH_E_DISCONNECTED);
    end(h, s, &m);
}

static void a_forked_child_has_what_is_there_and_waits_for_nothing(void **state) {
    (void)state;
    struct model m = model_new();
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a = attach(h, 0);
    set_bits(&m, m.progress->exposed, 1);
    pid_t child = fork();
    if (child == 0) {
        struct hearth_tensor t;
        bool good = hearth_find_tensor(a, NULL, "first", 0, &t, &err) == 0 &&
                    hearth_find_tensor(a, NULL, "last", HEARTH_NO_DEADLINE, &t, &err) == HEARTH_E_INVALID;
        hearth_close(h);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    end(h, s, &m);
}

static void what_is_not_sealed_in_the_end_is_not_trusted(void **state) {
    (void)state;
    struct model m = model_new();
    struct scripted *s = scripted_start(serve, &m, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a = attach(h, 0);
    struct hearth_tensor t;
    set_bits(&m, m.progress->exposed, 7);
    set_state(&m, HEARTH_PROGRESS_RESIDENT);
    assert_int_equal(hearth_find_tensor(a, NULL, "first", 0, &t, &err), HEARTH_E_PROTOCOL);
    assert_int_equal(hearth_wait_resident(a, 0, &err), HEARTH_E_PROTOCOL);
    end(h, s, &m);
}

/* ---- pages that are none ---- */

static void of_another_artifact(struct model *m) {
    m->header->id++;
}
static void without_magic(struct model *m) {
    m->header->magic[0]++;
}
static void of_another_version(struct model *m) {
    m->header->version++;
}
static void with_no_chunks(struct model *m) {
    m->header->chunk_bytes = 0;
}
static void with_too_many_files(struct model *m) {
    m->header->n_files = UINT32_MAX;
}
static void with_files_outside(struct model *m) {
    m->header->files = UINT64_MAX - 7;
}
static void longer_than_it_is(struct model *m) {
    m->header->total_bytes++;
}
static void with_bits_outside(struct model *m) {
    m->progress->exposed = m->page_bytes;
}
static void with_bits_far_outside(struct model *m) {
    m->progress->landed = UINT64_MAX - 7;
}
static void with_another_count(struct model *m) {
    m->progress->n_chunks++;
}
static void of_another_size(struct model *m) {
    m->progress->bytes--;
}

static void a_page_that_is_none_is_refused(void **state) {
    (void)state;
    static void (*const damages[])(struct model *) = {of_another_artifact, without_magic,       of_another_version,
                                                      with_no_chunks,      with_too_many_files, with_files_outside,
                                                      longer_than_it_is,   with_bits_outside,   with_bits_far_outside,
                                                      with_another_count,  of_another_size};
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        struct model m = model_new();
        damages[i](&m);
        struct scripted *s = scripted_start(serve, &m, false);
        struct hearth *h = scripted_connect(s);
        struct hearth_artifact *a = (void *)1;
        int code = hearth_attach_stream(h, ID, 0, HEARTH_NO_DEADLINE, &a, &err);
        assert_int_equal(code, damages[i] == of_another_version ? HEARTH_E_UNSUPPORTED : HEARTH_E_PROTOCOL);
        assert_null(a);
        end(h, s, &m);
    }
}

static void a_page_or_file_that_others_could_change_is_refused(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct model m = model_new();
        int *fd = i == 0 ? &m.index : i == 1 ? &m.page : &m.file;
        int open_one = memfd_new("open", FILE_BYTES, 0);
        struct stat st;
        assert_int_equal(fstat(*fd, &st), 0);
        assert_int_equal(ftruncate(open_one, st.st_size), 0);
        void *from = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, *fd, 0);
        assert_int_equal(pwrite(open_one, from, (size_t)st.st_size, 0), st.st_size);
        munmap(from, (size_t)st.st_size);
        close(*fd);
        *fd = open_one;
        struct scripted *s = scripted_start(serve, &m, false);
        struct hearth *h = scripted_connect(s);
        struct hearth_artifact *a;
        const void *at;
        int code = hearth_attach_stream(h, ID, 0, HEARTH_NO_DEADLINE, &a, &err);
        if (i == 2) {
            assert_int_equal(code, 0);
            code = hearth_wait_range(a, 0, 0, 1, 0, &at, &err);
        }
        assert_int_equal(code, HEARTH_E_PROTOCOL);
        end(h, s, &m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_waited_for_is_wanted_once_and_given_when_it_is_there),
        cmocka_unit_test(speculative_bytes_are_those_that_have_landed),
        cmocka_unit_test(a_load_that_fails_fails_everything),
        cmocka_unit_test(a_daemon_that_hangs_up_is_seen_by_who_waits),
        cmocka_unit_test(a_forked_child_has_what_is_there_and_waits_for_nothing),
        cmocka_unit_test(what_is_not_sealed_in_the_end_is_not_trusted),
        cmocka_unit_test(a_page_that_is_none_is_refused),
        cmocka_unit_test(a_page_or_file_that_others_could_change_is_refused),
    };
    return cmocka_run_group_tests_name("client_stream", tests, NULL, NULL);
}
