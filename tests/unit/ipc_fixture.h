/* tests/unit/ipc_fixture.h: a server whose daemon answers anything, and clients that send raw packets.
 *
 * All in one thread: a client sends, turn() lets the server work until it is idle, the client reads. The end of every
 * test proves that nothing is charged any more, that each peer's gone() came exactly once, that no descriptor is left
 * open, and that the socket's directory is empty.
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
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "tests/unit/ipc_loop.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"

#define UNUSED __attribute__((unused))
#define MARKS_MAX 4096
#define HELD_MAX 8192

struct fixture {
    struct ipc_server *server;
    char dir[32], path[64];
    int fds_before;
    int file; /* what is handed out */
    unsigned dispatches;
    /* the daemon's side */
    bool hold;      /* requests are kept, not answered */
    unsigned items; /* of a LIST */
    bool paced;     /* a LIST is answered as its client reads: one at a time */
    struct {
        uint32_t serial;
        unsigned sent;
    } list;
    unsigned attach; /* descriptors in an ATTACHED */
    bool sent;       /* the last descriptors went out */
    const char *ref;
    unsigned calls[HEARTH_MSG_WANT + 1];
    struct {
        struct ipc_peer *peer;
        uint32_t serial;
    } held[HELD_MAX];
    unsigned n_held;
    struct {
        bool gone;
    } marks[MARKS_MAX]; /* one a peer that has asked for something */
    unsigned n_marks, n_gone;
    uint64_t id;
    uint32_t flags;
    size_t text; /* bytes of all strings of the last LOAD */
    struct ipc_load load;
    uint32_t files[HEARTH_PACKET_FDS_MAX];
    size_t n_files;
    /* the client's side */
    struct wire_out out;   /* the request that a test builds */
    struct wire_out hello; /* apart, as a connection may be made while a request is ready */
    struct wire_in in;     /* the packet read last */
    size_t n_fds;          /* descriptors that came with it */
    _Alignas(8) uint8_t buffer[HEARTH_PACKET_MAX];
};

/* ---- the daemon ---- */

/* True when the request is to be answered now. */
static inline bool take(struct fixture *f, struct ipc_peer *p, uint32_t serial, enum hearth_msg_type type) {
    f->calls[type]++;
    if (!ipc_peer_data(p)) {
        assert_true(f->n_marks < MARKS_MAX);
        ipc_peer_set_data(p, &f->marks[f->n_marks++]);
    }
    if (!f->hold)
        return true;
    assert_true(f->n_held < HELD_MAX);
    f->held[f->n_held].peer = p;
    f->held[f->n_held++].serial = serial;
    return false;
}

static inline void on_load(void *user, struct ipc_peer *p, uint32_t serial, const struct ipc_load *request) {
    struct fixture *f = user;
    const struct hearth_msg_info info = {.id = 5, .state = HEARTH_STATE_RESIDENT};
    f->load = *request;
    f->text = strlen(request->ref);
    for (size_t i = 0; i < request->n_include; i++)
        f->text += strlen(request->include[i]);
    for (size_t i = 0; i < request->n_exclude; i++)
        f->text += strlen(request->exclude[i]);
    for (size_t i = 0; i < request->n_digests; i++)
        f->text += strlen(request->digests[i].path);
    if (!take(f, p, serial, HEARTH_MSG_LOAD))
        return;
    if (request->flags & HEARTH_LOAD_PROGRESS)
        ipc_reply_progress(p, serial, &info, request->ref);
    ipc_reply_info(p, serial, &info, request->ref);
}

static inline void on_watch(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct fixture *f = user;
    const struct hearth_msg_info info = {.id = id, .state = HEARTH_STATE_LOADING};
    f->id = id;
    f->flags = flags;
    if (take(f, p, serial, HEARTH_MSG_WATCH))
        ipc_reply_info(p, serial, &info, f->ref);
}

static inline void fill(const struct fixture *f, struct fdlist *fds, size_t n) {
    for (fds->count = 0; fds->count < n;)
        fds->fds[fds->count++] = f->file; /* borrowed */
}

