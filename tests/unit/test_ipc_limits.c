/* ipc: what a client makes the server hold is bounded, charged and given back: replies it does not read, descriptors it
 * does not receive, requests under way, connections that end at any step. */
#include <sys/epoll.h>
#include <sys/resource.h>

#include "ipc_fixture.h"
#include "util/clock.h"

/* Sends a request while the socket takes it. */
static bool try_ask(struct fixture *f, int fd, enum hearth_msg_type type, uint32_t serial) {
    size_t bytes = build(f, type, serial);
    return send_bytes(fd, f->out.buffer, bytes) == 0;
}

/* ---- replies that are not read ---- */

static void a_client_that_never_reads_is_ended_within_bounds(void **state) {
    struct fixture *f = *state;
    static char ref[4000];
    memset(ref, 'x', sizeof(ref) - 1);
    f->ref = ref;
    f->items = 100;
    start(f);
    int fd = greet(f);
    size_t most = 0;
    for (uint32_t i = 1; ipc_server_peers(f->server) == 1; i++) {
        assert_true(i < 1000);
        most = f->server->peers->queued_bytes > most ? f->server->peers->queued_bytes : most;
        assert_int_equal(f->server->peers->queued_bytes, f->server->accounts->queued_bytes);
        (void)try_ask(f, fd, HEARTH_MSG_LIST, i);
        turn(f);
    }
    assert_true(most > QUEUE_BYTES_MAX / 2 && most <= QUEUE_BYTES_MAX);
    assert_int_equal(f->n_gone, 1);
    close(fd);
}

static void queued_replies_come_in_order_once_they_are_read(void **state) {
    struct fixture *f = *state;
    struct hearth_msg_info info;
    f->items = 2000;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    ask(f, fd, HEARTH_MSG_STATUS, 3);
    turn(f);
    assert_true(f->server->peers->queued > 1000);
    for (unsigned i = 1; i <= 2000; i++) {
        assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
        wire_fixed(&f->in, &info, sizeof(info));
        assert_int_equal(info.id, i);
    }
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    assert_int_equal(reply(f, fd), HEARTH_MSG_STATUS_REPLY);
    assert_int_equal(f->server->accounts->queued_bytes, 0);
    assert_int_equal(f->server->peers->events & EPOLLOUT, 0);
    close(fd);
}

static void an_answer_of_any_length_goes_out_as_the_client_reads(void **state) {
    struct fixture *f = *state;
    struct hearth_msg_info info;
    static char ref[4000];
    memset(ref, 'x', sizeof(ref) - 1);
    f->ref = ref;
    f->items = 3 * QUEUE_PACKETS_MAX; /* far more bytes than may be queued, too */
    f->paced = true;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    for (unsigned i = 1; i <= f->items; i++) {
        assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
        wire_fixed(&f->in, &info, sizeof(info));
        assert_int_equal(info.id, i);
        assert_true(f->server->peers->queued <= 1);
    }
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    assert_int_equal(reply(f, fd), -EAGAIN);
    assert_int_equal(f->server->peers->requests, 0);
    assert_int_equal(f->server->peers->events & EPOLLOUT, 0);
    close(fd);
}

/* Nothing spins meanwhile, as turn() proves. */
static void a_long_answer_that_nobody_reads_is_one_request_under_way(void **state) {
    struct fixture *f = *state;
    static char ref[4000];
    memset(ref, 'x', sizeof(ref) - 1);
    f->ref = ref;
    f->items = 2000;
    f->paced = true;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    turn(f);
    struct ipc_peer *p = f->server->peers;
    assert_true(f->list.sent > 10 && f->list.sent < f->items);
    assert_true(p->queued == 1 && p->requests == 1 && !ipc_peer_has_room(p));
    ask(f, fd, HEARTH_MSG_ERROR, 3); /* breaks the protocol: the list goes on no more */
    turn(f);
    assert_true(p->closing && !ipc_peer_has_room(p));
    unsigned sent = f->list.sent;
    for (unsigned i = 0; i < sent; i++)
        assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
    expect_error(f, fd, 0, HEARTH_E_PROTOCOL);
    expect_end(f, fd);
    assert_int_equal(f->list.sent, sent);
    close(fd);
}

