/* ipc: the socket file has one owner, whatever stood there before and whoever starts at the same time; and who may
 * connect to it is told so. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "ipc_fixture.h"
#include "util/clock.h"

static struct ipc_server *new_server(struct fixture *f) {
    struct ipc_server *s = NULL;
    assert_int_equal(loop_server_new(&(struct ipc_options){0}, &answering, f, &s), 0);
    return s;
}

/* A socket file with nobody behind it. */
static void make_stale(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

static void expect_refusal(struct ipc_server *s, const char *path, enum hearth_code code, const char *file,
                           const char *hint) {
    struct hearth_error err;
    assert_int_equal(ipc_server_listen(s, path, 0600, &err), code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.file, file);
    assert_non_null(strstr(err.hint, hint));
}

static void the_socket_has_the_mode_asked_for_whatever_the_umask(void **state) {
    struct fixture *f = *state;
    const mode_t modes[] = {0600, 0660, 0666};
    for (unsigned i = 0; i < 3; i++) {
        struct stat st;
        mode_t before = umask(i == 1 ? 0 : 077);
        f->server = new_server(f);
        assert_int_equal(ipc_server_listen(f->server, f->path, modes[i], NULL), 0);
        umask(before);
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i]);
        assert_string_equal(ipc_server_path(f->server), f->path);
        f->server = loop_server_free(f->server);
        assert_int_equal(access(f->path, F_OK), -1);
    }
}

/* What happens to the socket file the moment it is there, if anything: a link takes its place. */
static const char *link_to;

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t length) {
    int r = (int)syscall(SYS_bind, fd, address.__sockaddr__, length);
    if (r == 0 && link_to) {
        assert_int_equal(unlink(address.__sockaddr_un__->sun_path), 0);
        assert_int_equal(symlink(link_to, address.__sockaddr_un__->sun_path), 0);
    }
    return r;
}

static void what_is_put_in_the_sockets_place_keeps_its_mode(void **state) {
    struct fixture *f = *state;
    char victim[80];
    struct stat st;
    snprintf(victim, sizeof(victim), "%s/victim", f->dir);
    close(open(victim, O_CREAT | O_RDWR | O_CLOEXEC, 0640));
    assert_int_equal(chmod(victim, 0640), 0);
    f->server = new_server(f);
    link_to = victim;
    (void)ipc_server_listen(f->server, f->path, 0666, NULL);
    link_to = NULL;
    assert_int_equal(stat(victim, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    f->server = loop_server_free(f->server);
    unlink(f->path);
    assert_int_equal(unlink(victim), 0);
}

static void the_umask_is_what_it_was(void **state) {
    struct fixture *f = *state;
    mode_t before = umask(027);
    start(f);
    assert_int_equal(umask(before), 027);
}

static void a_second_server_is_refused_and_harms_nothing(void **state) {
    struct fixture *f = *state;
    start(f);
    struct ipc_server *second = new_server(f);
    expect_refusal(second, f->path, HEARTH_E_BUSY, f->path, "hearth stop");
    loop_server_free(second);
    int fd = greet(f); /* the first still has its file */
    close(fd);
}

static void a_server_that_holds_no_lock_is_found_by_connecting(void **state) {
    struct fixture *f = *state;
    const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
    for (unsigned i = 0; i < 2; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
        memcpy(address.sun_path, f->path, strlen(f->path) + 1);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 1), 0);
        struct ipc_server *s = new_server(f);
        expect_refusal(s, f->path, HEARTH_E_BUSY, f->path, "--socket");
        loop_server_free(s);
        assert_int_equal(access(f->path, F_OK), 0); /* not ours to remove */
        close(fd);
        unlink(f->path);
    }
}

