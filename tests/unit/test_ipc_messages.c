/* ipc: every message is decoded to what was meant, and answered as the protocol says. */
#include <limits.h>

#include "ipc_fixture.h"

static void every_request_gets_its_final_reply(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        enum hearth_msg_type type = messages[i].request;
        f->id = 0;
        assert_true(answered_once(f, fd, f->out.buffer, build(f, type, (uint32_t)i + 100)));
        assert_int_equal(f->in.header.type == HEARTH_MSG_ERROR, 0);
        assert_int_equal(f->calls[type], 1);
        if (type == HEARTH_MSG_WATCH || type == HEARTH_MSG_ATTACH || type == HEARTH_MSG_FILES ||
            type == HEARTH_MSG_EVICT || type == HEARTH_MSG_PIN)
            assert_int_equal(f->id, 77);
    }
    assert_int_equal(f->flags, HEARTH_EVICT_FORCE);
    assert_int_equal(f->n_files, 2);
    assert_int_equal(f->files[0], 9);
    assert_int_equal(f->files[1], 4);
    assert_int_equal(f->server->peers->requests, 0);
    close(fd);
}

/* At the limit of requests under way too: else a lease that was given up would be held until the connection ends. */
static void what_is_given_up_or_hinted_has_no_reply_and_no_limit(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    f->hold = true;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++)
        ask(f, fd, HEARTH_MSG_WATCH, i + 1);
    ask(f, fd, HEARTH_MSG_DETACH, 7);
    assert_int_equal(reply(f, fd), -EAGAIN);
    assert_int_equal(f->calls[HEARTH_MSG_DETACH], 1);
    assert_int_equal(f->id, 77);
    struct hearth_msg_cancel *m = wire_begin(&f->out, HEARTH_MSG_CANCEL, 8, sizeof(*m));
    m->serial = 5;
    assert_int_equal(send_bytes(fd, f->out.buffer, (size_t)wire_end(&f->out)), 0);
    assert_int_equal(reply(f, fd), -EAGAIN);
    assert_int_equal(f->calls[HEARTH_MSG_CANCEL], 1);
    assert_int_equal(f->id, 5);
    struct hearth_msg_want *w = wire_begin(&f->out, HEARTH_MSG_WANT, 8, sizeof(*w));
    *w = (struct hearth_msg_want){.id = 78, .offset = 1, .length = 2, .file = 3};
    assert_int_equal(send_bytes(fd, f->out.buffer, (size_t)wire_end(&f->out)), 0);
    assert_int_equal(reply(f, fd), -EAGAIN);
    assert_int_equal(f->calls[HEARTH_MSG_WANT], 1);
    assert_int_equal(f->id, 78);
    assert_int_equal(f->files[0], 3);
    assert_int_equal(f->server->peers->requests, REQUESTS_MAX);
    ask(f, fd, HEARTH_MSG_CANCEL, 9); /* of serial 0 */
    assert_int_equal(reply(f, fd), HEARTH_MSG_ERROR);
    expect_end(f, fd);
    close(fd);
}

static void replies_are_of_the_type_that_the_protocol_names(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        ask(f, fd, messages[i].request, 7);
        unsigned before = 0;
        int type;
        while ((type = reply(f, fd)) != (int)messages[i].final ||
               (before < 2 && messages[i].request == HEARTH_MSG_LIST))
            before += type == HEARTH_MSG_INFO || type == HEARTH_MSG_PROGRESS || type == HEARTH_MSG_PAST ? 1 : 1000;
        bool one = messages[i].request == HEARTH_MSG_LOAD || messages[i].request == HEARTH_MSG_HISTORY;
        assert_int_equal(before, messages[i].request == HEARTH_MSG_LIST ? 2 : one);
        assert_int_equal(f->n_fds, type == HEARTH_MSG_ATTACHED || type == HEARTH_MSG_FDS ? 2 : 0);
        assert_int_equal(reply(f, fd), -EAGAIN);
    }
    close(fd);
}

