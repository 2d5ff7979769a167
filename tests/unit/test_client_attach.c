/* ipc/client: attaching, mapping, finding tensors; descriptors and indexes that must not be trusted. */
#include "tests/unit/scripted_daemon.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#define FILE_BYTES 4096u
#define ID 7u

/* What the honest script hands out: `n` files, all of them `file`. */
struct model {
    int index, file;
    uint32_t n, at_once; /* with ATTACH */
    atomic_uint rounds;  /* FILES that were read */
};

static void serve_model(struct scripted *s, int fd) {
    struct model *m = s->arg;
    int type;
    while ((type = sd_read(s, fd)) != 0) {
        uint32_t serial = sd_serial(s);
        if (type == HEARTH_MSG_ATTACH) {
            struct hearth_msg_attach a;
            wire_fixed(&s->in, &a, sizeof(a));
            CHECK(s, a.id == ID);
            sd_attached(s, fd, serial, ID, m->n, a.flags & HEARTH_ATTACH_ALL ? m->at_once : 0, m->index, m->file);
        } else if (type == HEARTH_MSG_FILES) {
            struct hearth_msg_files f;
            const void *list;
            wire_fixed(&s->in, &f, sizeof(f));
            CHECK(s, wire_get_list(&s->in, f.files, sizeof(uint32_t), &list) == 0);
            CHECK(s, f.files.count > 0 && f.files.count <= HEARTH_PACKET_FDS_MAX);
            for (uint32_t i = 0; i < f.files.count; i++)
                CHECK(s, ((const uint32_t *)list)[i] < m->n);
            m->rounds++;
            sd_fds(s, fd, serial, ID, f.files.count, m->file);
        } else {
            sd_done(s, fd, serial);
        }
    }
}

static const struct test_tensor tensors[] = {
    {"", 0, 0, 1}, {"a", 0, 10, 20}, {"a.b", 1, 0, 4096}, {"dup", 0, 1, 1}, {"dup", 1, 2, 2}, {"z", 1, 4096, 0},
};
#define N_TENSORS (sizeof(tensors) / sizeof(tensors[0]))

static struct model model_new(uint32_t n, uint64_t file_bytes, const struct test_tensor *t, size_t n_tensors) {
    struct test_index x = index_new(n, file_bytes, t, n_tensors);
    return (struct model){.index = index_fd(&x), .file = pattern_fd(file_bytes), .n = n, .at_once = n};
}

static struct hearth *begin(void (*script)(struct scripted *s, int fd), struct model *m, struct scripted **s) {
    *s = scripted_start(script, m, false);
    return scripted_connect(*s);
}

/* Returns how many leases were given back before the connection closed. */
static int end(struct hearth *h, struct scripted *s, struct model *m) {
    hearth_close(h);
    int detached = scripted_stop(s);
    close(m->index);
    close(m->file);
    return detached;
}

