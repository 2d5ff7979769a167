/* tests/unit/scripted_daemon.h: a daemon that does what a test says, honest or hostile, and artifacts to hand out.
 *
 * A thread listens on a socket in a directory of its own, accepts one connection after another and runs the test's
 * script on each. Scripts may not use cmocka's asserts (they jump, in the wrong thread): they use CHECK, and
 * scripted_stop() fails the test for them. It also fails the test when a descriptor has been left open.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/fdlist.h"
#include "util/kernel.h"
#include "util/memfd.h"
#include "util/wire.h"

#define UNUSED __attribute__((unused))

struct scripted {
    char dir[32], path[64];
    int listener;
    pthread_t thread;
    void (*script)(struct scripted *s, int fd);
    void *arg;
    bool raw_hello;      /* the script answers HELLO itself */
    atomic_int failed;   /* the line of the first CHECK that did not hold */
    atomic_int detached; /* DETACH messages that scripts have read */
    int fds_before;
    struct wire_in in; /* the packet read last */
    struct wire_out out;
    _Alignas(8) uint8_t buffer[HEARTH_PACKET_MAX];
};

#define CHECK(s, condition)                                                 \
    do {                                                                    \
        int none_ = 0;                                                      \
        if (!(condition))                                                   \
            atomic_compare_exchange_strong(&(s)->failed, &none_, __LINE__); \
    } while (0)

static UNUSED int count_fds(void) {
    int n = 0;
    _cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    return n;
}

/* ---- what scripts do ---- */

/* Reads the next packet into s->in. Its type, or 0 at the end. */
static UNUSED int sd_read(struct scripted *s, int fd) {
    ssize_t n;
    do
        n = recv(fd, s->buffer, sizeof(s->buffer), 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return 0;
    CHECK(s, wire_open(&s->in, s->buffer, (size_t)n) == 0);
    if (s->in.header.type == HEARTH_MSG_DETACH)
        atomic_fetch_add(&s->detached, 1);
    return s->in.header.type;
}

static UNUSED uint32_t sd_serial(const struct scripted *s) {
    return s->in.header.serial;
}

static UNUSED bool sd_expect(struct scripted *s, int fd, int type) {
    int got = sd_read(s, fd);
    CHECK(s, got == type);
    return got == type;
}

static UNUSED void sd_send(struct scripted *s, int fd, const struct fdlist *fds) {
    long bytes = wire_end(&s->out);
    int r = bytes > 0 ? fdlist_send(fd, s->out.buffer, (size_t)bytes, fds) : -EMSGSIZE;
    CHECK(s, r == 0 || r == -EPIPE); /* a client may hang up without waiting */
}

static UNUSED void sd_done(struct scripted *s, int fd, uint32_t serial) {
    (void)wire_begin(&s->out, HEARTH_MSG_DONE, serial, sizeof(struct hearth_msg_done));
    sd_send(s, fd, NULL);
}

static UNUSED void sd_info(struct scripted *s, int fd, int type, uint32_t serial, uint64_t id,
                           enum hearth_state state) {
    struct hearth_msg_info *m = wire_begin(&s->out, (enum hearth_msg_type)type, serial, sizeof(*m));
    m->id = id;
    m->state = state;
    m->bytes = 1000;
    m->phases[HEARTH_PHASE_HASH].end_ns = 77;
    m->ref = wire_put_str(&s->out, "/models/a");
    sd_send(s, fd, NULL);
}

static UNUSED void sd_error(struct scripted *s, int fd, uint32_t serial, enum hearth_code code, const char *message) {
    struct hearth_error e;
    error_set(&e, code, "%s", message);
    error_at(&e, "weights.bin", 42);
    error_expected(&e, "this");
    error_found(&e, "that");
    error_hint(&e, "mend it");
    CHECK(s, wire_error(&s->out, serial, &e) > 0);
    sd_send(s, fd, NULL);
}

/* The files 0 .. n_fds - 1, all of them `file`. */
static UNUSED void sd_attached(struct scripted *s, int fd, uint32_t serial, uint64_t id, uint32_t n_files,
                               uint32_t n_fds, int index, int file) {
    struct hearth_msg_attached *m = wire_begin(&s->out, HEARTH_MSG_ATTACHED, serial, sizeof(*m));
    *m = (struct hearth_msg_attached){.id = id, .n_files = n_files, .n_fds = n_fds};
    struct fdlist fds = {.count = n_fds + 1, .fds = {index}};
    for (uint32_t i = 0; i < n_fds; i++)
        fds.fds[i + 1] = file;
    sd_send(s, fd, &fds);
}

/* Answers a FILES that has been read with `n` descriptors. */
static UNUSED void sd_fds(struct scripted *s, int fd, uint32_t serial, uint64_t id, uint32_t n, int file) {
    struct hearth_msg_fds *m = wire_begin(&s->out, HEARTH_MSG_FDS, serial, sizeof(*m));
    *m = (struct hearth_msg_fds){.id = id, .n_fds = n};
    struct fdlist fds = {.count = n};
    for (uint32_t i = 0; i < n; i++)
        fds.fds[i] = file;
    sd_send(s, fd, &fds);
}

static UNUSED void sd_welcome(struct scripted *s, int fd, uint32_t version) {
    if (!sd_expect(s, fd, HEARTH_MSG_HELLO))
        return;
    struct hearth_msg_welcome *m = wire_begin(&s->out, HEARTH_MSG_WELCOME, sd_serial(s), sizeof(*m));
    m->version = version;
    m->server = wire_put_str(&s->out, "scripted");
    sd_send(s, fd, NULL);
}

/* Reads until the client hangs up. */
static UNUSED void sd_drain(struct scripted *s, int fd) {
    while (sd_read(s, fd))
        ;
}

/* ---- its life ---- */

static UNUSED void *scripted_main(void *arg) {
    struct scripted *s = arg;
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL; /* shut down by scripted_stop() */
        if (!s->raw_hello)
            sd_welcome(s, fd, HEARTH_PROTOCOL_MAX);
        s->script(s, fd);
        close(fd);
    }
}