static inline void on_attach(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct fixture *f = user;
    struct fdlist fds;
    f->id = id;
    f->flags = flags;
    fill(f, &fds, f->attach);
    const struct hearth_msg_attached m = {.id = id, .n_files = f->attach - 1, .n_fds = f->attach - 1};
    if (take(f, p, serial, HEARTH_MSG_ATTACH))
        f->sent = ipc_reply_attached(p, serial, &m, &fds);
}

static inline void on_files(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, const uint32_t *files,
                            size_t n) {
    struct fixture *f = user;
    struct fdlist fds;
    f->id = id;
    memcpy(f->files, files, n * sizeof(*files));
    f->n_files = n;
    fill(f, &fds, n);
    const struct hearth_msg_fds m = {.id = id, .n_fds = (uint32_t)n};
    if (take(f, p, serial, HEARTH_MSG_FILES))
        f->sent = ipc_reply_fds(p, serial, &m, &fds);
}

/* These have no reply. */
static inline void on_detach(void *user, struct ipc_peer *p, uint64_t id) {
    struct fixture *f = user;
    (void)p;
    f->calls[HEARTH_MSG_DETACH]++;
    f->id = id;
}

static inline void on_want(void *user, struct ipc_peer *p, const struct hearth_msg_want *m) {
    struct fixture *f = user;
    (void)p;
    f->calls[HEARTH_MSG_WANT]++;
    f->id = m->id;
    f->files[0] = m->file;
}

static inline void on_cancel(void *user, struct ipc_peer *p, uint32_t serial) {
    struct fixture *f = user;
    (void)p;
    f->calls[HEARTH_MSG_CANCEL]++;
    f->id = serial;
}

static inline void on_list(void *user, struct ipc_peer *p, uint32_t serial, const char *ref) {
    (void)ref;
    struct fixture *f = user;
    if (!take(f, p, serial, HEARTH_MSG_LIST))
        return;
    if (f->paced) {
        f->list.serial = serial;
        f->list.sent = 0;
        ipc_peer_await_room(p);
        return;
    }
    for (unsigned i = 0; i < f->items; i++)
        ipc_reply_item(p, serial, &(struct hearth_msg_info){.id = i + 1}, f->ref);
    ipc_reply_done(p, serial, f->items);
}

static inline void on_room(void *user, struct ipc_peer *p) {
    struct fixture *f = user;
    assert_true(ipc_peer_has_room(p));
    for (unsigned i = 0; i < 64 && f->list.sent < f->items && ipc_peer_has_room(p); i++)
        ipc_reply_item(p, f->list.serial, &(struct hearth_msg_info){.id = ++f->list.sent}, f->ref);
    if (f->list.sent < f->items || !ipc_peer_has_room(p))
        ipc_peer_await_room(p);
    else
        ipc_reply_done(p, f->list.serial, f->items);
}

static inline void on_status(void *user, struct ipc_peer *p, uint32_t serial) {
    struct fixture *f = user;
    const struct hearth_msg_status_reply m = {.pid = 1, .clients = ipc_server_peers(f->server)};
    if (take(f, p, serial, HEARTH_MSG_STATUS))
        ipc_reply_status(p, serial, &m,
                         &(struct ipc_status_texts){.version = "1.2.3",
                                                    .socket = ipc_server_path(f->server),
                                                    .reader = "io_uring",
                                                    .direct_io = "yes",
                                                    .backing = "shmem",
                                                    .configuration = "none"});
}

static inline void on_evict(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct fixture *f = user;
    f->id = id;
    f->flags = flags;
    if (take(f, p, serial, HEARTH_MSG_EVICT))
        ipc_reply_done(p, serial, 1);
}

static inline void on_history(void *user, struct ipc_peer *p, uint32_t serial, const char *ref, uint32_t limit) {
    struct fixture *f = user;
    const struct hearth_msg_info info = {.id = limit, .state = HEARTH_STATE_FAILED};
    const struct hearth_error err = {.code = HEARTH_E_IO, .offset = 5, .message = "m", .file = "/f", .hint = "h"};
    if (!take(f, p, serial, HEARTH_MSG_HISTORY))
        return;
    ipc_reply_past(p, serial, -1, &info, ref, &err);
    ipc_reply_done(p, serial, 1);
}