static void the_last_error_comes_behind_what_is_queued(void **state) {
    struct fixture *f = *state;
    f->items = 2000;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    ask(f, fd, HEARTH_MSG_ERROR, 3);  /* breaks the protocol */
    ask(f, fd, HEARTH_MSG_STATUS, 4); /* not heard any more */
    turn(f);
    assert_true(f->server->peers->closing);
    ipc_reply_done(f->server->peers, 9, 0); /* an answer that came too late */
    for (unsigned i = 1; i <= 2000; i++)
        assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    expect_error(f, fd, 0, HEARTH_E_PROTOCOL);
    expect_end(f, fd);
    assert_int_equal(f->calls[HEARTH_MSG_STATUS], 0);
    close(fd);
}

static void a_closing_client_that_hangs_up_is_gone(void **state) {
    struct fixture *f = *state;
    f->items = 2000;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    ask(f, fd, HEARTH_MSG_ERROR, 3);
    turn(f);
    assert_true(f->server->peers->closing);
    close(fd);
    turn(f);
    assert_int_equal(ipc_server_peers(f->server), 0);
}

static void progress_is_dropped_and_leaves_room_for_replies(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    f->hold = true;
    ask(f, fd, HEARTH_MSG_WATCH, 2);
    turn(f);
    struct ipc_peer *p = f->held[0].peer;
    const struct hearth_msg_info info = {.id = 77};
    for (unsigned i = 0; i < 10000; i++)
        ipc_reply_progress(p, 2, &info, "/models/a");
    assert_int_equal(p->queued, 0);
    f->hold = false;
    f->attach = HEARTH_PACKET_FDS_MAX;
    ask(f, fd, HEARTH_MSG_ATTACH, 3);
    turn(f);
    assert_true(f->sent);
    ipc_reply_info(p, 2, &info, "/models/a");
    unsigned progress = 0;
    int type;
    while ((type = reply(f, fd)) == HEARTH_MSG_PROGRESS)
        progress++;
    assert_true(progress > 0 && progress < 200);
    assert_int_equal(type, HEARTH_MSG_ATTACHED);
    assert_int_equal(f->n_fds, HEARTH_PACKET_FDS_MAX);
    assert_int_equal(reply(f, fd), HEARTH_MSG_INFO);
    close(fd);
}

/* ---- descriptors that are not read ---- */

static void unread_descriptors_are_bounded_per_connection(void **state) {
    struct fixture *f = *state;
    f->attach = HEARTH_PACKET_FDS_MAX;
    start(f);
    int fd = greet(f);
    for (uint32_t serial = 2; serial < 5; serial++)
        ask(f, fd, HEARTH_MSG_ATTACH, serial);
    turn(f);
    assert_false(f->sent);
    assert_int_equal(f->server->peers->unread_fds, UNREAD_FDS_MAX);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(reply(f, fd), HEARTH_MSG_ATTACHED);
        assert_int_equal(f->n_fds, HEARTH_PACKET_FDS_MAX);
    }
    expect_error(f, fd, 4, HEARTH_E_BUSY);
    ask(f, fd, HEARTH_MSG_ATTACH, 5); /* it has read them: there is room again */
    assert_int_equal(reply(f, fd), HEARTH_MSG_ATTACHED);
    assert_int_equal(f->server->accounts->unread_fds, HEARTH_PACKET_FDS_MAX);
    close(fd);
}

