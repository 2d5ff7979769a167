/* ipc/client: connecting, loading, looking after a daemon; deadlines, callbacks, forks. */
#include "tests/unit/scripted_daemon.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#define SOON hearth_deadline_in(30)

/* ---- connecting ---- */

static void nothing(struct scripted *s, int fd) {
    sd_drain(s, fd);
}

static void connecting_to_nobody_says_which_path_was_tried(void **state) {
    (void)state;
    struct hearth *h = NULL;
    struct hearth_error err;
    assert_int_equal(hearth_connect("/nonexistent/socket", SOON, &h, &err), HEARTH_E_NO_DAEMON);
    assert_null(h);
    assert_string_equal(err.file, "/nonexistent/socket");
    assert_true(strlen(err.hint) > 0);
    assert_int_equal(hearth_connect("/nonexistent/socket", SOON, &h, NULL), HEARTH_E_NO_DAEMON);
    char path[200];
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(hearth_connect(path, SOON, &h, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_connect("", SOON, &h, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_connect("/dev/null", SOON, &h, &err), HEARTH_E_NO_DAEMON);
    assert_null(hearth_close(NULL));
}

static void the_environment_names_the_socket_where_the_caller_does_not(void **state) {
    (void)state;
    struct scripted *s = scripted_start(nothing, NULL, false);
    struct hearth *h = NULL;
    setenv("HEARTH_SOCKET", s->path, 1);
    assert_int_equal(hearth_connect(NULL, HEARTH_NO_DEADLINE, &h, NULL), 0);
    unsetenv("HEARTH_SOCKET");
    assert_string_equal(hearth_socket_path(h), s->path);
    assert_true(fcntl(hearth_fd(h), F_GETFD) & FD_CLOEXEC);
    hearth_close(h);
    scripted_stop(s);
}

static void without_a_daemon_of_the_system_the_users_own_is_found(void **state) {
    (void)state;
    if (access("/run/hearth/hearth.sock", F_OK) == 0) {
        print_message("skipped: a hearthd of the system runs here\n");
        skip();
    }
    struct scripted *s = scripted_start(nothing, NULL, false);
    char folder[64], link[64];
    snprintf(folder, sizeof(folder), "%s/hearth", s->dir);
    snprintf(link, sizeof(link), "%s/hearth.sock", s->dir);
    assert_int_equal(symlink(".", folder), 0);
    assert_int_equal(symlink("socket", link), 0);
    setenv("XDG_RUNTIME_DIR", s->dir, 1);
    unsetenv("HEARTH_SOCKET");
    struct hearth *h = NULL;
    struct hearth_error err;
    int code = hearth_connect(NULL, HEARTH_NO_DEADLINE, &h, &err);
    unlink(link);
    struct hearth *nobody = NULL;
    int without = hearth_connect(NULL, HEARTH_NO_DEADLINE, &nobody, &err);
    unsetenv("XDG_RUNTIME_DIR");
    unlink(folder);
    assert_int_equal(code, 0);
    assert_int_equal(without, HEARTH_E_NO_DAEMON);
    assert_non_null(strstr(err.file, "/hearth/hearth.sock"));
    hearth_close(h);
    scripted_stop(s);
}

static void refuse_version(struct scripted *s, int fd) {
    sd_welcome(s, fd, HEARTH_PROTOCOL_MAX + 1);
    sd_drain(s, fd);
}

static void refuse_client(struct scripted *s, int fd) {
    sd_expect(s, fd, HEARTH_MSG_HELLO);
    struct hearth_msg_hello m;
    const char *name;
    size_t length;
    wire_fixed(&s->in, &m, sizeof(m));
    CHECK(s, m.version_min == HEARTH_PROTOCOL_MIN && m.version_max == HEARTH_PROTOCOL_MAX);
    CHECK(s, wire_get_bytes(&s->in, m.client, &name, &length) == 0 && length > 0);
    sd_error(s, fd, sd_serial(s), HEARTH_E_DENIED, "not you");
}

static void never_welcome(struct scripted *s, int fd) {
    sd_expect(s, fd, HEARTH_MSG_HELLO);
    sd_drain(s, fd);
}

static void what_the_daemon_says_to_hello_is_what_connecting_returns(void **state) {
    (void)state;
    static const struct {
        void (*script)(struct scripted *s, int fd);
        int code;
    } cases[] = {
        {refuse_version, HEARTH_E_UNSUPPORTED},
        {refuse_client, HEARTH_E_DENIED},
        {never_welcome, HEARTH_E_TIMEOUT},
    };
    for (size_t i = 0; i < 3; i++) {
        struct scripted *s = scripted_start(cases[i].script, NULL, true);
        struct hearth *h = NULL;
        struct hearth_error err;
        uint64_t deadline = cases[i].code == HEARTH_E_TIMEOUT ? SOON : HEARTH_NO_DEADLINE;
        assert_int_equal(hearth_connect(s->path, deadline, &h, &err), cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_null(h);
        scripted_stop(s);
    }
}

static void a_full_backlog_is_waited_for_until_the_deadline(void **state) {
    (void)state;
    char path[] = "/tmp/hearth-test-full";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, sizeof(path));
    unlink(path);
    int fds[2] = {socket(AF_UNIX, SOCK_SEQPACKET, 0), socket(AF_UNIX, SOCK_SEQPACKET, 0)};
    assert_int_equal(bind(fds[0], (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fds[0], 0), 0);
    assert_int_equal(connect(fds[1], (const struct sockaddr *)&a, sizeof(a)), 0);
    struct hearth *h;
    struct hearth_error err;
    assert_int_equal(hearth_connect(path, SOON, &h, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_connect(path, 0, &h, &err), HEARTH_E_TIMEOUT);
    assert_string_equal(err.file, path);
    close(fds[0]);
    close(fds[1]);
    unlink(path);
}

/* ---- loading ---- */

static void check_load(struct scripted *s, int fd) {
    struct hearth_msg_load m;
    char text[64];
    const void *list;
    if (!sd_expect(s, fd, HEARTH_MSG_LOAD))
        return;
    wire_fixed(&s->in, &m, sizeof(m));
    CHECK(s, m.flags == HEARTH_LOAD_PROGRESS && m.verify == HEARTH_VERIFY_ALWAYS);
    CHECK(s, wire_get_str(&s->in, m.ref, text, sizeof(text)) == 0 && strcmp(text, "/models/a") == 0);
    CHECK(s, m.include.count == 2 && m.exclude.count == 0 && m.digests.count == 1);
    CHECK(s, wire_get_list(&s->in, m.include, sizeof(struct hearth_wire_str), &list) == 0);
    CHECK(s, wire_get_str(&s->in, ((const struct hearth_wire_str *)list)[1], text, sizeof(text)) == 0);
    CHECK(s, strcmp(text, "*.json") == 0);
    CHECK(s, wire_get_list(&s->in, m.digests, sizeof(struct hearth_wire_digest), &list) == 0);
    const struct hearth_wire_digest *d = list;
    CHECK(s, d && d->sha256[31] == 9 && wire_get_str(&s->in, d->path, text, sizeof(text)) == 0);
    CHECK(s, strcmp(text, "b") == 0);
    uint32_t serial = sd_serial(s);
    sd_info(s, fd, HEARTH_MSG_PROGRESS, serial, 5, HEARTH_STATE_QUEUED);
    sd_info(s, fd, HEARTH_MSG_PROGRESS, serial, 5, HEARTH_STATE_LOADING);
    sd_info(s, fd, HEARTH_MSG_INFO, serial, 5, HEARTH_STATE_RESIDENT);
    sd_drain(s, fd);
}

/* arg: the mounts and the root that the daemon says are its own. */
static void take_what_is_seen(struct scripted *s, int fd) {
    const struct hearth_msg_welcome *place = s->arg;
    struct hearth_msg_load m;
    struct stat st;
    if (!sd_expect(s, fd, HEARTH_MSG_HELLO))
        return;
    struct hearth_msg_welcome *w = wire_begin(&s->out, HEARTH_MSG_WELCOME, sd_serial(s), sizeof(*w));
    *w = *place;
    sd_send(s, fd, NULL);
    static const char *const paths[] = {"/dev/null", "/dev", "/nonexistent/path", "0123456789ab"};
    for (size_t i = 0; i < 4; i++) {
        if (!sd_expect(s, fd, HEARTH_MSG_LOAD))
            return;
        wire_fixed(&s->in, &m, sizeof(m));
        if (place->version == HEARTH_PROTOCOL_MIN && !place->mounts && i < 2) {
            CHECK(s, stat(paths[i], &st) == 0);
            CHECK(s, m.seen == HEARTH_SEEN_VALID && m.seen_device == st.st_dev && m.seen_inode == st.st_ino);
            CHECK(s, m.seen_size == 0);
        } else {
            CHECK(s, !m.seen && !m.seen_device && !m.seen_inode && !m.seen_size);
        }
        sd_info(s, fd, HEARTH_MSG_INFO, sd_serial(s), 5, HEARTH_STATE_RESIDENT);
    }
    sd_drain(s, fd);
}

static void what_is_seen_at_a_path_is_said_unless_the_daemon_sees_the_same(void **state) {
    (void)state;
    struct stat mounts, root;
    if (stat("/proc/self/ns/mnt", &mounts) || stat("/", &root))
        skip();
    struct hearth_msg_welcome places[] = {{.version = HEARTH_PROTOCOL_MIN},
                                          {.version = HEARTH_PROTOCOL_MIN,
                                           .mounts = mounts.st_ino,
                                           .root_device = root.st_dev,
                                           .root_inode = root.st_ino}};
    for (size_t i = 0; i < 2; i++) {
        struct scripted *s = scripted_start(take_what_is_seen, &places[i], true);
        struct hearth *h = scripted_connect(s);
        assert_int_equal(hearth_load(h, "/dev/null", NULL, SOON, NULL, NULL), 0);
        assert_int_equal(hearth_load(h, "/dev", NULL, SOON, NULL, NULL), 0);
        assert_int_equal(hearth_load(h, "/nonexistent/path", NULL, SOON, NULL, NULL), 0);
        assert_int_equal(hearth_load(h, "0123456789ab", NULL, SOON, NULL, NULL), 0);
        hearth_close(h);
        scripted_stop(s);
    }
}

static void count_progress(void *user, const struct hearth_info *info) {
    assert_int_equal(info->id, 5);
    assert_true(info->state != HEARTH_STATE_RESIDENT);
    ++*(int *)user;
}

static void a_load_says_all_that_was_asked_and_shows_its_progress(void **state) {
    (void)state;
    struct scripted *s = scripted_start(check_load, NULL, false);
    struct hearth *h = scripted_connect(s);
    int progress = 0;
    const char *const include[] = {"*.bin", "*.json"};
    struct hearth_digest digest = {.path = "b", .sha256 = {[31] = 9}};
    struct hearth_load_options options = {.verify = HEARTH_VERIFY_ALWAYS,
                                          .include = include,
                                          .n_include = 2,
                                          .digests = &digest,
                                          .n_digests = 1,
                                          .progress = count_progress,
                                          .user = &progress};
    struct hearth_info info;
    assert_int_equal(hearth_load(h, "/models/a", &options, HEARTH_NO_DEADLINE, &info, NULL), 0);
    assert_int_equal(progress, 2);
    assert_int_equal(info.id, 5);
    assert_int_equal(info.state, HEARTH_STATE_RESIDENT);
    assert_int_equal(info.bytes, 1000);
    assert_int_equal(info.phases[HEARTH_PHASE_HASH].end_ns, 77);
    assert_string_equal(info.ref, "/models/a");
    hearth_close(h);
    scripted_stop(s);
}

static void fail_load(struct scripted *s, int fd) {
    while (sd_read(s, fd) == HEARTH_MSG_LOAD)
        sd_error(s, fd, sd_serial(s), HEARTH_E_INTEGRITY, "it differs");
}

static void all_facts_of_an_error_arrive(void **state) {
    (void)state;
    struct scripted *s = scripted_start(fail_load, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    struct hearth_info info;
    assert_int_equal(hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INTEGRITY);
    assert_string_equal(err.message, "it differs");
    assert_string_equal(err.file, "weights.bin");
    assert_int_equal(err.offset, 42);
    assert_string_equal(err.expected, "this");
    assert_string_equal(err.found, "that");
    assert_string_equal(err.hint, "mend it");
    assert_int_equal(hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, NULL), HEARTH_E_INTEGRITY);
    hearth_close(h);
    scripted_stop(s);
}

struct outcome {
    struct hearth *h;
    int calls, code;
    uint64_t id;
};

static void note_outcome(void *user, const struct hearth_info *info, const struct hearth_error *err) {
    struct outcome *o = user;
    o->calls++;
    o->code = err ? (int)err->code : 0;
    o->id = info ? info->id : 0;
    assert_true((info == NULL) != (err == NULL));
    if (o->h) /* a callback may ask, even wait for an answer */
        assert_int_equal(hearth_stop(o->h, HEARTH_NO_DEADLINE, NULL), 0);
}

static void what_cannot_be_sent_is_refused_and_harms_nothing(void **state) {
    (void)state;
    struct scripted *s = scripted_start(fail_load, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    struct hearth_info info;
    static char ref[HEARTH_REF_MAX + 1];
    memset(ref, 'r', HEARTH_REF_MAX);
    assert_int_equal(hearth_load(h, "", NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_load(h, ref, NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INVALID);
    static const char *globs[HEARTH_LIST_MAX + 1];
    static const struct hearth_digest digests[HEARTH_LIST_MAX + 1];
    struct outcome o = {0};
    for (size_t i = 0; i < HEARTH_LIST_MAX + 1; i++)
        globs[i] = "*";
    const struct hearth_load_options too_much[] = {
        {.include = globs, .n_include = HEARTH_LIST_MAX + 1},
        {.exclude = globs, .n_exclude = HEARTH_LIST_MAX + 1},
        {.digests = digests, .n_digests = HEARTH_LIST_MAX + 1},
        {.verify = (enum hearth_verify)(HEARTH_VERIFY_ALWAYS + 1)},
    };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(hearth_load(h, "/m", &too_much[i], HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INVALID);
        assert_int_equal(hearth_load_start(h, "/m", &too_much[i], note_outcome, &o, &err), HEARTH_E_INVALID);
    }
    struct hearth_load_options options = {.include = globs, .n_include = HEARTH_LIST_MAX};
    assert_int_equal(hearth_load(h, "/m", &options, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INTEGRITY);
    for (size_t i = 0; i < HEARTH_LIST_MAX; i++)
        globs[i] = ref + HEARTH_REF_MAX - 100; /* the list fits, the strings behind it do not */
    assert_int_equal(hearth_load(h, "/m", &options, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INVALID);
    assert_int_equal(o.calls, 0);
    assert_int_equal(hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_INTEGRITY);
    hearth_close(h);
    scripted_stop(s);
}

/* ---- looking after a daemon ---- */

static void serve_admin(struct scripted *s, int fd) {
    int type;
    while ((type = sd_read(s, fd)) != 0) {
        uint32_t serial = sd_serial(s);
        if (type == HEARTH_MSG_LIST) {
            for (uint64_t id = 1; id <= 3; id++)
                sd_info(s, fd, HEARTH_MSG_INFO, serial, id, HEARTH_STATE_RESIDENT);
            sd_done(s, fd, serial);
        } else if (type == HEARTH_MSG_STATUS) {
            struct hearth_msg_status_reply *m = wire_begin(&s->out, HEARTH_MSG_STATUS_REPLY, serial, sizeof(*m));
            char longer[300];
            memset(longer, 'v', sizeof(longer));
            m->pid = 99;
            m->budget_bytes = UINT64_C(1) << 40;
            m->version = wire_put_bytes(&s->out, longer, sizeof(longer));
            m->backing = wire_put_str(&s->out, "shmem");
            sd_send(s, fd, NULL);
        } else if (type == HEARTH_MSG_EVICT) {
            struct hearth_msg_evict m;
            wire_fixed(&s->in, &m, sizeof(m));
            if (m.flags & HEARTH_EVICT_FORCE)
                sd_done(s, fd, serial);
            else
                sd_error(s, fd, serial, HEARTH_E_BUSY, "held");
        } else if (type == HEARTH_MSG_WATCH) {
            sd_info(s, fd, HEARTH_MSG_PROGRESS, serial, 5, HEARTH_STATE_LOADING);
            sd_info(s, fd, HEARTH_MSG_INFO, serial, 5, HEARTH_STATE_RESIDENT);
        } else {
            CHECK(s, type == HEARTH_MSG_STOP);
            sd_done(s, fd, serial);
            return;
        }
    }
}

static void sum_ids(void *user, const struct hearth_info *info) {
    *(uint64_t *)user += info->id;
}

static void list_status_watch_evict_and_stop_are_answered(void **state) {
    (void)state;
    struct scripted *s = scripted_start(serve_admin, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    uint64_t sum = 0;
    assert_int_equal(hearth_list(h, sum_ids, &sum, HEARTH_NO_DEADLINE, &err), 0);
    assert_int_equal(sum, 6);
    struct hearth_status status;
    assert_int_equal(hearth_get_status(h, hearth_deadline_in(60000), &status, &err), 0);
    assert_int_equal(status.pid, 99);
    assert_int_equal(status.budget_bytes, UINT64_C(1) << 40);
    assert_int_equal(strlen(status.version), sizeof(status.version) - 1);
    assert_string_equal(status.backing, "shmem");
    assert_string_equal(status.reader, "");
    int progress = 0;
    struct hearth_info info;
    assert_int_equal(hearth_watch(h, 5, count_progress, &progress, HEARTH_NO_DEADLINE, &info, &err), 0);
    assert_int_equal(progress, 1);
    assert_int_equal(hearth_watch(h, 5, NULL, NULL, HEARTH_NO_DEADLINE, NULL, &err), 0);
    assert_int_equal(hearth_evict(h, 1, false, HEARTH_NO_DEADLINE, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_evict(h, 1, true, HEARTH_NO_DEADLINE, &err), 0);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), HEARTH_E_DISCONNECTED);
    hearth_close(h);
    scripted_stop(s);
}

/* ---- deadlines ---- */

static void answer_late(struct scripted *s, int fd) {
    sd_expect(s, fd, HEARTH_MSG_STATUS);
    uint32_t late = sd_serial(s);
    sd_expect(s, fd, HEARTH_MSG_EVICT);
    uint32_t serial = sd_serial(s);
    wire_begin(&s->out, HEARTH_MSG_STATUS_REPLY, late, sizeof(struct hearth_msg_status_reply));
    sd_send(s, fd, NULL);
    sd_done(s, fd, serial);
    sd_drain(s, fd);
}

static void a_late_reply_is_dropped_and_the_connection_stays_usable(void **state) {
    (void)state;
    struct scripted *s = scripted_start(answer_late, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_status status;
    struct hearth_error err;
    assert_int_equal(hearth_get_status(h, SOON, &status, &err), HEARTH_E_TIMEOUT);
    assert_string_equal(err.file, s->path);
    assert_int_equal(hearth_evict(h, 1, false, HEARTH_NO_DEADLINE, &err), 0);
    hearth_close(h);
    scripted_stop(s);
}

static void on_alarm(int signal) {
    (void)signal;
}

static void signals_neither_end_nor_prolong_a_wait(void **state) {
    (void)state;
    struct scripted *s = scripted_start(nothing, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct sigaction act = {.sa_handler = on_alarm}, old;
    sigaction(SIGALRM, &act, &old);
    struct itimerval every = {{0, 3000}, {0, 3000}}, none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    struct hearth_error err;
    int code = hearth_stop(h, hearth_deadline_in(50), &err); /* would never return if each signal began it anew */
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_int_equal(code, HEARTH_E_TIMEOUT);
    hearth_close(h);
    scripted_stop(s);
}

static void deadlines_saturate(void **state) {
    (void)state;
    assert_true(hearth_deadline_in(UINT64_MAX) == HEARTH_NO_DEADLINE - 1);
    assert_true(hearth_deadline_in(1000) > hearth_deadline_in(0));
}

/* ---- for a server's own event loop ---- */

static void answer_backwards(struct scripted *s, int fd) {
    uint32_t serials[2];
    for (int i = 0; i < 2; i++) {
        sd_expect(s, fd, HEARTH_MSG_LOAD);
        serials[i] = sd_serial(s);
    }
    sd_info(s, fd, HEARTH_MSG_PROGRESS, serials[0], 5, HEARTH_STATE_LOADING);
    sd_info(s, fd, HEARTH_MSG_INFO, serials[1], 2, HEARTH_STATE_RESIDENT);
    sd_error(s, fd, serials[0], HEARTH_E_IO, "it broke");
    while (sd_read(s, fd) == HEARTH_MSG_STOP)
        sd_done(s, fd, sd_serial(s));
}

/* A daemon that never stops sending must not keep a call beyond its deadline, and learns what is given up. */
static void send_progress_until_cancelled(struct scripted *s, int fd) {
    struct hearth_msg_cancel m;
    sd_expect(s, fd, HEARTH_MSG_LOAD);
    uint32_t serial = sd_serial(s);
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    while (poll(&p, 1, -1) == 1 && !(p.revents & POLLIN))
        sd_info(s, fd, HEARTH_MSG_PROGRESS, serial, 5, HEARTH_STATE_LOADING);
    sd_expect(s, fd, HEARTH_MSG_CANCEL);
    wire_fixed(&s->in, &m, sizeof(m));
    CHECK(s, m.serial == serial);
    sd_expect(s, fd, HEARTH_MSG_STOP);
    p.events = POLLOUT; /* the client reads what it was sent before */
    CHECK(s, poll(&p, 1, -1) == 1);
    sd_error(s, fd, serial, HEARTH_E_CANCELLED, "taken back");
    CHECK(s, poll(&p, 1, -1) == 1);
    sd_done(s, fd, sd_serial(s));
}

static void a_load_that_comes_too_late_is_taken_back(void **state) {
    (void)state;
    struct hearth_error err;
    struct hearth_info info;
    struct scripted *s = scripted_start(send_progress_until_cancelled, NULL, false);
    struct hearth *h = scripted_connect(s);
    assert_int_equal(hearth_load(h, "/m", NULL, hearth_deadline_in(50), &info, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), 0);
    hearth_close(h);
    scripted_stop(s);
}

static void loads_finish_in_any_order_inside_dispatch(void **state) {
    (void)state;
    struct scripted *s = scripted_start(answer_backwards, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    assert_int_equal(hearth_dispatch(h, &err), 0);
    int progress = 0;
    struct hearth_load_options options = {.progress = count_progress, .user = &progress};
    struct outcome first = {0}, second = {.h = h};
    assert_int_equal(hearth_load_start(h, "/1", &options, note_outcome, &first, &err), 0);
    assert_int_equal(hearth_load_start(h, "/2", NULL, note_outcome, &second, &err), 0);
    while (first.calls == 0 || second.calls == 0) {
        struct pollfd p = {.fd = hearth_fd(h), .events = POLLIN};
        assert_int_equal(poll(&p, 1, -1), 1);
        assert_int_equal(hearth_dispatch(h, &err), 0);
    }
    assert_int_equal(progress, 1);
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.code, HEARTH_E_IO);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.id, 2);
    hearth_close(h);
    scripted_stop(s);
}

/* The load ends while its progress is being told: the callback asks something, and reads the end in its wait. */
static void end_during_progress(struct scripted *s, int fd) {
    for (int i = 0; i < 3; i++) {
        int type = sd_read(s, fd);
        CHECK(s, type == HEARTH_MSG_LOAD || type == HEARTH_MSG_WATCH);
        uint32_t serial = sd_serial(s);
        sd_info(s, fd, HEARTH_MSG_PROGRESS, serial, 5, HEARTH_STATE_LOADING);
        sd_expect(s, fd, HEARTH_MSG_STOP);
        sd_info(s, fd, HEARTH_MSG_INFO, serial, 5, HEARTH_STATE_RESIDENT);
        sd_done(s, fd, sd_serial(s));
    }
    sd_drain(s, fd);
}

static void ask_during_progress(void *user, const struct hearth_info *info) {
    assert_int_equal(hearth_stop(user, HEARTH_NO_DEADLINE, NULL), 0);
    assert_int_equal(info->id, 5);
    assert_int_equal(info->state, HEARTH_STATE_LOADING);
    assert_string_equal(info->ref, "/models/a");
}

static void progress_stays_what_it_was_when_its_load_ends_inside_the_callback(void **state) {
    (void)state;
    struct scripted *s = scripted_start(end_during_progress, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    struct hearth_info info;
    struct hearth_load_options options = {.progress = ask_during_progress, .user = h};
    struct outcome o = {0};
    assert_int_equal(hearth_load_start(h, "/1", &options, note_outcome, &o, &err), 0);
    while (o.calls == 0) {
        struct pollfd p = {.fd = hearth_fd(h), .events = POLLIN};
        assert_int_equal(poll(&p, 1, -1), 1);
        assert_int_equal(hearth_dispatch(h, &err), 0);
    }
    assert_int_equal(o.id, 5);
    assert_int_equal(hearth_load(h, "/1", &options, HEARTH_NO_DEADLINE, &info, &err), 0);
    assert_int_equal(info.state, HEARTH_STATE_RESIDENT);
    assert_int_equal(hearth_watch(h, 5, ask_during_progress, h, HEARTH_NO_DEADLINE, &info, &err), 0);
    assert_int_equal(info.state, HEARTH_STATE_RESIDENT);
    hearth_close(h);
    scripted_stop(s);
}

static void what_is_under_way_is_cancelled_by_close_and_failed_by_a_hang_up(void **state) {
    (void)state;
    struct scripted *s = scripted_start(nothing, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct outcome o = {0};
    assert_int_equal(hearth_load_start(h, "/1", NULL, note_outcome, &o, NULL), 0);
    assert_null(hearth_close(h));
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.code, HEARTH_E_CANCELLED);

    h = scripted_connect(s);
    o = (struct outcome){0};
    assert_int_equal(hearth_load_start(h, "/1", NULL, note_outcome, &o, NULL), 0);
    shutdown(hearth_fd(h), SHUT_RDWR);
    struct hearth_error err;
    assert_int_equal(hearth_dispatch(h, &err), HEARTH_E_DISCONNECTED);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.code, HEARTH_E_DISCONNECTED);
    assert_int_equal(hearth_load_start(h, "/1", NULL, note_outcome, &o, &err), HEARTH_E_DISCONNECTED);
    assert_int_equal(o.calls, 1);
    hearth_close(h);
    scripted_stop(s);
}

static void read_nothing(struct scripted *s, int fd) {
    (void)s;
    /* Waits for the hang-up without reading. */
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    while (poll(&p, 1, -1) < 0)
        ;
}

static void a_daemon_that_does_not_read_blocks_nobody(void **state) {
    (void)state;
    struct scripted *s = scripted_start(read_nothing, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct outcome o = {0};
    struct hearth_error err;
    int code, started = 0;
    while ((code = hearth_load_start(h, "/1", NULL, note_outcome, &o, &err)) == 0)
        started++;
    assert_int_equal(code, HEARTH_E_BUSY);
    assert_true(started > 0);
    assert_int_equal(hearth_stop(h, SOON, &err), HEARTH_E_TIMEOUT);
    assert_int_equal(o.calls, 0);
    hearth_close(h);
    assert_int_equal(o.calls, started);
    scripted_stop(s);
}

/* ---- forks and arguments ---- */

static void a_child_cannot_use_the_connection_and_closing_it_there_says_nothing(void **state) {
    (void)state;
    struct scripted *s = scripted_start(serve_admin, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct outcome o = {0};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct hearth_error err;
        struct hearth_artifact *a;
        bool ok = hearth_stop(h, HEARTH_NO_DEADLINE, &err) == HEARTH_E_INVALID && err.hint[0] != '\0' &&
                  hearth_dispatch(h, NULL) == HEARTH_E_INVALID &&
                  hearth_attach(h, 1, HEARTH_NO_DEADLINE, &a, NULL) == HEARTH_E_INVALID &&
                  hearth_load_start(h, "/1", NULL, note_outcome, &o, NULL) == HEARTH_E_INVALID;
        hearth_close(h);
        _exit(ok && o.calls == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, NULL), 0);
    hearth_close(h);
    scripted_stop(s);
}

static void an_argument_that_exists_becomes_absolute(void **state) {
    (void)state;
    char dir[] = "/tmp/hearth-test-XXXXXX", out[HEARTH_REF_MAX], want[64], small[4];
    struct hearth_error err;
    assert_non_null(mkdtemp(dir));
    _cleanup_free_ char *before = getcwd(NULL, 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(mkdir("model", 0700), 0);
    assert_int_equal(symlink("nowhere", "dangling"), 0);
    snprintf(want, sizeof(want), "%s/model", dir);
    static const char *const same[] = {"model", "./model", ".//model"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(hearth_ref_from_argument(same[i], out, sizeof(out), &err), 0);
        assert_string_equal(out, want);
    }
    assert_int_equal(hearth_ref_from_argument(".", out, sizeof(out), &err), 0);
    assert_string_equal(out, dir);
    assert_int_equal(hearth_ref_from_argument("dangling", out, sizeof(out), &err), 0);
    assert_int_equal(out[0], '/');
    assert_int_equal(symlink("/usr/bin", "link"), 0);
    static const char *const behind[][2] = {{"link/../lib", "/usr/lib"}, {"/usr//bin/.././", "/usr"}, {"/..", "/"}};
    for (size_t i = 0; i < 3; i++) { /* behind a link ".." is not what it seems */
        assert_int_equal(hearth_ref_from_argument(behind[i][0], out, sizeof(out), &err), 0);
        assert_string_equal(out, behind[i][1]);
    }
    assert_int_equal(hearth_ref_from_argument("/not/../there", out, sizeof(out), &err), 0);
    assert_string_equal(out, "/not/../there");
    unlink("link");
    assert_int_equal(hearth_ref_from_argument("models/org/name@main", out, sizeof(out), &err), 0);
    assert_string_equal(out, "models/org/name@main");
    assert_int_equal(hearth_ref_from_argument("/not/there", out, sizeof(out), &err), 0);
    assert_string_equal(out, "/not/there");
    strcpy(out, "left over");
    assert_int_equal(hearth_ref_from_argument("", out, sizeof(out), &err), 0);
    assert_string_equal(out, "");
    assert_int_equal(hearth_ref_from_argument("", out, 0, &err), HEARTH_E_INVALID);
    assert_int_equal(hearth_ref_from_argument("model", small, sizeof(small), &err), HEARTH_E_INVALID);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(hearth_ref_from_argument("tmp", out, sizeof(out), &err), 0);
    assert_string_equal(out, "/tmp");
    assert_int_equal(chdir(dir), 0);
    rmdir("model");
    unlink("dangling");
    assert_int_equal(chdir(before), 0);
    rmdir(dir);
}

static void the_default_socket_follows_the_runtime_directory(void **state) {
    (void)state;
    char out[108], small[8], want[64];
    struct hearth_error err;
    assert_int_equal(hearth_default_socket(true, out, sizeof(out), &err), 0);
    assert_string_equal(out, "/run/hearth/hearth.sock");
    setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
    assert_int_equal(hearth_default_socket(false, out, sizeof(out), &err), 0);
    assert_string_equal(out, "/run/user/1/hearth/hearth.sock");
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    assert_int_equal(hearth_default_socket(false, out, sizeof(out), &err), 0);
    snprintf(want, sizeof(want), "/tmp/hearth-%u/hearth.sock", geteuid());
    assert_string_equal(out, want);
    unsetenv("XDG_RUNTIME_DIR");
    assert_int_equal(hearth_default_socket(false, small, sizeof(small), &err), HEARTH_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connecting_to_nobody_says_which_path_was_tried),
        cmocka_unit_test(the_environment_names_the_socket_where_the_caller_does_not),
        cmocka_unit_test(without_a_daemon_of_the_system_the_users_own_is_found),
        cmocka_unit_test(what_the_daemon_says_to_hello_is_what_connecting_returns),
        cmocka_unit_test(a_full_backlog_is_waited_for_until_the_deadline),
        cmocka_unit_test(a_load_says_all_that_was_asked_and_shows_its_progress),
        cmocka_unit_test(what_is_seen_at_a_path_is_said_unless_the_daemon_sees_the_same),
        cmocka_unit_test(all_facts_of_an_error_arrive),
        cmocka_unit_test(what_cannot_be_sent_is_refused_and_harms_nothing),
        cmocka_unit_test(list_status_watch_evict_and_stop_are_answered),
        cmocka_unit_test(a_late_reply_is_dropped_and_the_connection_stays_usable),
        cmocka_unit_test(a_load_that_comes_too_late_is_taken_back),
        cmocka_unit_test(signals_neither_end_nor_prolong_a_wait),
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(loads_finish_in_any_order_inside_dispatch),
        cmocka_unit_test(progress_stays_what_it_was_when_its_load_ends_inside_the_callback),
        cmocka_unit_test(what_is_under_way_is_cancelled_by_close_and_failed_by_a_hang_up),
        cmocka_unit_test(a_daemon_that_does_not_read_blocks_nobody),
        cmocka_unit_test(a_child_cannot_use_the_connection_and_closing_it_there_says_nothing),
        cmocka_unit_test(an_argument_that_exists_becomes_absolute),
        cmocka_unit_test(the_default_socket_follows_the_runtime_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
