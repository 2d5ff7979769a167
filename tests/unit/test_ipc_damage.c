/* ipc: a packet that breaks the protocol ends its own connection, with a reason, and no other. */
#include "ipc_fixture.h"

/* The same on a connection that is made anew when the last one is over. */
static bool try_packet(struct fixture *f, int *fd, bool hello, const void *packet, size_t bytes) {
    if (*fd < 0) {
        *fd = hello ? greet(f) : dial(f->path);
        assert_true(*fd >= 0);
    }
    bool lives = answered_once(f, *fd, packet, bytes);
    if (!lives || !hello)
        *fd = close_fd(*fd);
    return lives;
}

static void refused_for(bool lives, const char *reason) {
    assert_false(lives);
    assert_non_null(strstr(why, reason));
}

static void what_breaks_the_protocol_ends_the_connection(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = -1;
    refused_for(try_packet(f, &fd, true, f->out.buffer, build(f, HEARTH_MSG_STATUS, 0)), "serial");
    for (unsigned type = HEARTH_MSG_ERROR; type <= HEARTH_MSG_PAST; type++)
        refused_for(try_packet(f, &fd, true, f->out.buffer, build(f, type, 5)), "replies are for the daemon");
    refused_for(try_packet(f, &fd, true, "", 0), "is empty");
    memset(f->buffer, 0, sizeof(f->buffer));
    assert_false(try_packet(f, &fd, true, f->buffer, sizeof(f->buffer)));
    static const uint8_t large[HEARTH_PACKET_MAX + 1];
    refused_for(try_packet(f, &fd, true, large, sizeof(large)), "larger than the protocol allows");
    assert_int_equal(f->n_marks, 0);
}

static void a_packet_cut_at_any_length_is_refused(void **state) {
    struct fixture *f = *state;
    uint8_t packet[1024];
    int fd = -1;
    start(f);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        size_t bytes = build(f, messages[i].request, 3);
        assert_true(bytes <= sizeof(packet));
        memcpy(packet, f->out.buffer, bytes);
        for (size_t n = 0; n < bytes; n++)
            refused_for(try_packet(f, &fd, true, packet, n), n ? "header contradicts" : "is empty");
    }
    size_t bytes = build_hello(f, 1, 1);
    memcpy(packet, f->hello.buffer, bytes);
    for (size_t n = 0; n < bytes; n++)
        assert_false(try_packet(f, &fd, false, packet, n));
}

/* The same with a header that fits: then the tail is what points behind the end. */
static void a_load_cut_with_its_header_is_refused(void **state) {
    struct fixture *f = *state;
    int fd = -1;
    start(f);
    size_t bytes = build(f, HEARTH_MSG_LOAD, 3), tail = sizeof(struct hearth_msg) + sizeof(struct hearth_msg_load);
    uint8_t packet[1024];
    for (size_t n = sizeof(struct hearth_msg); n < bytes; n++) {
        bytes = build(f, HEARTH_MSG_LOAD, 3);
        memcpy(packet, f->out.buffer, n);
        struct hearth_msg *header = (struct hearth_msg *)(void *)packet;
        header->bytes = (uint32_t)n;
        if (n < tail)
            header->fixed_bytes = (uint16_t)(n - sizeof(*header));
        assert_false(try_packet(f, &fd, true, packet, n));
    }
    close_fd(fd);
    assert_int_equal(f->calls[HEARTH_MSG_LOAD], 0);
}