static void unread_descriptors_are_bounded_per_user_and_the_idle_do_not_count(void **state) {
    struct fixture *f = *state;
    int fds[8];
    f->attach = HEARTH_PACKET_FDS_MAX;
    start(f);
    f->server->unread_fds_uid_max = 4 * HEARTH_PACKET_FDS_MAX;
    for (unsigned i = 0; i < 8; i++) { /* each has read its own when the next one asks */
        fds[i] = greet(f);
        ask(f, fds[i], HEARTH_MSG_ATTACH, 2);
        assert_int_equal(reply(f, fds[i]), HEARTH_MSG_ATTACHED);
        assert_true(f->server->accounts->unread_fds <= f->server->unread_fds_uid_max);
    }
    for (unsigned i = 0; i < 4; i++) /* these do not read */
        ask(f, fds[i], HEARTH_MSG_ATTACH, 3);
    turn(f);
    assert_true(f->sent);
    ask(f, fds[4], HEARTH_MSG_ATTACH, 3);
    expect_error(f, fds[4], 3, HEARTH_E_BUSY); /* told so, and not ended: it is not the one to blame */
    assert_false(f->sent);
    assert_int_equal(reply(f, fds[0]), HEARTH_MSG_ATTACHED);
    ask(f, fds[4], HEARTH_MSG_ATTACH, 4);
    assert_int_equal(reply(f, fds[4]), HEARTH_MSG_ATTACHED);
    close(fds[1]); /* a hang-up gives back what was unread */
    turn(f);
    ask(f, fds[5], HEARTH_MSG_ATTACH, 4);
    assert_int_equal(reply(f, fds[5]), HEARTH_MSG_ATTACHED);
    for (unsigned i = 0; i < 8; i++)
        if (i != 1)
            close(fds[i]);
}

/* As if all that has happened was `ns` ago. */
static void time_passes(struct fixture *f, uint64_t ns) {
    for (struct ipc_peer *p = f->server->peers; p; p = p->next)
        p->unread_ns -= p->unread_ns ? ns : 0;
}

static void who_reads_no_descriptors_makes_room_for_who_does(void **state) {
    struct fixture *f = *state;
    int idle[3];
    f->attach = HEARTH_PACKET_FDS_MAX;
    start(f);
    f->server->unread_fds_uid_max = 4 * HEARTH_PACKET_FDS_MAX;
    for (unsigned i = 0; i < 3; i++) {
        idle[i] = greet(f);
        ask(f, idle[i], HEARTH_MSG_ATTACH, 2);
    }
    ask(f, idle[1], HEARTH_MSG_ATTACH, 3); /* this one holds most */
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_ATTACH, 2);
    expect_error(f, fd, 2, HEARTH_E_BUSY);
    time_passes(f, 4 * NS_PER_S);
    ask(f, idle[1], HEARTH_MSG_STATUS, 4); /* asking is not reading */
    ask(f, fd, HEARTH_MSG_ATTACH, 3);
    expect_error(f, fd, 3, HEARTH_E_BUSY);
    time_passes(f, 1 * NS_PER_S);
    ask(f, fd, HEARTH_MSG_ATTACH, 4);
    assert_int_equal(reply(f, fd), HEARTH_MSG_ATTACHED);
    assert_int_equal(ipc_server_peers(f->server), 3);
    assert_int_equal(f->server->accounts->unread_fds, 3 * HEARTH_PACKET_FDS_MAX);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(reply(f, idle[1]), HEARTH_MSG_ATTACHED);
    assert_int_equal(reply(f, idle[1]), HEARTH_MSG_STATUS_REPLY);
    expect_error(f, idle[1], 0, HEARTH_E_BUSY);
    expect_end(f, idle[1]);
    assert_int_equal(reply(f, idle[0]), HEARTH_MSG_ATTACHED); /* one was enough */
    close(fd);
    for (unsigned i = 0; i < 3; i++)
        close(idle[i]);
}

static void who_asks_for_more_and_reads_nothing_is_ended_itself(void **state) {
    struct fixture *f = *state;
    f->attach = HEARTH_PACKET_FDS_MAX;
    start(f);
    f->server->unread_fds_uid_max = HEARTH_PACKET_FDS_MAX;
    int fd = greet(f);
    for (uint32_t serial = 2; serial < 4; serial++) {
        ask(f, fd, HEARTH_MSG_ATTACH, serial);
        turn(f);
    }
    time_passes(f, 5 * NS_PER_S);
    ask(f, fd, HEARTH_MSG_ATTACH, 4);
    turn(f);
    assert_false(f->sent);
    assert_int_equal(ipc_server_peers(f->server), 0);
    close(fd);
}