static void a_stale_socket_is_replaced(void **state) {
    struct fixture *f = *state;
    char lock[80];
    make_stale(f->path);
    snprintf(lock, sizeof(lock), "%s.lock", f->path); /* as a daemon leaves them that was killed */
    close(open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    start(f);
    close(greet(f));
}

static void what_is_no_socket_stays(void **state) {
    struct fixture *f = *state;
    f->server = new_server(f);
    close(open(f->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    expect_refusal(f->server, f->path, HEARTH_E_INVALID, f->path, "remove it");
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(symlink("/nonexistent", f->path), 0);
    expect_refusal(f->server, f->path, HEARTH_E_INVALID, f->path, "remove it");
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(ipc_server_listen(f->server, f->path, 0600, NULL), 0); /* a refusal left nothing behind */
}

static void a_path_that_cannot_be_is_refused_with_what_to_do(void **state) {
    struct fixture *f = *state;
    struct hearth_error err;
    char path[256], dir[80];
    f->server = new_server(f);
    snprintf(dir, sizeof(dir), "%s/none", f->dir);
    snprintf(path, sizeof(path), "%s/socket", dir);
    expect_refusal(f->server, path, HEARTH_E_NOT_FOUND, dir, "make it");
    expect_refusal(f->server, "socket", HEARTH_E_INVALID, "socket", "--socket");
    expect_refusal(f->server, "", HEARTH_E_INVALID, "", "--socket");
    for (int length = 107; length <= 108; length++) { /* sun_path holds 107 and a NUL */
        memset(path, 'x', sizeof(path));
        memcpy(path, f->dir, strlen(f->dir));
        path[strlen(f->dir)] = '/';
        path[length] = '\0';
        assert_int_equal(ipc_server_listen(f->server, path, 0600, &err), length == 107 ? 0 : HEARTH_E_INVALID);
        if (length == 107) {
            assert_string_equal(ipc_server_path(f->server), path);
            int fd = dial(path);
            assert_true(fd >= 0);
            close(fd);
            turn(f);
            loop_server_free(f->server);
            f->server = new_server(f);
        }
    }
    assert_non_null(strstr(err.expected, "107 bytes"));
    assert_non_null(strstr(err.found, "108 bytes"));
}

static void a_server_listens_once(void **state) {
    struct fixture *f = *state;
    start(f);
    assert_int_equal(ipc_server_listen(f->server, f->path, 0600, NULL), HEARTH_E_INVALID);
    assert_int_equal(ipc_server_adopt(f->server, f->server->listener, NULL), HEARTH_E_INVALID);
    close(greet(f));
}

static void the_end_removes_only_its_own_socket(void **state) {
    struct fixture *f = *state;
    start(f);
    assert_int_equal(unlink(f->path), 0);
    make_stale(f->path); /* another program's now */
    f->server = loop_server_free(f->server);
    assert_int_equal(unlink(f->path), 0);
}

static void only_a_listening_seqpacket_socket_is_adopted(void **state) {
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct hearth_error err;
    int pair[2], stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int good = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(bind(stream, (const struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(stream, 1), 0);
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    assert_int_equal(bind(good, (const struct sockaddr *)&address, sizeof(address)), 0);
    f->server = new_server(f);
    const int wrong[] = {-1, 9999, f->file, pair[0], stream, good /* not listening yet */};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(ipc_server_adopt(f->server, wrong[i], &err), HEARTH_E_INVALID);
        assert_non_null(strstr(err.hint, "ListenSequentialPacket"));
    }
    assert_int_equal(listen(good, 5), 0);
    assert_int_equal(ipc_server_adopt(f->server, good, &err), 0);
    assert_string_equal(ipc_server_path(f->server), f->path);
    assert_true(fcntl(good, F_GETFD) & FD_CLOEXEC);
    close(greet(f));
    turn(f);
    f->server = loop_server_free(f->server);
    assert_int_equal(unlink(f->path), 0); /* the service manager's: it stayed */
    close(pair[0]);
    close(pair[1]);
    close(stream);
}

struct starter {
    struct fixture *f;
    pthread_barrier_t *barrier;
    struct ipc_server *server;
    int result;
};

static void *start_at_once(void *arg) {
    struct starter *s = arg;
    pthread_barrier_wait(s->barrier);
    s->result = loop_server_new(&(struct ipc_options){0}, &answering, s->f, &s->server);
    s->result = s->result ? s->result : ipc_server_listen(s->server, s->f->path, 0600, NULL);
    if (s->result)
        s->server = loop_server_free(s->server); /* and that must not touch the winner's files */
    return NULL;
}

static void of_servers_that_start_at_once_exactly_one_wins(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 50; round++) {
        struct starter starters[4];
        pthread_t threads[4];
        pthread_barrier_t barrier;
        unsigned winners = 0;
        if (round % 2)
            make_stale(f->path);
        pthread_barrier_init(&barrier, NULL, 4);
        for (int i = 0; i < 4; i++) {
            starters[i] = (struct starter){.f = f, .barrier = &barrier};
            assert_int_equal(pthread_create(&threads[i], NULL, start_at_once, &starters[i]), 0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&barrier);
        for (int i = 0; i < 4; i++) {
            assert_true(starters[i].result == 0 || starters[i].result == HEARTH_E_BUSY);
            if (starters[i].server) {
                winners++;
                f->server = starters[i].server;
            }
        }
        assert_int_equal(winners, 1);
        close(greet(f));
        turn(f);
        f->server = loop_server_free(f->server);
        assert_int_equal(access(f->path, F_OK), -1);
    }
}

struct taker {
    struct fixture *f;
    atomic_int *holders, *failed, *taken;
};

/* Takes the path, holds it, and gives it back, as daemons do that follow one another. */
static void *take_and_give_back(void *arg) {
    struct taker *t = arg;
    for (int i = 0; i < 400; i++) {
        struct ipc_server *s = NULL;
        int r = loop_server_new(&(struct ipc_options){0}, &answering, t->f, &s);
        r = r ? r : ipc_server_listen(s, t->f->path, 0600, NULL);
        if (r == 0) {
            if (atomic_fetch_add(t->holders, 1) != 0 || access(t->f->path, F_OK) < 0)
                atomic_store(t->failed, 1);
            atomic_fetch_add(t->taken, 1);
            atomic_fetch_sub(t->holders, 1);
        } else if (r != HEARTH_E_BUSY) {
            atomic_store(t->failed, 1);
        }
        loop_server_free(s);
    }
    return NULL;
}

static void a_path_that_goes_from_hand_to_hand_has_one_owner_at_a_time(void **state) {
    struct fixture *f = *state;
    atomic_int holders = 0, failed = 0, taken = 0;
    struct taker t = {.f = f, .holders = &holders, .failed = &failed, .taken = &taken};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give_back, &t), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(failed, 0);
    assert_true(taken > 0);
}

/* ---- who may connect ---- */

/* A stranger's view, in a process of its own: the ERROR, although it wrote its HELLO before it was accepted. */
static int stranger(struct fixture *f, int connected) {
    struct hearth_error err;
    uint8_t packet[256];
    size_t bytes = build_hello(f, 1, 1);
    memcpy(packet, f->hello.buffer, bytes);
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return 1;
    int fd = dial(f->path);
    if (fd < 0 || send_bytes(fd, packet, bytes) < 0 || write(connected, "", 1) != 1)
        return 2;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 10000) != 1 || read_packet(f, fd) != HEARTH_MSG_ERROR || wire_get_error(&f->in, &err) < 0)
        return 3;
    if (err.code != HEARTH_E_DENIED || f->in.header.serial != 0)
        return 4;
    return poll(&p, 1, 10000) == 1 && read_packet(f, fd) == 0 ? 0 : 5;
}

static const char *refuse_others(void *user, int fd, struct ipc_cred cred) {
    (void)user, (void)fd;
    return cred.uid == geteuid() ? NULL : "not you";
}

static void who_is_refused_is_told_and_hung_up_on(void **state) {
    struct fixture *f = *state;
    int connected[2], status;
    char byte;
    if (geteuid() != 0) {
        print_message("skipped: another uid needs root\n");
        skip();
    }
    start_with(f, &(struct ipc_options){.refuses = refuse_others});
    assert_int_equal(pipe2(connected, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(stranger(f, connected[1]));
    assert_int_equal(read(connected[0], &byte, 1), 1);
    turn(f);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(ipc_server_peers(f->server), 0);
    close(greet(f)); /* its own user is served */
    close(connected[0]);
    close(connected[1]);
}

static void connections_are_bounded(void **state) {
    struct fixture *f = *state;
    const struct ipc_options options[] = {{.peers_max = 3}, {.peers_max_per_uid = 3}};
    for (unsigned i = 0; i < 2; i++) {
        int fds[3];
        start_with(f, &options[i]);
        for (unsigned k = 0; k < 3; k++)
            fds[k] = greet(f);
        int fd = dial(f->path);
        assert_int_equal(send_bytes(fd, f->hello.buffer, build_hello(f, 1, 1)), 0); /* before it is refused */
        expect_error(f, fd, 0, HEARTH_E_BUSY);
        expect_end(f, fd);
        close(fd);
        close(fds[0]);
        turn(f);
        fds[0] = greet(f); /* the place is free again */
        for (unsigned k = 0; k < 3; k++)
            close(fds[k]);
        turn(f);
        f->server = loop_server_free(f->server);
    }
}

/* ---- who says nothing ---- */

static uint64_t timer_left(int timer) {
    struct itimerspec left;
    assert_int_equal(timerfd_gettime(timer, &left), 0);
    return (uint64_t)left.it_value.tv_sec * NS_PER_S + (uint64_t)left.it_value.tv_nsec;
}

static void who_says_no_hello_is_ended_in_time_and_nobody_else(void **state) {
    struct fixture *f = *state;
    int silent[200];
    start(f);
    int greeted = greet(f);
    assert_int_equal(timer_left(f->server->hello), 0); /* nobody to wait for: nothing wakes */
    for (unsigned i = 0; i < 200; i++) {
        silent[i] = dial(f->path);
        turn(f);
    }
    uint64_t left = timer_left(f->server->hello);
    assert_true(left > 5 * NS_PER_S && left <= 10 * NS_PER_S);
    close(silent[0]);
    turn(f);
    int last = greet(f);
    for (unsigned i = 1; i < 200; i++)
        assert_int_equal(reply(f, silent[i]), -EAGAIN);
    struct ipc_peer *p;
    TAILQ_FOREACH(p, &f->server->silent, silent_link)
    p->since_ns -= 10 * NS_PER_S; /* as if it was that long ago */
    silent_expire(f->server);
    for (unsigned i = 1; i < 200; i++) {
        expect_error(f, silent[i], 0, HEARTH_E_TIMEOUT);
        expect_end(f, silent[i]);
        close(silent[i]);
    }
    assert_int_equal(timer_left(f->server->hello), 0);
    ask(f, greeted, HEARTH_MSG_STATUS, 2);
    assert_int_equal(reply(f, greeted), HEARTH_MSG_STATUS_REPLY);
    close(greeted);
    close(last);
}

static void the_time_for_a_hello_passes_by_itself(void **state) {
    struct fixture *f = *state;
    start(f);
    f->server->hello_ns = 50 * NS_PER_MS;
    int first = dial(f->path);
    turn(f);
    int second = greet(f); /* in time; the timer stays on for the first */
    struct pollfd p = {.fd = f->server->epoll, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    expect_error(f, first, 0, HEARTH_E_TIMEOUT);
    expect_end(f, first);
    assert_int_equal(ipc_server_peers(f->server), 1);
    close(first);
    close(second);
}

static void who_says_nothing_keeps_nobody_out(void **state) {
    struct fixture *f = *state;
    const struct ipc_options options[] = {{.peers_max = 3}, {.peers_max_per_uid = 3}};
    for (unsigned i = 0; i < 2; i++) {
        int silent[40];
        start_with(f, &options[i]);
        int first = greet(f);
        for (unsigned k = 0; k < 40; k++)
            silent[k] = dial(f->path);
        turn(f);
        assert_true(ipc_server_peers(f->server) <= 3);
        int second = greet(f), third = greet(f);
        for (unsigned k = 0; k < 40; k++) {
            expect_error(f, silent[k], 0, HEARTH_E_BUSY);
            expect_end(f, silent[k]);
            close(silent[k]);
        }
        int fd = dial(f->path); /* the others have spoken: they keep their places */
        expect_error(f, fd, 0, HEARTH_E_BUSY);
        close(fd);
        close(first);
        close(second);
        close(third);
        turn(f);
        f->server = loop_server_free(f->server);
    }
}

static void a_hello_that_is_not_read_yet_keeps_its_place(void **state) {
    struct fixture *f = *state;
    start_with(f, &(struct ipc_options){.peers_max = 1, .server_version = "hearthd test"});
    int fd = dial(f->path), late = dial(f->path); /* accepted in one turn */
    assert_int_equal(send_bytes(fd, f->hello.buffer, build_hello(f, 1, 1)), 0);
    expect_error(f, late, 0, HEARTH_E_BUSY);
    assert_int_equal(reply(f, fd), HEARTH_MSG_WELCOME);
    close(fd);
    close(late);
}

/* Lowers the limit so that no descriptor is free; returns what to set again. */
static struct rlimit fill_the_table(void) {
    struct rlimit before, full;
    int lowest = dup(0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    full = before;
    full.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
    return before;
}

static void with_no_descriptor_free_clients_are_told_so(void **state) {
    struct fixture *f = *state;
    int fds[3];
    start(f);
    for (unsigned i = 0; i < 3; i++)
        fds[i] = dial(f->path);
    struct rlimit before = fill_the_table();
    turn(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned i = 0; i < 3; i++) {
        expect_error(f, fds[i], 0, HEARTH_E_NO_FDS);
        expect_end(f, fds[i]);
        close(fds[i]);
    }
    close(greet(f));
}

static void with_no_descriptor_free_who_says_nothing_makes_room(void **state) {
    struct fixture *f = *state;
    int silent[3];
    start(f);
    for (unsigned i = 0; i < 3; i++)
        silent[i] = dial(f->path);
    turn(f);
    int fd = dial(f->path);
    struct rlimit before = fill_the_table();
    turn(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_error(f, silent[0], 0, HEARTH_E_BUSY);
    assert_int_equal(send_bytes(fd, f->hello.buffer, build_hello(f, 1, 1)), 0);
    assert_int_equal(reply(f, fd), HEARTH_MSG_WELCOME);
    assert_int_equal(reply(f, silent[1]), -EAGAIN);
    close(fd);
    for (unsigned i = 0; i < 3; i++)
        close(silent[i]);
}

static void without_even_a_reserve_accepting_pauses_and_goes_on(void **state) {
    struct fixture *f = *state;
    start(f);
    int fd = dial(f->path);
    f->server->reserve = close_fd(f->server->reserve); /* as if another thread had been quicker */
    int thief = dup(f->file);
    struct rlimit before = fill_the_table();
    f->dispatches = 0;
    turn(f);
    assert_true(f->dispatches <= 2); /* it does not spin, although somebody waits */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(thief);
    struct pollfd p = {.fd = f->server->epoll, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1); /* the end of the pause */
    assert_int_equal(send_bytes(fd, f->hello.buffer, build_hello(f, 1, 1)), 0);
    assert_int_equal(reply(f, fd), HEARTH_MSG_WELCOME);
    assert_true(f->server->reserve >= 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ipc_test(the_socket_has_the_mode_asked_for_whatever_the_umask),
        ipc_test(what_is_put_in_the_sockets_place_keeps_its_mode),
        ipc_test(the_umask_is_what_it_was),
        ipc_test(a_second_server_is_refused_and_harms_nothing),
        ipc_test(a_server_that_holds_no_lock_is_found_by_connecting),
        ipc_test(a_stale_socket_is_replaced),
        ipc_test(what_is_no_socket_stays),
        ipc_test(a_path_that_cannot_be_is_refused_with_what_to_do),
        ipc_test(a_server_listens_once),
        ipc_test(the_end_removes_only_its_own_socket),
        ipc_test(only_a_listening_seqpacket_socket_is_adopted),
        ipc_test(of_servers_that_start_at_once_exactly_one_wins),
        ipc_test(a_path_that_goes_from_hand_to_hand_has_one_owner_at_a_time),
        ipc_test(who_is_refused_is_told_and_hung_up_on),
        ipc_test(connections_are_bounded),
        ipc_test(who_says_no_hello_is_ended_in_time_and_nobody_else),
        ipc_test(the_time_for_a_hello_passes_by_itself),
        ipc_test(who_says_nothing_keeps_nobody_out),
        ipc_test(a_hello_that_is_not_read_yet_keeps_its_place),
        ipc_test(with_no_descriptor_free_clients_are_told_so),
        ipc_test(with_no_descriptor_free_who_says_nothing_makes_room),
        ipc_test(without_even_a_reserve_accepting_pauses_and_goes_on),
    };
    return cmocka_run_group_tests_name("ipc_listen", tests, NULL, NULL);
}