static void attached_tensors_are_found_with_their_bytes(void **state) {
    (void)state;
    struct model m = model_new(2, FILE_BYTES, tensors, N_TENSORS);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    struct hearth_tensor t;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(hearth_tensor_count(a), N_TENSORS);
    assert_int_equal(hearth_file_count(a), 2);
    assert_string_equal(hearth_index_string(a, hearth_index(a)->ref), "/models/a");
    for (size_t i = 0; i < N_TENSORS; i++) {
        assert_int_equal(hearth_tensor_at(a, i, &t, &err), 0);
        assert_string_equal(t.name, tensors[i].name);
        assert_int_equal(t.bytes, tensors[i].bytes);
        assert_int_equal(t.n_dims, 1);
        assert_int_equal(t.shape[0], tensors[i].bytes);
        assert_string_equal(t.dtype, "U8");
        for (size_t j = 0; j < t.bytes; j++)
            assert_int_equal(((const uint8_t *)t.data)[j], (uint8_t)((tensors[i].offset + j) * 7));
    }
    assert_int_equal(hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_int_equal(t.offset, 10);
    assert_int_equal(hearth_find_tensor(a, NULL, "", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_int_equal(hearth_find_tensor(a, "f00001", "a.b", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_int_equal(hearth_find_tensor(a, "f00000", "a.b", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_NOT_FOUND);
    assert_int_equal(hearth_find_tensor(a, NULL, "aa", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_NOT_FOUND);
    assert_int_equal(hearth_find_tensor(a, NULL, "zz", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "zz"));
    assert_int_equal(hearth_find_tensor(a, NULL, "dup", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_INVALID);
    assert_string_equal(err.found, "one in f00000, one in f00001");
    assert_int_equal(hearth_find_tensor(a, "f00001", "dup", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_int_equal(t.file, 1);
    assert_int_equal(t.offset, 2);
    assert_int_equal(hearth_find_tensor(a, "nofile", "dup", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_NOT_FOUND);
    assert_int_equal(hearth_tensor_at(a, N_TENSORS, &t, &err), HEARTH_E_INVALID);

    struct hearth_file f;
    size_t number;
    assert_int_equal(hearth_file_find(a, "f00001", &number, &err), 0);
    assert_int_equal(number, 1);
    assert_int_equal(hearth_file_at(a, number, &f, &err), 0);
    assert_int_equal(f.bytes, FILE_BYTES);
    assert_null(f.sha256);
    assert_int_equal(hearth_file_at(a, 2, &f, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_file_find(a, "f0000", &number, &err), HEARTH_E_NOT_FOUND);
    assert_int_equal(hearth_file_fd(a, 2, HEARTH_NO_DEADLINE, &err), -1);
    int fd = hearth_file_fd(a, 1, HEARTH_NO_DEADLINE, &err);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(m.rounds, 0);
    assert_null(hearth_release(a));
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0); /* in order: DETACH has been read */
    assert_int_equal(end(h, s, &m), 1);
}

static void only_the_files_asked_for_are_fetched_the_others_at_first_use(void **state) {
    (void)state;
    struct model m = model_new(3, FILE_BYTES, tensors, N_TENSORS);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    struct hearth_tensor t;
    const void *map;
    assert_int_equal(hearth_attach_files(h, ID, NULL, 0, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(m.rounds, 0);
    assert_int_equal(hearth_tensor_at(a, 1, &t, &err), 0);
    assert_null(t.data);
    assert_int_equal(hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_non_null(t.data);
    assert_int_equal(m.rounds, 1);
    assert_int_equal(hearth_file_map(a, 2, HEARTH_NO_DEADLINE, &map, &err), 0);
    assert_int_equal(m.rounds, 2);
    hearth_release(a);

    const char *const paths[] = {"f00002", "f00000", "f00002"};
    assert_int_equal(hearth_attach_files(h, ID, paths, 3, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(m.rounds, 3);
    assert_true(hearth_file_fd(a, 2, 0, &err) >= 0);
    assert_int_equal(m.rounds, 3);
    const char *const missing[] = {"f00002", "nothing"};
    struct hearth_artifact *b;
    assert_int_equal(hearth_attach_files(h, ID, missing, 2, HEARTH_NO_DEADLINE, &b, &err), HEARTH_E_NOT_FOUND);
    assert_null(b);
    assert_string_equal(err.file, "nothing");
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0);
    assert_int_equal(end(h, s, &m), 2); /* a goes with the connection */
}

static void thousands_of_files_come_in_rounds_of_what_one_packet_holds(void **state) {
    (void)state;
    const uint32_t n = 1500;
    struct rlimit before, more;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    more = before;
    if (more.rlim_cur < 4096)
        more.rlim_cur = before.rlim_max < 4096 ? before.rlim_max : 4096;
    if (more.rlim_cur < n + 100) {
        print_message("skipped: the hard limit of open files is below %u\n", n + 100);
        skip();
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    struct model m = model_new(n, FILE_BYTES, NULL, 0);
    m.at_once = HEARTH_PACKET_FDS_MAX - 1;
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(m.rounds, (n - m.at_once + HEARTH_PACKET_FDS_MAX - 1) / HEARTH_PACKET_FDS_MAX);
    for (uint32_t i = 0; i < n; i += 7) {
        const void *map;
        assert_int_equal(hearth_file_map(a, i, HEARTH_NO_DEADLINE, &map, &err), 0);
        assert_int_equal(((const uint8_t *)map)[FILE_BYTES - 1], (uint8_t)((FILE_BYTES - 1) * 7));
    }
    hearth_release(a);
    end(h, s, &m);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void large_files_are_mapped_where_huge_pages_fit(void **state) {
    (void)state;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), huge = page * page / 8;
    uint64_t bytes = huge + 5;
    struct test_index x = index_new(3, bytes, NULL, 0);
    struct model m = {.index = index_fd(&x), .n = 3, .at_once = 3};
    m.file = memfd_new("large", bytes, 0); /* sparse */
    assert_int_equal(memfd_seal(m.file, SEALS_FINAL), 0);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    const void *first[3] = {NULL};
    for (int round = 0; round < 3; round++) {
        struct hearth_artifact *a;
        assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, NULL), 0);
        for (size_t i = 0; i < 3; i++) {
            const void *map, *again;
            assert_int_equal(hearth_file_map(a, i, HEARTH_NO_DEADLINE, &map, NULL), 0);
            assert_int_equal((uintptr_t)map % huge, 0);
            assert_int_equal(((const uint8_t *)map)[bytes - 1], 0);
            assert_int_equal(hearth_file_map(a, i, HEARTH_NO_DEADLINE, &again, NULL), 0);
            assert_ptr_equal(map, again);
            if (round == 0)
                first[i] = map;
            if (round == 2) /* attaching again and again does not wander through the address space */
                assert_true((uintptr_t)first[i] - (uintptr_t)map < 16 * huge ||
                            (uintptr_t)map - (uintptr_t)first[i] < 16 * huge);
        }
        hearth_release(a);
    }
    end(h, s, &m);
}

static void an_empty_file_has_a_pointer_and_no_bytes(void **state) {
    (void)state;
    struct model m = model_new(1, 0, NULL, 0);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    const void *map = NULL;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, NULL), 0);
    assert_int_equal(hearth_file_map(a, 0, HEARTH_NO_DEADLINE, &map, NULL), 0);
    assert_non_null(map);
    end(h, s, &m);
}

static void a_hugetlb_file_may_be_longer_than_its_content(void **state) {
    (void)state;
    int fd = memfd_new("huge", 0, MFD_HUGETLB);
    struct statfs fs = {0};
    if (fd < 0 || fstatfs(fd, &fs) < 0 || ftruncate(fd, fs.f_bsize) < 0) {
        close_fd(fd);
        print_message("skipped: the kernel makes no hugetlb memfds here\n");
        skip();
    }
    void *p = mmap(NULL, (size_t)fs.f_bsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        close(fd);
        print_message("skipped: the pool of huge pages is empty\n");
        skip();
    }
    memset(p, 3, 100);
    munmap(p, (size_t)fs.f_bsize);
    assert_int_equal(memfd_seal(fd, SEALS_FINAL), 0);
    struct test_index x = index_new(1, 100, NULL, 0);
    struct model m = {.index = index_fd(&x), .file = fd, .n = 1, .at_once = 1};
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    const void *map;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, NULL), 0);
    if (hearth_file_map(a, 0, HEARTH_NO_DEADLINE, &map, &err))
        fail_msg("%s", err.message);
    assert_int_equal(((const uint8_t *)map)[99], 3);
    end(h, s, &m);
}

/* ---- what must not be trusted ---- */

static int unsealed(int seals, size_t bytes) {
    int fd = memfd_new("unsealed", bytes, 0);
    assert_true(fd >= 0);
    if (seals)
        assert_int_equal(memfd_seal(fd, seals), 0);
    return fd;
}

static void files_that_could_change_or_shrink_are_refused(void **state) {
    (void)state;
    int fds[] = {
        unsealed(0, FILE_BYTES),
        unsealed(SEALS_FILLING, FILE_BYTES),
        unsealed(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, FILE_BYTES),
        unsealed(SEALS_FINAL, FILE_BYTES - 1),
        unsealed(SEALS_FINAL, FILE_BYTES + 1),
        open("/etc/passwd", O_RDONLY | O_CLOEXEC),
        open("/", O_PATH | O_CLOEXEC),
    };
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        struct test_index x = index_new(2, FILE_BYTES, tensors, N_TENSORS);
        struct model m = {.index = index_fd(&x), .file = fds[i], .n = 2, .at_once = 2};
        struct scripted *s;
        struct hearth *h = begin(serve_model, &m, &s);
        struct hearth_artifact *a;
        struct hearth_error err;
        struct hearth_tensor t;
        const void *map;
        assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
        assert_int_equal(hearth_file_map(a, 0, HEARTH_NO_DEADLINE, &map, &err), HEARTH_E_PROTOCOL);
        assert_string_equal(err.file, "f00000");
        assert_true(strlen(err.expected) > 0 && strlen(err.found) > 0);
        assert_int_equal(hearth_file_fd(a, 1, HEARTH_NO_DEADLINE, &err), -1);
        assert_int_equal(hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_PROTOCOL);
        assert_int_equal(hearth_tensor_at(a, 1, &t, &err), HEARTH_E_PROTOCOL);
        end(h, s, &m);
    }
}

static void expect_attach(struct model *m, int code) {
    struct scripted *s;
    struct hearth *h = begin(serve_model, m, &s);
    struct hearth_artifact *a;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), code);
    assert_int_equal(err.code, code);
    assert_null(a);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0); /* the connection stays usable */
    assert_int_equal(end(h, s, m), 1);                             /* the lease went back */
}

static void an_index_that_is_none_is_refused(void **state) {
    (void)state;
    for (int wrong = 0; wrong < 12; wrong++) {
        struct test_index x = index_new(2, FILE_BYTES, tensors, N_TENSORS);
        struct hearth_index_header *k = x.header;
        int code = HEARTH_E_PROTOCOL;
        switch (wrong) {
        case 0:
            k->magic[7] = '2';
            break;
        case 1:
            k->version = HEARTH_INDEX_VERSION + 1;
            code = HEARTH_E_UNSUPPORTED;
            break;
        case 2:
            k->total_bytes++;
            break;
        case 3:
            k->header_bytes = 8;
            break;
        case 4:
            k->files.count = UINT64_MAX / 8;
            break;
        case 5:
            k->tensors.offset = k->total_bytes + 8;
            break;
        case 6:
            k->dims.offset += 4;
            break;
        case 7:
            k->strings.count = k->total_bytes;
            break;
        case 8:
            k->metadata.offset = UINT64_MAX - 7;
            break;
        case 9:
            k->files.count = 1; /* not what ATTACHED says */
            break;
        case 10:
            k->header_bytes = UINT32_MAX;
            break;
        default:
            x.bytes = sizeof(*k) - 1;
            break;
        }
        struct model m = {.index = index_fd(&x), .file = pattern_fd(FILE_BYTES), .n = 2, .at_once = 2};
        expect_attach(&m, code);
    }
    struct model m = {.index = unsealed(0, FILE_BYTES), .file = pattern_fd(1), .n = 2, .at_once = 2};
    expect_attach(&m, HEARTH_E_PROTOCOL);
    m = (struct model){.index = unsealed(SEALS_FINAL, 0), .file = pattern_fd(1), .n = 2, .at_once = 2};
    expect_attach(&m, HEARTH_E_PROTOCOL);
}

static void entries_that_lead_out_of_the_index_or_a_file_are_never_followed(void **state) {
    (void)state;
    struct test_index x = index_new(2, FILE_BYTES, tensors, N_TENSORS);
    x.tensors[0].file = 2;
    x.tensors[1].offset = UINT64_MAX;
    x.tensors[2].bytes = FILE_BYTES + 1;
    x.tensors[3].dims_first = UINT64_MAX;
    x.tensors[4].n_dims = UINT32_MAX;
    x.tensors[5].name = (struct hearth_str){UINT32_MAX, UINT32_MAX};
    x.files[0].path = (struct hearth_str){0, UINT32_MAX};
    x.files[1].path.length--; /* no NUL behind it */
    struct model m = {.index = index_fd(&x), .file = pattern_fd(FILE_BYTES), .n = 2, .at_once = 2};
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    struct hearth_tensor t;
    struct hearth_file f;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(hearth_tensor_at(a, i, &t, &err), HEARTH_E_PROTOCOL);
    assert_int_equal(hearth_tensor_at(a, 5, &t, &err), 0);
    assert_string_equal(t.name, "");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(hearth_file_at(a, i, &f, &err), 0);
        assert_string_equal(f.path, "");
    }
    assert_int_equal(hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &t, &err), HEARTH_E_PROTOCOL);
    end(h, s, &m);
}

/* ---- limits, deadlines, forks, threads ---- */

static void a_full_descriptor_table_fails_the_attach_alone(void **state) {
    (void)state;
    struct model m = model_new(20, FILE_BYTES, NULL, 0);
    m.at_once = 20;
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0);
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    low = before;
    low.rlim_cur = (rlim_t)next + 5;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct hearth_artifact *a;
    struct hearth_error err;
    int code = hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(code, HEARTH_E_NO_FDS);
    assert_true(strlen(err.found) > 0 && strlen(err.hint) > 0);
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    hearth_release(a);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0);
    assert_int_equal(end(h, s, &m), 2);
}

/* Answers the first ATTACH when it has read a STOP, and takes it ill when a second one comes before. */
static void attach_late(struct scripted *s, int fd) {
    struct model *m = s->arg;
    sd_expect(s, fd, HEARTH_MSG_ATTACH);
    uint32_t late = sd_serial(s);
    sd_expect(s, fd, HEARTH_MSG_STOP);
    uint32_t serial = sd_serial(s);
    sd_attached(s, fd, late, ID, m->n, m->at_once, m->index, m->file);
    sd_done(s, fd, serial);
    serve_model(s, fd);
}

static void a_late_attach_leaves_neither_descriptors_nor_a_lease(void **state) {
    (void)state;
    struct model m = model_new(2, FILE_BYTES, NULL, 0);
    struct scripted *s;
    struct hearth *h = begin(attach_late, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    assert_int_equal(hearth_attach(h, ID, hearth_deadline_in(20), &a, &err), HEARTH_E_TIMEOUT);
    assert_null(a);
    /* Descriptors are owed: the next attach waits for those, and does not ask. */
    assert_int_equal(hearth_attach(h, ID, hearth_deadline_in(20), &a, &err), HEARTH_E_TIMEOUT);
    int before = count_fds();
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0);
    assert_int_equal(count_fds(), before);
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    hearth_release(a);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0);
    assert_int_equal(end(h, s, &m), 2);
}

/* Hands out the index alone, and never answers a FILES. */
static void keep_files(struct scripted *s, int fd) {
    struct model *m = s->arg;
    sd_expect(s, fd, HEARTH_MSG_ATTACH);
    sd_attached(s, fd, sd_serial(s), ID, m->n, 0, m->index, -1);
    sd_expect(s, fd, HEARTH_MSG_FILES);
    sd_expect(s, fd, HEARTH_MSG_STOP);
    sd_done(s, fd, sd_serial(s));
    sd_drain(s, fd);
}

static void the_first_use_of_a_file_waits_no_longer_than_its_deadline(void **state) {
    (void)state;
    struct model m = model_new(2, FILE_BYTES, tensors, N_TENSORS);
    struct scripted *s;
    struct hearth *h = begin(keep_files, &m, &s);
    struct hearth_artifact *a;
    struct hearth_error err;
    struct hearth_tensor t;
    const void *map;
    assert_int_equal(hearth_attach_files(h, ID, NULL, 0, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(hearth_find_tensor(a, NULL, "a", hearth_deadline_in(20), &t, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_find_tensor(a, NULL, "a", 0, &t, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_file_map(a, 0, hearth_deadline_in(20), &map, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_file_fd(a, 0, hearth_deadline_in(20), &err), -1);
    assert_int_equal(err.code, HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0); /* the connection stays usable */
    end(h, s, &m);
}

static void a_child_reads_on_and_releases_in_silence(void **state) {
    (void)state;
    struct model m = model_new(2, FILE_BYTES, tensors, N_TENSORS);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    struct hearth_tensor t;
    const char *const paths[] = {"f00000"};
    assert_int_equal(hearth_attach_files(h, ID, paths, 1, HEARTH_NO_DEADLINE, &a, NULL), 0);
    assert_int_equal(hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &t, NULL), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct hearth_tensor again;
        const void *map;
        bool ok = ((const uint8_t *)t.data)[1] == 77 &&
                  hearth_find_tensor(a, NULL, "a", HEARTH_NO_DEADLINE, &again, NULL) == 0 && again.data == t.data &&
                  hearth_file_map(a, 1, HEARTH_NO_DEADLINE, &map, NULL) == HEARTH_E_INVALID;
        hearth_release(a);
        hearth_close(h);
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(((const uint8_t *)t.data)[1], 77);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0);
    assert_int_equal(s->detached, 0);
    end(h, s, &m);
}

static void *read_index(void *arg) {
    struct hearth_artifact *a = arg;
    uintptr_t found = 0;
    for (int i = 0; i < 200; i++) {
        size_t file;
        struct hearth_file f;
        if (hearth_file_find(a, "f00001", &file, NULL) == 0 && hearth_file_at(a, file, &f, NULL) == 0 &&
            strcmp(f.path, "f00001") == 0 && hearth_tensor_count(a) == N_TENSORS)
            found++;
    }
    return (void *)found;
}

static void the_mapped_index_is_read_by_any_number_of_threads(void **state) {
    (void)state;
    struct model m = model_new(2, FILE_BYTES, tensors, N_TENSORS);
    struct scripted *s;
    struct hearth *h = begin(serve_model, &m, &s);
    struct hearth_artifact *a;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, NULL), 0);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_index, a), 0);
    for (size_t i = 0; i < 4; i++) {
        void *found;
        pthread_join(threads[i], &found);
        assert_int_equal((uintptr_t)found, 200);
    }
    end(h, s, &m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attached_tensors_are_found_with_their_bytes),
        cmocka_unit_test(only_the_files_asked_for_are_fetched_the_others_at_first_use),
        cmocka_unit_test(thousands_of_files_come_in_rounds_of_what_one_packet_holds),
        cmocka_unit_test(large_files_are_mapped_where_huge_pages_fit),
        cmocka_unit_test(an_empty_file_has_a_pointer_and_no_bytes),
        cmocka_unit_test(a_hugetlb_file_may_be_longer_than_its_content),
        cmocka_unit_test(files_that_could_change_or_shrink_are_refused),
        cmocka_unit_test(an_index_that_is_none_is_refused),
        cmocka_unit_test(entries_that_lead_out_of_the_index_or_a_file_are_never_followed),
        cmocka_unit_test(a_full_descriptor_table_fails_the_attach_alone),
        cmocka_unit_test(a_late_attach_leaves_neither_descriptors_nor_a_lease),
        cmocka_unit_test(the_first_use_of_a_file_waits_no_longer_than_its_deadline),
        cmocka_unit_test(a_child_reads_on_and_releases_in_silence),
        cmocka_unit_test(the_mapped_index_is_read_by_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