static void replies_carry_what_the_daemon_says(void **state) {
    struct fixture *f = *state;
    struct hearth_msg_welcome welcome;
    struct hearth_msg_info info;
    struct hearth_msg_status_reply status;
    struct hearth_msg_done done;
    char text[64];
    start(f);
    int fd = greet(f);
    wire_fixed(&f->in, &welcome, sizeof(welcome));
    assert_int_equal(welcome.version, HEARTH_PROTOCOL_MAX);
    assert_int_equal(welcome.pid, getpid());
    assert_int_equal(wire_get_str(&f->in, welcome.server, text, sizeof(text)), 0);
    assert_string_equal(text, "hearthd test");
    assert_string_equal(ipc_peer_name(f->server->peers), "a \\x1b[31mtest");
    assert_int_equal(ipc_peer_cred(f->server->peers).pid, getpid());
    assert_int_equal(ipc_peer_cred(f->server->peers).uid, getuid());
    ask(f, fd, HEARTH_MSG_LIST, 2);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
        wire_fixed(&f->in, &info, sizeof(info));
        assert_int_equal(info.id, i);
        assert_int_equal(wire_get_str(&f->in, info.ref, text, sizeof(text)), 0);
        assert_string_equal(text, "/models/a");
    }
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    wire_fixed(&f->in, &done, sizeof(done));
    assert_int_equal(done.count, 2);
    struct hearth_msg_past past;
    struct hearth_error err;
    ask(f, fd, HEARTH_MSG_HISTORY, 4);
    assert_int_equal(reply(f, fd), HEARTH_MSG_PAST);
    wire_fixed(&f->in, &past, sizeof(past));
    assert_int_equal(past.ended_ns, -1);
    assert_int_equal(past.info.id, 9);
    assert_int_equal(wire_get_str(&f->in, past.info.ref, text, sizeof(text)), 0);
    assert_string_equal(text, "/models/a");
    assert_int_equal(wire_take_error(&f->in, &past.error, &err), 0);
    assert_int_equal(err.code, HEARTH_E_IO);
    assert_int_equal(err.offset, 5);
    assert_string_equal(err.message, "m");
    assert_string_equal(err.hint, "h");
    assert_string_equal(err.found, "");
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    ask(f, fd, HEARTH_MSG_STATUS, 3);
    assert_int_equal(reply(f, fd), HEARTH_MSG_STATUS_REPLY);
    wire_fixed(&f->in, &status, sizeof(status));
    assert_int_equal(status.clients, 1);
    assert_int_equal(wire_get_str(&f->in, status.socket, text, sizeof(text)), 0);
    assert_string_equal(text, f->path);
    assert_int_equal(wire_get_str(&f->in, status.backing, text, sizeof(text)), 0);
    assert_string_equal(text, "shmem");
    assert_int_equal(wire_get_str(&f->in, status.configuration, text, sizeof(text)), 0);
    assert_string_equal(text, "none");
    close(fd);
}

static void a_load_is_unpacked_whole(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    f->hold = true; /* what a request points to is valid in the server's memory until the next one */
    ask(f, fd, HEARTH_MSG_LOAD, 2);
    turn(f);
    assert_int_equal(f->calls[HEARTH_MSG_LOAD], 1);
    assert_int_equal(f->load.flags, HEARTH_LOAD_PROGRESS);
    assert_int_equal(f->load.verify, HEARTH_VERIFY_ALWAYS);
    assert_string_equal(f->load.ref, "/models/a");
    assert_int_equal(f->load.n_include, 2);
    assert_string_equal(f->load.include[0], "*.safetensors");
    assert_string_equal(f->load.include[1], "*.json");
    assert_int_equal(f->load.n_exclude, 2);
    assert_string_equal(f->load.exclude[1], "onnx/*");
    assert_int_equal(f->load.n_digests, 1);
    assert_string_equal(f->load.digests[0].path, "model.safetensors");
    assert_int_equal(f->load.digests[0].sha256[31], 0xab);
    assert_true(f->load.seen);
    assert_int_equal(f->load.seen_device, 0x801);
    assert_int_equal(f->load.seen_inode, 77);
    assert_int_equal(f->load.seen_bytes, 4096);
    close(fd);
}

static void who_says_nothing_of_what_it_sees_has_seen_nothing(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    struct hearth_msg_load *m = wire_begin(&f->out, HEARTH_MSG_LOAD, 2, offsetof(struct hearth_msg_load, seen_device));
    m->ref = wire_put_str(&f->out, "/models/a");
    f->load.seen = true;
    assert_true(answered_once(f, fd, f->out.buffer, (size_t)wire_end(&f->out)));
    assert_int_equal(f->calls[HEARTH_MSG_LOAD], 1);
    assert_false(f->load.seen);
    for (unsigned i = 0; i < 2; i++) { /* what this version does not know is not passed over */
        size_t bytes = build(f, HEARTH_MSG_LOAD, 3);
        struct hearth_msg_load *load = (struct hearth_msg_load *)(void *)(f->out.buffer + sizeof(struct hearth_msg));
        *(i ? &load->reserved : &load->seen) |= 2;
        assert_false(answered_once(f, fd, f->out.buffer, bytes));
        close(fd);
        fd = greet(f);
    }
    close(fd);
}

static void welcome_says_where_the_daemons_paths_lead(void **state) {
    struct fixture *f = *state;
    struct hearth_msg_welcome welcome;
    start_with(f,
               &(struct ipc_options){.server_version = "hearthd test", .mounts = 5, .root_device = 6, .root_inode = 7});
    int fd = greet(f);
    wire_fixed(&f->in, &welcome, sizeof(welcome));
    assert_int_equal(welcome.mounts, 5);
    assert_int_equal(welcome.root_device, 6);
    assert_int_equal(welcome.root_inode, 7);
    close(fd);
}