/* Whatever is unread at the moments at which it is looked at. */
static void who_reads_slowly_keeps_its_connection(void **state) {
    struct fixture *f = *state;
    f->attach = HEARTH_PACKET_FDS_MAX;
    start(f);
    f->server->unread_fds_uid_max = 2 * HEARTH_PACKET_FDS_MAX;
    int slow = greet(f), fd = greet(f);
    for (uint32_t serial = 2; serial < 4; serial++)
        ask(f, slow, HEARTH_MSG_ATTACH, serial);
    turn(f);
    for (uint32_t i = 0; i < 20; i++) {
        ask(f, fd, HEARTH_MSG_ATTACH, i + 2);
        expect_error(f, fd, i + 2, HEARTH_E_BUSY);
        time_passes(f, 5 * NS_PER_S);
        if (i % 2) /* it gets more than it reads */
            for (uint32_t k = 0; k < 3; k++)
                ask(f, slow, HEARTH_MSG_STATUS, 100);
        assert_true(reply(f, slow) > 0);
        if (i % 2) {
            ask(f, slow, HEARTH_MSG_STATUS, 100);
            turn(f);
        }
    }
    assert_int_equal(ipc_server_peers(f->server), 2);
    int type;
    while ((type = reply(f, slow)) != -EAGAIN)
        assert_true(type > 0);
    ask(f, fd, HEARTH_MSG_ATTACH, 100);
    assert_int_equal(reply(f, fd), HEARTH_MSG_ATTACHED);
    close(slow);
    close(fd);
}

static void descriptors_behind_queued_replies_are_refused_not_held(void **state) {
    struct fixture *f = *state;
    f->items = 2000;
    start(f);
    int fd = greet(f);
    ask(f, fd, HEARTH_MSG_LIST, 2);
    ask(f, fd, HEARTH_MSG_ATTACH, 3);
    turn(f);
    assert_false(f->sent);
    int type;
    while ((type = reply(f, fd)) == HEARTH_MSG_INFO)
        ;
    assert_int_equal(type, HEARTH_MSG_DONE);
    expect_error(f, fd, 3, HEARTH_E_BUSY);
    ask(f, fd, HEARTH_MSG_ATTACH, 4);
    assert_int_equal(reply(f, fd), HEARTH_MSG_ATTACHED);
    close(fd);
}

/* The kernel's own limit is for a daemon without privileges: in a process of its own. The line that failed, or 0. */
#define CHECK(condition) \
    if (!(condition))    \
    return __LINE__
