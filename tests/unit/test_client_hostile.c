/* ipc/client: a daemon that hangs up, talks nonsense or lies. Each ends in one clear error, with nothing left open. */
#include "tests/unit/scripted_daemon.h"

#define ID 7u

/* ---- hanging up ---- */

struct hang_up {
    int after; /* packets that are read before */
    bool words;
};

static void hang_up(struct scripted *s, int fd) {
    const struct hang_up *u = s->arg;
    for (int i = 0; i < u->after; i++)
        if (!sd_read(s, fd))
            return;
    if (u->words)
        sd_error(s, fd, 0, HEARTH_E_BUSY, "too many of you");
}

static void hanging_up_at_any_step_is_told_apart_from_success(void **state) {
    (void)state;
    for (int words = 0; words < 2; words++)
        for (int after = 0; after < 2; after++) {
            struct hang_up u = {.after = after, .words = words};
            int code = words ? HEARTH_E_BUSY : HEARTH_E_DISCONNECTED;
            struct scripted *s = scripted_start(hang_up, &u, true);
            struct hearth *h = NULL;
            struct hearth_error err;
            assert_int_equal(hearth_connect(s->path, HEARTH_NO_DEADLINE, &h, &err), code); /* no WELCOME comes */
            assert_int_equal(err.code, code);
            if (words)
                assert_string_equal(err.message, "too many of you");
            scripted_stop(s);
        }
}

static void every_call_on_a_dead_connection_says_why_it_died(void **state) {
    (void)state;
    struct hang_up u = {.after = 1, .words = true};
    struct scripted *s = scripted_start(hang_up, &u, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    struct hearth_artifact *a;
    struct hearth_info info;
    struct hearth_status status;
    assert_int_equal(hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_attach_files(h, ID, NULL, 0, HEARTH_NO_DEADLINE, &a, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_watch(h, ID, NULL, NULL, HEARTH_NO_DEADLINE, &info, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_get_status(h, HEARTH_NO_DEADLINE, &status, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_evict(h, ID, true, HEARTH_NO_DEADLINE, &err), HEARTH_E_BUSY);
    assert_int_equal(hearth_dispatch(h, &err), HEARTH_E_BUSY);
    assert_string_equal(err.message, "too many of you");
    hearth_close(h);
    scripted_stop(s);
}

static void unread_requests_do_not_hide_the_last_words(void **state) {
    (void)state;
    /* It closes with a packet of ours unread, which the kernel reports as a reset ahead of what it had sent. */
    struct hang_up u = {.after = 0, .words = true};
    struct scripted *s = scripted_start(hang_up, &u, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_error err;
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), HEARTH_E_BUSY);
    hearth_close(h);
    scripted_stop(s);
}

/* ---- nonsense ---- */

enum nonsense {
    SHORT,
    WRONG_LENGTH,
    FIXED_TOO_LONG,
    TOO_LARGE,
    SERIAL_ZERO,
    SERIAL_NEVER_USED,
    UNKNOWN_TYPE,
    WRONG_TYPE,
    A_REQUEST,
    STRING_OUTSIDE,
    ERROR_OUTSIDE,
    FDS_UNASKED,
    FDS_WITH_ERROR,
    NONSENSES,
};

static void talk_nonsense(struct scripted *s, int fd) {
    enum nonsense what = *(enum nonsense *)s->arg;
    if (!sd_expect(s, fd, HEARTH_MSG_LOAD))
        return;
    uint32_t serial = sd_serial(s);
    static const uint8_t zeros[HEARTH_PACKET_MAX + 1];
    struct fdlist fds = {.count = 2, .fds = {fd, fd}};
    struct hearth_msg_info *m = wire_begin(&s->out, HEARTH_MSG_INFO, serial, sizeof(*m));
    struct hearth_msg *header = (void *)s->out.buffer;
    long bytes = wire_end(&s->out);
    const struct fdlist *with = NULL;
    const void *packet = s->out.buffer;
    switch (what) {
    case SHORT:
        bytes = 5;
        break;
    case WRONG_LENGTH:
        header->bytes++;
        break;
    case FIXED_TOO_LONG:
        header->fixed_bytes = UINT16_MAX;
        break;
    case TOO_LARGE:
        packet = zeros;
        bytes = sizeof(zeros);
        break;
    case SERIAL_ZERO:
        header->serial = 0;
        break;
    case SERIAL_NEVER_USED:
        header->serial = serial + 1;
        break;
    case UNKNOWN_TYPE:
        header->type = UINT16_MAX;
        break;
    case WRONG_TYPE:
        header->type = HEARTH_MSG_DONE;
        break;
    case A_REQUEST:
        header->type = HEARTH_MSG_LOAD;
        break;
    case STRING_OUTSIDE:
        m->ref = (struct hearth_wire_str){UINT32_MAX, 2};
        break;
    case ERROR_OUTSIDE:
        header->type = HEARTH_MSG_ERROR;
        ((struct hearth_msg_error *)(void *)m)->hint = (struct hearth_wire_str){8, UINT32_MAX};
        break;
    case FDS_UNASKED:
        with = &fds;
        break;
    case FDS_WITH_ERROR:
    default:
        header->type = HEARTH_MSG_ERROR;
        with = &fds;
        break;
    }
    (void)fdlist_send(fd, packet, (size_t)bytes, with);
    sd_drain(s, fd); /* the client hangs up */
}

static void nonsense_ends_the_connection_with_a_protocol_error(void **state) {
    (void)state;
    for (enum nonsense what = SHORT; what < NONSENSES; what++) {
        struct scripted *s = scripted_start(talk_nonsense, &what, false);
        struct hearth *h = scripted_connect(s);
        struct hearth_error err = HEARTH_ERROR_INIT;
        struct hearth_info info;
        if (hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, &err) != HEARTH_E_PROTOCOL)
            fail_msg("nonsense %d gave %s: %s", what, hearth_code_name(err.code), err.message);
        assert_string_equal(err.file, s->path);
        assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), HEARTH_E_PROTOCOL);
        hearth_close(h);
        scripted_stop(s);
    }
}