static UNUSED struct scripted *scripted_start(void (*script)(struct scripted *s, int fd), void *arg, bool raw_hello) {
    struct scripted *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->fds_before = count_fds();
    s->script = script;
    s->arg = arg;
    s->raw_hello = raw_hello;
    strcpy(s->dir, "/tmp/hearth-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/socket", s->dir);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, s->path, sizeof(s->path));
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, scripted_main, s), 0);
    return s;
}

/* Ends it. Fails the test for a CHECK that did not hold, and for descriptors that are open and were not before. */
static UNUSED int scripted_stop(struct scripted *s) {
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    unlink(s->path);
    rmdir(s->dir);
    if (s->failed)
        fail_msg("a CHECK of the script failed in line %d", s->failed);
    assert_int_equal(count_fds(), s->fds_before);
    int detached = s->detached;
    free(s);
    return detached;
}

static UNUSED struct hearth *scripted_connect(struct scripted *s) {
    struct hearth *h = NULL;
    struct hearth_error err;
    if (hearth_connect(s->path, HEARTH_NO_DEADLINE, &h, &err))
        fail_msg("hearth_connect: %s", err.message);
    return h;
}

/* ---- artifacts ---- */

struct test_tensor {
    const char *name;
    uint32_t file;
    uint64_t offset, bytes;
};

struct test_index {
    struct hearth_index_header *header; /* the whole index, to be changed before index_fd() */
    struct hearth_index_file *files;
    struct hearth_index_tensor *tensors;
    size_t bytes;
};

static UNUSED struct hearth_str put_string(struct test_index *x, const char *s) {
    struct hearth_str r = {(uint32_t)x->header->strings.count, (uint32_t)strlen(s)};
    memcpy((char *)x->header + x->header->strings.offset + r.offset, s, r.length + 1);
    x->header->strings.count += r.length + 1;
    return r;
}

/* Files are called "f00000", "f00001", ...; every tensor is a vector of bytes. Tensors are to be given in order. */
static UNUSED struct test_index index_new(size_t n_files, uint64_t file_bytes, const struct test_tensor *tensors,
                                          size_t n_tensors) {
    struct test_index x = {0};
    size_t files = sizeof(*x.header), table = files + n_files * sizeof(*x.files);
    size_t dims = table + n_tensors * sizeof(*x.tensors), strings = dims + n_tensors * 8;
    size_t room = 64 + n_files * 8;
    for (size_t i = 0; i < n_tensors; i++)
        room += strlen(tensors[i].name) + 1;
    x.bytes = strings + room;
    x.header = calloc(1, x.bytes);
    assert_non_null(x.header);
    x.files = (void *)((char *)x.header + files);
    x.tensors = (void *)((char *)x.header + table);
    *x.header = (struct hearth_index_header){
        .version = HEARTH_INDEX_VERSION,
        .header_bytes = sizeof(*x.header),
        .total_bytes = x.bytes,
        .id = 7,
        .files = {files, n_files},
        .tensors = {table, n_tensors},
        .dims = {dims, n_tensors},
        .metadata = {strings, 0},
        .findings = {strings, 0},
        .strings = {strings, 0},
    };
    memcpy(x.header->magic, HEARTH_INDEX_MAGIC, 8);
    x.header->ref = put_string(&x, "/models/a");
    struct hearth_str dtype = put_string(&x, "U8");
    for (size_t i = 0; i < n_files; i++) {
        char name[32];
        snprintf(name, sizeof(name), "f%05zu", i);
        x.files[i] = (struct hearth_index_file){.path = put_string(&x, name), .bytes = file_bytes};
    }
    for (size_t i = 0; i < n_tensors; i++) {
        x.tensors[i] = (struct hearth_index_tensor){
            .name = put_string(&x, tensors[i].name),
            .dtype = dtype,
            .offset = tensors[i].offset,
            .bytes = tensors[i].bytes,
            .dims_first = i,
            .n_dims = 1,
            .file = tensors[i].file,
        };
        memcpy((char *)x.header + dims + i * 8, &tensors[i].bytes, 8);
    }
    return x;
}

/* A sealed memfd of the index, which is freed. */
static UNUSED int index_fd(struct test_index *x) {
    int fd = memfd_from_bytes("index", x->header, x->bytes);
    assert_true(fd >= 0);
    free(x->header);
    *x = (struct test_index){0};
    return fd;
}

/* A sealed memfd whose byte i is i * 7. */
static UNUSED int pattern_fd(size_t bytes) {
    _cleanup_free_ uint8_t *data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7);
    int fd = memfd_from_bytes("file", data, bytes);
    assert_true(fd >= 0);
    return fd;
}