static int beyond_the_kernels_limit(struct fixture *f) {
    struct rlimit limit = {100, 100};
    f->attach = 150;
    start(f);
    int fd = greet(f);
    CHECK(setgid(65534) == 0 && setuid(65534) == 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
    ask(f, fd, HEARTH_MSG_ATTACH, 2);
    turn(f);
    CHECK(f->sent);
    ask(f, fd, HEARTH_MSG_ATTACH, 3);
    turn(f);
    CHECK(!f->sent && f->server->peers->unread_fds == 150);
    bool lost;
    struct fdlist fds = FDLIST_NULL;
    CHECK(fdlist_receive_wait(fd, f->buffer, sizeof(f->buffer), &fds, false, &lost) > 0);
    fdlist_deinit(&fds);
    expect_error(f, fd, 3, HEARTH_E_BUSY);
    ask(f, fd, HEARTH_MSG_STATUS, 4);
    CHECK(reply(f, fd) == HEARTH_MSG_STATUS_REPLY);
    close(fd);
    turn(f);
    CHECK(!f->server->accounts);
    return 0;
}

static void the_kernels_limit_fails_one_reply_and_no_more(void **state) {
    struct fixture *f = *state;
    int status;
    if (geteuid() != 0) {
        print_message("skipped: another uid needs root\n");
        skip();
    }
    pid_t pid = fork();
    if (pid == 0) {
        int line = beyond_the_kernels_limit(f);
        if (line)
            fprintf(stderr, "line %d\n", line);
        _exit(line != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    char lock[80]; /* as the child ended without its server's end */
    snprintf(lock, sizeof(lock), "%s.lock", f->path);
    unlink(lock);
    unlink(f->path);
}

/* ---- requests under way ---- */

static void requests_under_way_are_bounded(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    f->hold = true;
    for (uint32_t i = 1; i <= REQUESTS_MAX; i++) {
        ask(f, fd, HEARTH_MSG_WATCH, i);
        turn(f);
    }
    assert_int_equal(f->server->peers->requests, REQUESTS_MAX);
    ask(f, fd, HEARTH_MSG_WATCH, 1000);
    expect_error(f, fd, 1000, HEARTH_E_BUSY);
    assert_int_equal(f->calls[HEARTH_MSG_WATCH], REQUESTS_MAX);
    ipc_reply_done(f->held[0].peer, f->held[0].serial, 0);
    assert_int_equal(reply(f, fd), HEARTH_MSG_DONE);
    ask(f, fd, HEARTH_MSG_WATCH, 1001);
    assert_int_equal(reply(f, fd), -EAGAIN); /* taken */
    close(fd);
}

static void requests_of_one_user_are_bounded(void **state) {
    struct fixture *f = *state;
    int fds[REQUESTS_UID_MAX / REQUESTS_MAX + 1], last = (int)(sizeof(fds) / sizeof(fds[0])) - 1;
    start(f);
    for (int i = 0; i <= last; i++)
        fds[i] = greet(f);
    f->hold = true;
    for (int i = 0; i < last; i++)
        for (uint32_t k = 1; k <= REQUESTS_MAX; k++) {
            ask(f, fds[i], HEARTH_MSG_WATCH, k);
            turn(f);
        }
    assert_int_equal(f->server->accounts->requests, REQUESTS_UID_MAX);
    ask(f, fds[last], HEARTH_MSG_WATCH, 1);
    expect_error(f, fds[last], 1, HEARTH_E_BUSY);
    close(fds[0]);
    turn(f);
    assert_int_equal(f->server->accounts->requests, REQUESTS_UID_MAX - REQUESTS_MAX);
    for (int i = 1; i <= last; i++)
        close(fds[i]);
}

/* ---- the end of a connection ---- */

static void a_client_may_hang_up_at_any_step(void **state) {
    struct fixture *f = *state;
    start(f);
    for (unsigned step = 0; step < 8; step++) {
        unsigned gone = f->n_gone, marks = f->n_marks;
        f->hold = step == 4;
        int fd = step < 2 ? dial(f->path) : greet(f);
        if (step == 1) /* HELLO sent, not accepted */
            assert_int_equal(send_bytes(fd, f->hello.buffer, build_hello(f, 1, 1)), 0);
        if (step >= 3) /* a request sent, and from 4 on taken up */
            ask(f, fd, step == 5 ? HEARTH_MSG_ATTACH : HEARTH_MSG_LOAD, 2);
        if (step >= 4) /* 5: descriptors are unread; 6 and 7: a reply is */
            turn(f);
        if (step == 7)
            assert_int_equal(shutdown(fd, SHUT_WR), 0); /* half a hang-up is one */
        else
            close(fd);
        turn(f);
        assert_int_equal(ipc_server_peers(f->server), 0);
        assert_int_equal(f->n_gone - gone, f->n_marks - marks);
        if (step == 7)
            close(fd);
    }
}

static void answers_to_the_dead_end_them_once_and_in_a_turn_only(void **state) {
    struct fixture *f = *state;
    int fds[3];
    start(f);
    f->hold = true;
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = greet(f);
        ask(f, fds[i], HEARTH_MSG_LOAD, 2);
        turn(f);
    }
    close(fds[0]);
    close(fds[2]);
    const struct hearth_msg_info info = {.id = 5};
    for (unsigned twice = 0; twice < 2; twice++)
        for (unsigned i = 0; i < 3; i++) {
            ipc_reply_progress(f->held[i].peer, 2, &info, "/models/a");
            ipc_reply_item(f->held[i].peer, 2, &info, "/models/a");
        }
    struct fdlist fds_out;
    fill(f, &fds_out, 2);
    assert_false(ipc_reply_attached(f->held[0].peer, 2, &(struct hearth_msg_attached){.id = 5}, &fds_out));
    assert_int_equal(f->n_gone, 0);
    assert_int_equal(ipc_server_peers(f->server), 3);
    turn(f);
    assert_int_equal(f->n_gone, 2);
    assert_int_equal(ipc_server_peers(f->server), 1);
    assert_int_equal(reply(f, fds[1]), HEARTH_MSG_PROGRESS); /* the living one missed nothing */
    close(fds[1]);
}

static void a_peer_doomed_outside_of_a_turn_wakes_the_server(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    f->hold = true;
    ask(f, fd, HEARTH_MSG_LOAD, 2);
    turn(f);
    struct pollfd p = {.fd = f->server->epoll, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    peer_doom(f->held[0].peer);
    assert_int_equal(poll(&p, 1, 0), 1);
    expect_end(f, fd);
    close(fd);
}

static void the_servers_end_ends_every_connection(void **state) {
    struct fixture *f = *state;
    int fds[5];
    start(f);
    f->hold = true;
    for (unsigned i = 0; i < 5; i++) {
        fds[i] = greet(f);
        ask(f, fds[i], HEARTH_MSG_LOAD, 2);
    }
    turn(f);
    f->server = loop_server_free(f->server);
    assert_int_equal(f->n_gone, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(read_packet(f, fds[i]), 0); /* a clean end, no reset */
        close(fds[i]);
    }
}

/* A child between fork and exec holds every descriptor; epoll must not report a peer that is freed because of it. */
static void a_descriptor_that_a_child_still_holds_is_not_watched(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = greet(f);
    int copy = fcntl(f->server->peers->fd, F_DUPFD_CLOEXEC, 0);
    assert_true(copy >= 0);
    ask(f, fd, HEARTH_MSG_ERROR, 2);
    expect_error(f, fd, 0, HEARTH_E_PROTOCOL);
    turn(f);
    assert_int_equal(ipc_server_peers(f->server), 0);
    close(fd); /* an event on the copy */
    turn(f);
    close(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ipc_test(a_client_that_never_reads_is_ended_within_bounds),
        ipc_test(queued_replies_come_in_order_once_they_are_read),
        ipc_test(an_answer_of_any_length_goes_out_as_the_client_reads),
        ipc_test(a_long_answer_that_nobody_reads_is_one_request_under_way),
        ipc_test(the_last_error_comes_behind_what_is_queued),
        ipc_test(a_closing_client_that_hangs_up_is_gone),
        ipc_test(progress_is_dropped_and_leaves_room_for_replies),
        ipc_test(unread_descriptors_are_bounded_per_connection),
        ipc_test(unread_descriptors_are_bounded_per_user_and_the_idle_do_not_count),
        ipc_test(who_reads_no_descriptors_makes_room_for_who_does),
        ipc_test(who_asks_for_more_and_reads_nothing_is_ended_itself),
        ipc_test(who_reads_slowly_keeps_its_connection),
        ipc_test(descriptors_behind_queued_replies_are_refused_not_held),
        ipc_test(the_kernels_limit_fails_one_reply_and_no_more),
        ipc_test(requests_under_way_are_bounded),
        ipc_test(requests_of_one_user_are_bounded),
        ipc_test(a_client_may_hang_up_at_any_step),
        ipc_test(answers_to_the_dead_end_them_once_and_in_a_turn_only),
        ipc_test(a_peer_doomed_outside_of_a_turn_wakes_the_server),
        ipc_test(the_servers_end_ends_every_connection),
        ipc_test(a_descriptor_that_a_child_still_holds_is_not_watched),
    };
    return cmocka_run_group_tests_name("ipc_limits", tests, NULL, NULL);
}