static void any_flipped_bit_is_answered_or_refused(void **state) {
    struct fixture *f = *state;
    uint8_t packet[1024];
    int fd = -1;
    unsigned lived = 0, ended = 0;
    start(f);
    for (size_t i = 0; i <= N_MESSAGES; i++) {
        bool hello = i == N_MESSAGES;
        size_t bytes = hello ? build_hello(f, 1, 1) : build(f, messages[i].request, 3);
        memcpy(packet, hello ? f->hello.buffer : f->out.buffer, bytes);
        for (size_t bit = 0; bit < bytes * 8; bit++) {
            packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
            *(try_packet(f, &fd, !hello, packet, bytes) ? &lived : &ended) += 1;
            packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    close_fd(fd);
    assert_true(lived > 1000 && ended > 1000); /* both ways were gone */
}

/* Each changes one field of a sound LOAD or FILES, and must end its connection. */
static void lists_and_strings_out_of_range_are_refused(void **state) {
    struct fixture *f = *state;
    int fd = -1;
    start(f);
    for (unsigned i = 0; i < 17; i++) {
        size_t bytes = build(f, i < 14 ? HEARTH_MSG_LOAD : HEARTH_MSG_FILES, 3);
        uint8_t *fixed = f->out.buffer + sizeof(struct hearth_msg);
        struct hearth_msg_load *load = (struct hearth_msg_load *)(void *)fixed;
        struct hearth_msg_files *files = (struct hearth_msg_files *)(void *)fixed;
        struct hearth_wire_str *glob = (struct hearth_wire_str *)(void *)(f->out.buffer + load->include.offset);
        struct hearth_wire_str *digest = (struct hearth_wire_str *)(void *)(f->out.buffer + load->digests.offset);
        switch (i) {
        case 0:
            load->ref.offset = (uint32_t)bytes;
            break;
        case 1:
            load->ref.offset = UINT32_MAX;
            break;
        case 2:
            load->ref.length = UINT32_MAX;
            break;
        case 3:
            load->ref.length = 0;
            break;
        case 4:
            load->include.offset = (uint32_t)bytes & ~3u;
            break;
        case 5:
            load->include.offset += 2;
            break;
        case 6:
            load->include.count = HEARTH_LIST_MAX + 1;
            break;
        case 7:
            load->exclude.count = UINT32_MAX;
            break;
        case 8:
            load->digests.count = UINT32_MAX / 40;
            break;
        case 9:
            glob->offset = (uint32_t)bytes - 1;
            break;
        case 10:
            digest->length = (uint32_t)bytes;
            break;
        case 11:
            load->verify = HEARTH_VERIFY_ALWAYS + 1;
            break;
        case 12:
            load->flags = 1u << 31;
            break;
        case 13:
            f->out.buffer[load->ref.offset + 2] = '\0';
            break;
        case 14:
            files->files.count = 0;
            break;
        case 15:
            files->files.count = HEARTH_PACKET_FDS_MAX + 1;
            break;
        case 16:
            files->files.offset = UINT32_MAX - 3;
            break;
        }
        refused_for(try_packet(f, &fd, true, f->out.buffer, bytes), i < 14 ? "a LOAD has" : "a FILES names");
    }
    assert_int_equal(f->calls[HEARTH_MSG_LOAD] + f->calls[HEARTH_MSG_FILES], 0);
}

static void a_nul_in_any_string_is_refused(void **state) {
    struct fixture *f = *state;
    int fd = -1;
    start(f);
    const char *const strings[] = {"/models/a", "*.json", "onnx/*", "model.safetensors"};
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        size_t bytes = build(f, HEARTH_MSG_LOAD, 3);
        uint8_t *at = memmem(f->out.buffer, bytes, strings[i], strlen(strings[i]));
        assert_non_null(at);
        at[1] = '\0';
        refused_for(try_packet(f, &fd, true, f->out.buffer, bytes), "strings or lists that do not fit");
    }
    size_t bytes = build_hello(f, 1, 1);
    f->hello.buffer[bytes - 1] = '\0';
    assert_false(try_packet(f, &fd, false, f->hello.buffer, bytes));
}

/* A packet of 64 KiB may be full of strings, but one string many times over is no honest packet. */
static void the_largest_load_is_taken_and_an_inflated_one_is_not(void **state) {
    struct fixture *f = *state;
    struct wire_out *w = &f->out;
    void *entries;
    int fd = -1;
    start(f);
    for (int inflated = 0; inflated < 2; inflated++) {
        struct hearth_msg_load *m = wire_begin(w, HEARTH_MSG_LOAD, 3, sizeof(*m));
        m->include = wire_put_list(w, HEARTH_LIST_MAX, sizeof(struct hearth_wire_str), &entries);
        m->ref = wire_put_str(w, "/models/a");
        size_t room = HEARTH_PACKET_MAX - w->used;
        _cleanup_free_ char *text = malloc(room);
        assert_non_null(text);
        memset(text, 'x', room);
        struct hearth_wire_str all = wire_put_bytes(w, text, room);
        struct hearth_wire_str *globs = entries;
        uint32_t each = (uint32_t)room / HEARTH_LIST_MAX;
        for (uint32_t i = 0; i < HEARTH_LIST_MAX; i++)
            globs[i] = inflated ? all : (struct hearth_wire_str){all.offset + i * each, each};
        size_t bytes = (size_t)wire_end(w);
        assert_int_equal(bytes, HEARTH_PACKET_MAX);
        assert_int_equal(try_packet(f, &fd, true, w->buffer, bytes), !inflated);
        assert_int_equal(f->calls[HEARTH_MSG_LOAD], 1);
        assert_int_equal(f->text, strlen("/models/a") + (size_t)each * HEARTH_LIST_MAX);
    }
    close_fd(fd);
}

/* The packet holds each of these lists whole: it is their count that is refused. */
static void a_list_beyond_the_bound_is_refused_though_it_fits(void **state) {
    struct fixture *f = *state;
    int fd = -1;
    start(f);
    for (unsigned which = 0; which < 3; which++)
        for (unsigned beyond = 0; beyond < 2; beyond++) {
            struct hearth_msg_load *m = wire_begin(&f->out, HEARTH_MSG_LOAD, 3, sizeof(*m));
            struct hearth_wire_list *lists[] = {&m->include, &m->exclude, &m->digests};
            void *entries;
            m->ref = wire_put_str(&f->out, "/models/a");
            *lists[which] = wire_put_list(
                &f->out, HEARTH_LIST_MAX + beyond,
                which == 2 ? sizeof(struct hearth_wire_digest) : sizeof(struct hearth_wire_str), &entries);
            assert_non_null(entries);
            size_t bytes = (size_t)wire_end(&f->out);
            bool lives = try_packet(f, &fd, true, f->out.buffer, bytes);
            if (beyond)
                refused_for(lives, "a LOAD has");
            else
                assert_true(lives);
        }
    close_fd(fd);
    assert_int_equal(f->calls[HEARTH_MSG_LOAD], 3);
}

/* Later versions may give them a meaning; today's daemon must not take such a request for one it knows. */
static void unknown_flags_and_reserved_fields_are_refused(void **state) {
    struct fixture *f = *state;
    const enum hearth_msg_type types[] = {HEARTH_MSG_ATTACH, HEARTH_MSG_EVICT,  HEARTH_MSG_PIN, HEARTH_MSG_WATCH,
                                          HEARTH_MSG_LIST,   HEARTH_MSG_STATUS, HEARTH_MSG_STOP};
    int fd = -1;
    start(f);
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        for (unsigned reserved = 0; reserved < 2; reserved++) {
            size_t bytes = build(f, types[i], 3), flags = sizeof(struct hearth_msg) + (i < 4 ? sizeof(uint64_t) : 0);
            f->out.buffer[flags + 4 * reserved] |= 0x80;
            refused_for(try_packet(f, &fd, true, f->out.buffer, bytes), reserved ? "reserved" : "flags");
        }
    size_t bytes = build(f, HEARTH_MSG_STATUS, 3);
    f->out.buffer[offsetof(struct hearth_msg, reserved)] = 1;
    refused_for(try_packet(f, &fd, true, f->out.buffer, bytes), "header contradicts");
    assert_int_equal(f->n_marks, 0); /* the daemon heard of none */
}

static void random_packets_harm_nobody_else(void **state) {
    struct fixture *f = *state;
    uint64_t x = 88172645463325252u; /* xorshift: the same packets each time */
    uint8_t packet[512];
    int fd = -1, witness;
    start(f);
    witness = greet(f);
    f->n_marks = f->n_gone = 0;
    for (unsigned i = 0; i < 100000; i++) {
        size_t bytes = build(f, messages[i % N_MESSAGES].request, i + 1);
        memcpy(packet, f->out.buffer, bytes);
        unsigned changes = i % 7;
        for (unsigned k = 0; k < changes; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            /* mostly behind the header's sizes, which are easy to refuse */
            size_t at = x % 8 == 0 ? x / 8 % bytes : 8 + x / 8 % (bytes - 8);
            packet[at] = x >> 63 ? (uint8_t)(x >> 32) : (uint8_t)((x >> 32) % 4);
        }
        if (f->n_marks == MARKS_MAX) {
            fd = close_fd(fd);
            turn(f);
            assert_int_equal(f->n_gone, f->n_marks);
            memset(f->marks, 0, sizeof(f->marks));
            f->n_marks = f->n_gone = 0;
        }
        (void)try_packet(f, &fd, true, packet, bytes);
    }
    close_fd(fd);
    turn(f);
    assert_int_equal(ipc_server_peers(f->server), 1);
    ask(f, witness, HEARTH_MSG_STATUS, 1);
    assert_int_equal(reply(f, witness), HEARTH_MSG_STATUS_REPLY);
    close(witness);
}

/* Where the kernel knows SO_PASSRIGHTS the send fails; elsewhere they are closed, and the sender is ended. */
static void descriptors_from_clients_are_never_kept(void **state) {
    struct fixture *f = *state;
    struct fdlist fds = {.count = 3, .fds = {f->file, f->file, f->file}};
    start(f);
    for (int accepted = 0; accepted < 2; accepted++) { /* sent while it waits to be accepted, and after */
        int fd = accepted ? greet(f) : dial(f->path);
        size_t bytes = build_hello(f, 1, 1);
        int before = open_fds(), r = fdlist_send(fd, f->hello.buffer, bytes, &fds);
        if (r == 0) {
            expect_error(f, fd, 0, HEARTH_E_PROTOCOL);
            expect_end(f, fd);
            assert_true(open_fds() <= before);
        } else {
            assert_int_equal(r, -EPERM);
        }
        close(fd);
        turn(f);
    }
    /* As an older kernel would have it. */
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    assert_non_null(peer_new(f->server, pair[0], (struct ipc_cred){getpid(), getuid(), getgid()}));
    int before = open_fds();
    assert_int_equal(fdlist_send(pair[1], f->hello.buffer, build_hello(f, 1, 1), &fds), 0);
    expect_error(f, pair[1], 0, HEARTH_E_PROTOCOL);
    expect_end(f, pair[1]);
    assert_int_equal(open_fds(), before - 1); /* the server's end is closed too */
    close(pair[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ipc_test(what_breaks_the_protocol_ends_the_connection),
        ipc_test(a_packet_cut_at_any_length_is_refused),
        ipc_test(a_load_cut_with_its_header_is_refused),
        ipc_test(any_flipped_bit_is_answered_or_refused),
        ipc_test(lists_and_strings_out_of_range_are_refused),
        ipc_test(a_nul_in_any_string_is_refused),
        ipc_test(the_largest_load_is_taken_and_an_inflated_one_is_not),
        ipc_test(a_list_beyond_the_bound_is_refused_though_it_fits),
        ipc_test(unknown_flags_and_reserved_fields_are_refused),
        ipc_test(random_packets_harm_nobody_else),
        ipc_test(descriptors_from_clients_are_never_kept),
    };
    return cmocka_run_group_tests_name("ipc_damage", tests, NULL, NULL);
}