/* ---- lies about descriptors ---- */

struct lie {
    uint64_t id;
    uint32_t n_files, n_fds, sent; /* sent: behind the index's */
    bool no_index;
    uint32_t files_sent; /* in answer to FILES */
};

static void lie_about_fds(struct scripted *s, int fd) {
    const struct lie *l = s->arg;
    if (!sd_expect(s, fd, HEARTH_MSG_ATTACH))
        return;
    struct test_index x = index_new(3, 100, NULL, 0);
    _cleanup_close_ int index = index_fd(&x);
    _cleanup_close_ int file = pattern_fd(100);
    struct hearth_msg_attached *m = wire_begin(&s->out, HEARTH_MSG_ATTACHED, sd_serial(s), sizeof(*m));
    *m = (struct hearth_msg_attached){.id = l->id, .n_files = l->n_files, .n_fds = l->n_fds};
    struct fdlist fds = {.count = l->no_index ? 0 : l->sent + 1, .fds = {index}};
    for (uint32_t i = 0; i < l->sent; i++)
        fds.fds[i + 1] = file;
    sd_send(s, fd, &fds);
    if (sd_read(s, fd) == HEARTH_MSG_FILES)
        sd_fds(s, fd, sd_serial(s), ID, l->files_sent, file);
    sd_drain(s, fd);
}

static void descriptors_missing_or_too_many_end_the_connection(void **state) {
    (void)state;
    static const struct lie lies[] = {
        {.id = ID, .n_files = 3, .no_index = true},
        {.id = ID, .n_files = 3, .n_fds = 3, .sent = 2},
        {.id = ID, .n_files = 3, .n_fds = 2, .sent = 3},
        {.id = ID, .n_files = 3, .n_fds = 4, .sent = 4},
        {.id = ID, .n_files = 3, .n_fds = UINT32_MAX, .sent = 0},
        {.id = ID + 1, .n_files = 3, .n_fds = 3, .sent = 3},
        {.id = ID, .n_files = 3, .n_fds = 1, .sent = 1, .files_sent = 1},
        {.id = ID, .n_files = 3, .n_fds = 1, .sent = 1, .files_sent = 3},
        {.id = ID, .n_files = 3, .n_fds = 1, .sent = 1, .files_sent = 0},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct lie lie = lies[i];
        struct scripted *s = scripted_start(lie_about_fds, &lie, false);
        struct hearth *h = scripted_connect(s);
        struct hearth_artifact *a;
        struct hearth_error err = HEARTH_ERROR_INIT;
        if (hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err) != HEARTH_E_PROTOCOL)
            fail_msg("lie %zu gave %s: %s", i, hearth_code_name(err.code), err.message);
        assert_null(a);
        hearth_close(h);
        scripted_stop(s);
    }
}