static void versions_are_negotiated(void **state) {
    struct fixture *f = *state;
    start(f);
    const struct {
        uint32_t min, max, serial;
        enum hearth_code code;
    } ranges[] = {
        {HEARTH_PROTOCOL_MIN, UINT32_MAX, 1, HEARTH_OK},
        {0, HEARTH_PROTOCOL_MIN, 1, HEARTH_OK},
        {HEARTH_PROTOCOL_MAX + 1, HEARTH_PROTOCOL_MAX + 5, 1, HEARTH_E_UNSUPPORTED},
        {0, HEARTH_PROTOCOL_MIN - 1, 1, HEARTH_E_UNSUPPORTED},
        {2, 1, 0, HEARTH_E_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        int fd = dial(f->path);
        size_t bytes = build_hello(f, ranges[i].min, ranges[i].max);
        assert_int_equal(send_bytes(fd, f->hello.buffer, bytes), 0);
        if (ranges[i].code == HEARTH_OK) {
            assert_int_equal(reply(f, fd), HEARTH_MSG_WELCOME);
        } else {
            expect_error(f, fd, ranges[i].serial, ranges[i].code);
            expect_end(f, fd);
        }
        close(fd);
    }
}

static void hello_comes_first_and_once(void **state) {
    struct fixture *f = *state;
    start(f);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        int fd = dial(f->path);
        assert_false(answered_once(f, fd, f->out.buffer, build(f, messages[i].request, 9)));
        close(fd);
    }
    int fd = greet(f);
    assert_false(answered_once(f, fd, f->hello.buffer, build_hello(f, 1, 1)));
    close(fd);
    assert_int_equal(f->n_marks, 0); /* the daemon heard of none */
}

static void an_unknown_request_is_refused_and_its_connection_lives(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    const enum hearth_msg_type unknown[] = {0, 64, HEARTH_MSG_ERROR - 1, 0xffff};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        ask(f, fd, unknown[i], 40);
        expect_error(f, fd, 40, HEARTH_E_UNSUPPORTED);
    }
    ask(f, fd, HEARTH_MSG_STATUS, 41);
    assert_int_equal(reply(f, fd), HEARTH_MSG_STATUS_REPLY);
    close(fd);
}

static void fields_that_a_client_does_not_know_are_zero(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    size_t bytes = build(f, HEARTH_MSG_ATTACH, 3) - 8; /* an older one, without flags */
    struct hearth_msg *header = (struct hearth_msg *)(void *)f->out.buffer;
    header->bytes -= 8;
    header->fixed_bytes -= 8;
    assert_true(answered_once(f, fd, f->out.buffer, bytes));
    assert_int_equal(f->id, 77);
    assert_int_equal(f->flags, 0);
    build(f, HEARTH_MSG_ATTACH, 4); /* a newer one, with more at its end */
    memset(f->out.buffer + bytes + 8, 0xff, 8);
    header->bytes += 8;
    header->fixed_bytes += 8;
    assert_true(answered_once(f, fd, f->out.buffer, bytes + 16));
    assert_int_equal(f->flags, HEARTH_ATTACH_ALL);
    close(fd);
}

static void a_reference_is_no_longer_than_a_path(void **state) {
    struct fixture *f = *state;
    char ref[PATH_MAX + 1];
    start(f);
    int fd = greet(f);
    memset(ref, 'x', sizeof(ref));
    for (size_t length = PATH_MAX - 1; length <= PATH_MAX; length++) {
        struct hearth_msg_load *m = wire_begin(&f->out, HEARTH_MSG_LOAD, 3, sizeof(*m));
        m->ref = wire_put_bytes(&f->out, ref, length);
        size_t bytes = (size_t)wire_end(&f->out);
        assert_true(answered_once(f, fd, f->out.buffer, bytes)); /* the connection lives either way */
        assert_int_equal(f->in.header.type, length < PATH_MAX ? HEARTH_MSG_INFO : HEARTH_MSG_ERROR);
    }
    assert_int_equal(f->calls[HEARTH_MSG_LOAD], 1);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ipc_test(every_request_gets_its_final_reply),
        ipc_test(what_is_given_up_or_hinted_has_no_reply_and_no_limit),
        ipc_test(replies_are_of_the_type_that_the_protocol_names),
        ipc_test(replies_carry_what_the_daemon_says),
        ipc_test(a_load_is_unpacked_whole),
        ipc_test(who_says_nothing_of_what_it_sees_has_seen_nothing),
        ipc_test(welcome_says_where_the_daemons_paths_lead),
        ipc_test(versions_are_negotiated),
        ipc_test(hello_comes_first_and_once),
        ipc_test(an_unknown_request_is_refused_and_its_connection_lives),
        ipc_test(fields_that_a_client_does_not_know_are_zero),
        ipc_test(a_reference_is_no_longer_than_a_path),
    };
    return cmocka_run_group_tests_name("ipc_messages", tests, NULL, NULL);
}