static inline void on_pin(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct fixture *f = user;
    f->id = id;
    f->flags = flags;
    if (take(f, p, serial, HEARTH_MSG_PIN))
        ipc_reply_done(p, serial, 0);
}

static inline void on_stop(void *user, struct ipc_peer *p, uint32_t serial) {
    struct fixture *f = user;
    if (take(f, p, serial, HEARTH_MSG_STOP))
        ipc_reply_done(p, serial, 0);
}

static inline void on_gone(void *user, struct ipc_peer *p) {
    struct fixture *f = user;
    bool *gone = ipc_peer_data(p);
    f->n_gone += gone != NULL;
    assert_false(gone && *gone);
    if (gone)
        *gone = true;
    for (unsigned i = 0; i < f->n_held; i++)
        if (f->held[i].peer == p)
            f->held[i--] = f->held[--f->n_held];
}

static const struct ipc_handler answering UNUSED = {.load = on_load,
                                                    .watch = on_watch,
                                                    .attach = on_attach,
                                                    .files = on_files,
                                                    .detach = on_detach,
                                                    .want = on_want,
                                                    .cancel = on_cancel,
                                                    .list = on_list,
                                                    .status = on_status,
                                                    .evict = on_evict,
                                                    .history = on_history,
                                                    .pin = on_pin,
                                                    .stop = on_stop,
                                                    .gone = on_gone,
                                                    .room = on_room};

/* Lets the server work until it has nothing to do. One that spins never gets there. */
static inline void turn(struct fixture *f) {
    struct pollfd p = {.fd = f->server->epoll, .events = POLLIN};
    for (unsigned i = 0; poll(&p, 1, 0) > 0; i++) {
        assert_true(i < 100000);
        loop_server_turn(f->server);
        f->dispatches++;
    }
}

/* ---- a test's begin and end ---- */

static inline int open_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static inline void start_with(struct fixture *f, const struct ipc_options *options) {
    assert_int_equal(loop_server_new(options, &answering, f, &f->server), 0);
    assert_int_equal(ipc_server_listen(f->server, f->path, 0666, NULL), 0);
}

static inline void start(struct fixture *f) {
    start_with(f, &(struct ipc_options){.server_version = "hearthd test"});
}