static void hang_up_while_fetching(struct scripted *s, int fd) {
    struct test_index x = index_new(3, 100, NULL, 0);
    _cleanup_close_ int index = index_fd(&x);
    _cleanup_close_ int file = pattern_fd(100);
    if (sd_expect(s, fd, HEARTH_MSG_ATTACH))
        sd_attached(s, fd, sd_serial(s), ID, 3, 1, index, file);
    sd_expect(s, fd, HEARTH_MSG_FILES);
}

static void a_hang_up_between_attach_and_files_leaves_nothing(void **state) {
    (void)state;
    struct scripted *s = scripted_start(hang_up_while_fetching, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a;
    struct hearth_error err;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), HEARTH_E_DISCONNECTED);
    assert_null(a);
    hearth_close(h);
    scripted_stop(s);
}

static void attach_and_die(struct scripted *s, int fd) {
    struct test_index x = index_new(1, 100, (struct test_tensor[]){{"t", 0, 3, 4}}, 1);
    _cleanup_close_ int index = index_fd(&x);
    _cleanup_close_ int file = pattern_fd(100);
    if (sd_expect(s, fd, HEARTH_MSG_ATTACH))
        sd_attached(s, fd, sd_serial(s), ID, 1, 1, index, file);
}

static void an_artifact_outlives_its_daemon(void **state) {
    (void)state;
    struct scripted *s = scripted_start(attach_and_die, NULL, false);
    struct hearth *h = scripted_connect(s);
    struct hearth_artifact *a;
    struct hearth_error err;
    struct hearth_tensor t;
    assert_int_equal(hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err), 0);
    assert_int_equal(hearth_stop(h, HEARTH_NO_DEADLINE, &err), HEARTH_E_DISCONNECTED);
    assert_int_equal(hearth_find_tensor(a, NULL, "t", HEARTH_NO_DEADLINE, &t, &err), 0);
    assert_int_equal(((const uint8_t *)t.data)[0], 21);
    hearth_release(a);
    hearth_close(h);
    scripted_stop(s);
}

/* ---- random damage ---- */

#define DAMAGES 400

/* A small generator with a seed of its own: a failure can be repeated. */
static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void damage(uint32_t *seed, uint8_t *bytes, size_t n) {
    for (uint32_t i = next_random(seed) % 3 + 1; i > 0; i--)
        bytes[next_random(seed) % n] = (uint8_t)(next_random(seed) % 4 ? next_random(seed) : 0xff);
}

static const struct test_tensor some[] = {{"a", 0, 0, 64}, {"b", 0, 64, 36}, {"b", 1, 0, 100}, {"c", 1, 1, 2}};

static void damaged_replies(struct scripted *s, int fd) {
    uint32_t *seed = s->arg;
    int type;
    struct test_index x = index_new(2, 100, some, 4);
    _cleanup_close_ int index = index_fd(&x);
    _cleanup_close_ int file = pattern_fd(100);
    while ((type = sd_read(s, fd)) != 0) {
        struct fdlist fds = {.count = next_random(seed) % 4, .fds = {index, file, file, fd}};
        long bytes;
        if (type == HEARTH_MSG_ATTACH) {
            struct hearth_msg_attached *m = wire_begin(&s->out, HEARTH_MSG_ATTACHED, sd_serial(s), sizeof(*m));
            *m = (struct hearth_msg_attached){.id = ID, .n_files = 2, .n_fds = 2};
            bytes = wire_end(&s->out);
        } else if (type == HEARTH_MSG_LOAD) {
            struct hearth_msg_info *m = wire_begin(&s->out, HEARTH_MSG_INFO, sd_serial(s), sizeof(*m));
            m->ref = wire_put_str(&s->out, "/models/a");
            bytes = wire_end(&s->out);
            fds.count = 0;
        } else {
            struct hearth_error e;
            error_set(&e, HEARTH_E_IO, "a message");
            bytes = wire_error(&s->out, sd_serial(s), &e);
            fds.count = 0;
        }
        damage(seed, s->out.buffer, (size_t)bytes);
        if (fdlist_send(fd, s->out.buffer, (size_t)bytes, &fds) < 0)
            return;
        shutdown(fd, SHUT_WR); /* so that a reply that was lost is not waited for */
    }
}

