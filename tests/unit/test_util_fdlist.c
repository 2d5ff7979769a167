/* util/fdlist: descriptors go over a socket whole or not at all, and none is ever left open by accident: every test
 * ends with as many open descriptors as it began with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fdlist.h"

static int ends[2];
static size_t open_before;

static size_t open_fds(void) {
    _cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
    size_t n = 0;
    while (d && readdir(d))
        n++;
    return n;
}

static int make_sockets(void **state) {
    (void)state;
    open_before = open_fds();
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_sockets(void **state) {
    (void)state;
    ends[0] = close_fd(ends[0]);
    ends[1] = close_fd(ends[1]);
    if (open_fds() == open_before)
        return 0;
    print_error("%zu descriptors were open before, %zu are now\n", open_before, open_fds());
    return -1;
}

static void fill(struct fdlist *l, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fdlist_push(l, fd), 0);
    }
}

static void descriptors_arrive_in_order_and_close_on_exec(void **state) {
    (void)state;
    struct fdlist sent = FDLIST_NULL, got = FDLIST_NULL;
    fill(&sent, 1);
    assert_int_equal(fdlist_push(&sent, dup(ends[0])), 0);
    assert_int_equal(fdlist_send(ends[0], "hello", 5, &sent), 0);
    char packet[16];
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), 5);
    assert_memory_equal(packet, "hello", 5);
    assert_int_equal(got.count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct stat a, b;
        assert_int_equal(fstat(sent.fds[i], &a), 0); /* sending borrows */
        assert_int_equal(fstat(got.fds[i], &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_int_equal(fcntl(got.fds[i], F_GETFD), FD_CLOEXEC);
    }
    fdlist_deinit(&sent);
    fdlist_deinit(&got);
}

static void a_list_owns_what_is_pushed_until_it_is_stolen(void **state) {
    (void)state;
    struct fdlist l = FDLIST_NULL;
    fill(&l, 3);
    int kept = fdlist_steal(&l, 1);
    assert_int_equal(l.fds[1], -1);
    fdlist_deinit(&l);
    fdlist_deinit(&l);
    assert_int_equal(l.count, 0);
    assert_true(fcntl(kept, F_GETFD) >= 0);
    close(kept);
}

static void a_full_list_closes_what_is_pushed_on_top(void **state) {
    (void)state;
    struct fdlist l = FDLIST_NULL;
    fill(&l, HEARTH_PACKET_FDS_MAX);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fdlist_push(&l, fd), -ENOSPC);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
    fdlist_deinit(&l);
}

static void one_packet_carries_as_many_as_the_protocol_says(void **state) {
    (void)state;
    struct fdlist sent = FDLIST_NULL, got = FDLIST_NULL;
    fill(&sent, HEARTH_PACKET_FDS_MAX);
    assert_int_equal(fdlist_send(ends[0], "x", 1, &sent), 0);
    fdlist_deinit(&sent);
    char packet[1];
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), 1);
    assert_int_equal(got.count, HEARTH_PACKET_FDS_MAX);
    fdlist_deinit(&got);
}

static void a_full_descriptor_table_costs_the_packet_and_leaks_nothing(void **state) {
    (void)state;
    struct fdlist sent = FDLIST_NULL, got = FDLIST_NULL;
    fill(&sent, 8);
    assert_int_equal(fdlist_send(ends[0], "x", 1, &sent), 0);
    fdlist_deinit(&sent);
    size_t before = open_fds();
    /* The lowest free number is where new descriptors begin; leave room for three. */
    int lowest = dup(ends[0]);
    close(lowest);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){.rlim_cur = (rlim_t)lowest + 3, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    char packet[1];
    long n = fdlist_receive(ends[1], packet, sizeof(packet), &got);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(n, -EMFILE);
    assert_int_equal(got.count, 0);
    assert_int_equal(open_fds(), before);
    assert_int_equal(fdlist_send(ends[0], "y", 1, NULL), 0);
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), 1); /* the socket is usable */
}

static void a_packet_too_large_is_refused_and_the_next_one_is_whole(void **state) {
    (void)state;
    struct fdlist sent = FDLIST_NULL, got = FDLIST_NULL;
    fill(&sent, 2);
    assert_int_equal(fdlist_send(ends[0], "123456789", 9, &sent), 0);
    assert_int_equal(fdlist_send(ends[0], "next", 4, NULL), 0);
    fdlist_deinit(&sent);
    char packet[8];
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), -EMSGSIZE);
    assert_int_equal(got.count, 0);
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), 4);
    assert_memory_equal(packet, "next", 4);
}

static void nothing_blocks_and_a_hang_up_is_no_signal(void **state) {
    (void)state;
    struct fdlist got = FDLIST_NULL;
    char packet[8] = {0};
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), -EAGAIN);
    int r = 0;
    for (unsigned i = 0; i < 100000 && r == 0; i++) /* a peer that never reads */
        r = fdlist_send(ends[0], packet, sizeof(packet), NULL);
    assert_int_equal(r, -EAGAIN);
    while (fdlist_receive(ends[1], packet, sizeof(packet), &got) > 0)
        ;
    ends[0] = close_fd(ends[0]);
    assert_int_equal(fdlist_receive(ends[1], packet, sizeof(packet), &got), 0);
    assert_int_equal(fdlist_send(ends[1], packet, sizeof(packet), NULL), -EPIPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(descriptors_arrive_in_order_and_close_on_exec, make_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(a_list_owns_what_is_pushed_until_it_is_stolen, make_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(a_full_list_closes_what_is_pushed_on_top, make_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(one_packet_carries_as_many_as_the_protocol_says, make_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(a_full_descriptor_table_costs_the_packet_and_leaks_nothing, make_sockets,
                                        close_sockets),
        cmocka_unit_test_setup_teardown(a_packet_too_large_is_refused_and_the_next_one_is_whole, make_sockets,
                                        close_sockets),
        cmocka_unit_test_setup_teardown(nothing_blocks_and_a_hang_up_is_no_signal, make_sockets, close_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