static inline int fixture_begin(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_init("test", LOG_ERROR);
    f->fds_before = open_fds();
    strcpy(f->dir, "/tmp/hearth-ipc-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chmod(f->dir, 0755), 0);
    snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
    f->file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    f->items = 2;
    f->attach = 2;
    f->ref = "/models/a";
    *state = f;
    return 0;
}

static inline int fixture_end(void **state) {
    struct fixture *f = *state;
    if (f->server) {
        turn(f); /* the clients have closed their sockets */
        assert_int_equal(ipc_server_peers(f->server), 0);
        assert_null(f->server->accounts);
        assert_int_equal(f->n_held, 0);
        f->server = loop_server_free(f->server);
    }
    assert_int_equal(f->n_gone, f->n_marks);
    close_fd(f->file);
    assert_int_equal(open_fds(), f->fds_before);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

#define ipc_test(name) cmocka_unit_test_setup_teardown(name, fixture_begin, fixture_end)

/* ---- a client ---- */

static inline int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline int send_bytes(int fd, const void *packet, size_t bytes) {
    return send(fd, packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -errno;
}

/* Reads one packet: its type; 0 at the end of the connection, -errno when there is none. */
static inline int read_packet(struct fixture *f, int fd) {
    struct fdlist fds = FDLIST_NULL;
    long n = fdlist_receive(fd, f->buffer, sizeof(f->buffer), &fds);
    f->n_fds = fds.count;
    fdlist_deinit(&fds);
    if (n <= 0)
        return (int)n;
    assert_int_equal(wire_open(&f->in, f->buffer, (size_t)n), 0);
    return f->in.header.type;
}

static inline int reply(struct fixture *f, int fd) {
    turn(f);
    return read_packet(f, fd);
}

static inline void expect_error(struct fixture *f, int fd, uint32_t serial, enum hearth_code code) {
    struct hearth_error err;
    assert_int_equal(reply(f, fd), HEARTH_MSG_ERROR);
    assert_int_equal(f->in.header.serial, serial);
    assert_int_equal(wire_get_error(&f->in, &err), 0);
    assert_int_equal(err.code, code);
    assert_true(strlen(err.message) > 10);
}

static inline void expect_end(struct fixture *f, int fd) {
    assert_int_equal(reply(f, fd), 0);
}

static inline size_t build_hello(struct fixture *f, uint32_t min, uint32_t max) {
    struct hearth_msg_hello *m = wire_begin(&f->hello, HEARTH_MSG_HELLO, 1, sizeof(*m));
    m->version_min = min;
    m->version_max = max;
    m->client = wire_put_str(&f->hello, "a \033[31mtest");
    return (size_t)wire_end(&f->hello);
}

/* A connection that has said HELLO. */
static inline int greet(struct fixture *f) {
    int fd = dial(f->path);
    assert_true(fd >= 0);
    size_t bytes = build_hello(f, HEARTH_PROTOCOL_MIN, HEARTH_PROTOCOL_MAX);
    assert_int_equal(send_bytes(fd, f->hello.buffer, bytes), 0);
    assert_int_equal(reply(f, fd), HEARTH_MSG_WELCOME);
    return fd;
}

static inline void put_list(struct wire_out *w, struct hearth_wire_list *l, const char *a, const char *b) {
    void *entries;
    *l = wire_put_list(w, 2, sizeof(struct hearth_wire_str), &entries);
    ((struct hearth_wire_str *)entries)[0] = wire_put_str(w, a);
    ((struct hearth_wire_str *)entries)[1] = wire_put_str(w, b);
}

/* A whole request of this type in f->out, every field in use. */
static inline size_t build(struct fixture *f, enum hearth_msg_type type, uint32_t serial) {
    struct wire_out *w = &f->out;
    void *list;
    switch (type) {
    case HEARTH_MSG_LOAD: {
        struct hearth_msg_load *m = wire_begin(w, type, serial, sizeof(*m));
        m->flags = HEARTH_LOAD_PROGRESS;
        m->verify = HEARTH_VERIFY_ALWAYS;
        m->ref = wire_put_str(w, "/models/a");
        put_list(w, &m->include, "*.safetensors", "*.json");
        put_list(w, &m->exclude, "x", "onnx/*");
        m->digests = wire_put_list(w, 1, sizeof(struct hearth_wire_digest), &list);
        ((struct hearth_wire_digest *)list)->path = wire_put_str(w, "model.safetensors");
        memset(((struct hearth_wire_digest *)list)->sha256, 0xab, 32);
        m->seen = HEARTH_SEEN_VALID;
        m->seen_device = 0x801;
        m->seen_inode = 77;
        m->seen_size = 4096;
        break;
    }
    case HEARTH_MSG_FILES: {
        struct hearth_msg_files *m = wire_begin(w, type, serial, sizeof(*m));
        m->id = 77;
        m->files = wire_put_list(w, 2, sizeof(uint32_t), &list);
        memcpy(list, (const uint32_t[]){9, 4}, 2 * sizeof(uint32_t));
        break;
    }
    case HEARTH_MSG_ATTACH: {
        struct hearth_msg_attach *m = wire_begin(w, type, serial, sizeof(*m));
        m->id = 77;
        m->flags = HEARTH_ATTACH_ALL;
        break;
    }
    case HEARTH_MSG_PIN: {
        struct hearth_msg_pin *m = wire_begin(w, type, serial, sizeof(*m));
        m->id = 77;
        m->flags = HEARTH_PIN_UNPIN;
        break;
    }
    case HEARTH_MSG_WATCH: {
        struct hearth_msg_watch *m = wire_begin(w, type, serial, sizeof(*m));
        m->id = 77;
        m->flags = HEARTH_WATCH_ONLY;
        break;
    }
    case HEARTH_MSG_HISTORY: {
        struct hearth_msg_history *m = wire_begin(w, type, serial, sizeof(*m));
        m->limit = 9;
        m->ref = wire_put_str(w, "/models/a");
        break;
    }
    case HEARTH_MSG_EVICT: {
        struct hearth_msg_evict *m = wire_begin(w, type, serial, sizeof(*m));
        m->id = 77;
        m->flags = HEARTH_EVICT_FORCE;
        break;
    }
    default: { /* an id, or 8 bytes of zeros */
        uint64_t *id = wire_begin(w, type, serial, sizeof(*id));
        *id = type == HEARTH_MSG_DETACH ? 77 : 0;
        break;
    }
    }
    return (size_t)wire_end(w);
}

static inline void ask(struct fixture *f, int fd, enum hearth_msg_type type, uint32_t serial) {
    size_t bytes = build(f, type, serial);
    assert_int_equal(send_bytes(fd, f->out.buffer, bytes), 0);
}

/* ---- what becomes of a packet ---- */

static const struct {
    enum hearth_msg_type request, final;
} messages[] UNUSED = {
    {HEARTH_MSG_LOAD, HEARTH_MSG_INFO},       {HEARTH_MSG_WATCH, HEARTH_MSG_INFO},
    {HEARTH_MSG_ATTACH, HEARTH_MSG_ATTACHED}, {HEARTH_MSG_FILES, HEARTH_MSG_FDS},
    {HEARTH_MSG_LIST, HEARTH_MSG_DONE},       {HEARTH_MSG_STATUS, HEARTH_MSG_STATUS_REPLY},
    {HEARTH_MSG_HISTORY, HEARTH_MSG_DONE},    {HEARTH_MSG_PIN, HEARTH_MSG_DONE},
    {HEARTH_MSG_EVICT, HEARTH_MSG_DONE},      {HEARTH_MSG_STOP, HEARTH_MSG_DONE},
};
#define N_MESSAGES (sizeof(messages) / sizeof(messages[0]))

static char why[256] UNUSED; /* the last connection was ended */

/* Sends a packet, sound or not, to a connection that has nothing else under way. True: it got one final reply, or none
 * where it has none, and the connection lives. False: it got an ERROR that says why, and the connection is over. */
static inline bool answered_once(struct fixture *f, int fd, const void *packet, size_t bytes) {
    struct hearth_msg header = {0};
    struct hearth_error err;
    why[0] = '\0';
    memcpy(&header, packet, bytes < sizeof(header) ? bytes : sizeof(header));
    assert_int_equal(send_bytes(fd, packet, bytes), 0);
    for (;;) {
        int type = reply(f, fd);
        if (type == -EAGAIN &&
            (header.type == HEARTH_MSG_DETACH || header.type == HEARTH_MSG_CANCEL || header.type == HEARTH_MSG_WANT))
            return true;
        assert_true(type > 0);
        uint32_t serial = f->in.header.serial;
        if (type == HEARTH_MSG_ERROR && serial == 0) {
            assert_int_equal(wire_get_error(&f->in, &err), 0);
            assert_int_equal(err.code, HEARTH_E_PROTOCOL);
            snprintf(why, sizeof(why), "%.255s", err.message);
            expect_end(f, fd);
            return false;
        }
        assert_int_equal(serial, header.serial);
        if (type == HEARTH_MSG_PROGRESS || type == HEARTH_MSG_PAST ||
            (type == HEARTH_MSG_INFO && header.type == HEARTH_MSG_LIST))
            continue;
        if (header.type == HEARTH_MSG_HELLO && type == HEARTH_MSG_ERROR) {
            expect_end(f, fd);
            return false;
        }
        assert_int_equal(reply(f, fd), -EAGAIN); /* one final reply */
        return true;
    }
}