static void damaged_replies_neither_crash_nor_hang_nor_leak(void **state) {
    (void)state;
    uint32_t seed = 1;
    struct scripted *s = scripted_start(damaged_replies, &seed, false);
    for (int i = 0; i < DAMAGES; i++) {
        struct hearth *h = scripted_connect(s);
        struct hearth_artifact *a = NULL;
        struct hearth_info info;
        struct hearth_error err;
        int code;
        switch (i % 3) {
        case 0:
            code = hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, &err);
            assert_int_equal(code == 0, a != NULL);
            break;
        case 1:
            code = hearth_load(h, "/m", NULL, HEARTH_NO_DEADLINE, &info, &err);
            break;
        default:
            code = hearth_stop(h, HEARTH_NO_DEADLINE, &err);
            break;
        }
        assert_true(code >= 0);
        if (code)
            assert_int_equal(err.code, code);
        hearth_close(h);
    }
    scripted_stop(s);
}

static void damaged_index(struct scripted *s, int fd) {
    uint32_t *seed = s->arg;
    struct test_index x = index_new(2, 100, some, 4);
    damage(seed, (uint8_t *)x.header, x.bytes);
    _cleanup_close_ int index = index_fd(&x);
    _cleanup_close_ int file = pattern_fd(100);
    if (sd_expect(s, fd, HEARTH_MSG_ATTACH))
        sd_attached(s, fd, sd_serial(s), ID, 2, 2, index, file);
    sd_drain(s, fd);
}

/* Touches all that the accessors give. Returns the sum of the bytes, so that nothing is left out by the compiler. */
static unsigned use_everything(struct hearth_artifact *a) {
    unsigned sum = 0;
    struct hearth_error err;
    struct hearth_tensor t;
    struct hearth_file f;
    for (size_t i = 0; i < hearth_file_count(a); i++) {
        assert_int_equal(hearth_file_at(a, i, &f, &err), 0);
        sum += (unsigned)(strlen(f.path) + strlen(f.format));
        sum += f.sha256 ? f.sha256[31] : 0;
    }
    for (size_t i = 0; i < hearth_tensor_count(a); i++) {
        if (hearth_tensor_at(a, i, &t, &err))
            continue;
        sum += (unsigned)(strlen(t.name) + strlen(t.dtype));
        for (uint32_t d = 0; d < t.n_dims; d++)
            sum += (unsigned)t.shape[d];
        if (t.bytes > 0)
            sum += ((const uint8_t *)t.data)[0] + ((const uint8_t *)t.data)[t.bytes - 1];
    }
    for (size_t i = 0; i < 4; i++)
        (void)hearth_find_tensor(a, i % 2 ? "f00001" : NULL, some[i].name, HEARTH_NO_DEADLINE, &t, &err);
    return sum;
}

static void a_damaged_index_is_refused_or_used_inside_its_bounds(void **state) {
    (void)state;
    uint32_t seed = 2;
    struct scripted *s = scripted_start(damaged_index, &seed, false);
    unsigned sum = 0, attached = 0;
    for (int i = 0; i < DAMAGES; i++) {
        struct hearth *h = scripted_connect(s);
        struct hearth_artifact *a;
        if (hearth_attach(h, ID, HEARTH_NO_DEADLINE, &a, NULL) == 0) {
            sum += use_everything(a);
            attached++;
        }
        hearth_close(h);
    }
    assert_true(sum > 0);
    assert_in_range(attached, 1, DAMAGES - 1); /* some are refused, and some are not */
    scripted_stop(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hanging_up_at_any_step_is_told_apart_from_success),
        cmocka_unit_test(every_call_on_a_dead_connection_says_why_it_died),
        cmocka_unit_test(unread_requests_do_not_hide_the_last_words),
        cmocka_unit_test(nonsense_ends_the_connection_with_a_protocol_error),
        cmocka_unit_test(descriptors_missing_or_too_many_end_the_connection),
        cmocka_unit_test(a_hang_up_between_attach_and_files_leaves_nothing),
        cmocka_unit_test(an_artifact_outlives_its_daemon),
        cmocka_unit_test(damaged_replies_neither_crash_nor_hang_nor_leak),
        cmocka_unit_test(a_damaged_index_is_refused_or_used_inside_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
