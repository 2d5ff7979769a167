/* daemon/loop: posted work from many threads, timers, and descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "daemon/loop.h"
#include "util/clock.h"

#define THREADS 4
#define JOBS 1000

static struct loop *loop;
static unsigned ran;

static int make(void **state) {
    (void)state;
    ran = 0;
    return loop_new(&loop, NULL);
}

static int unmake(void **state) {
    (void)state;
    loop_free(loop);
    return 0;
}

static void count(void *user) {
    (void)user;
    if (++ran == THREADS * JOBS)
        loop_quit(loop);
}

static struct loop_job jobs[THREADS][JOBS];

static void *post_all(void *mine) {
    struct loop_job *j = mine;
    for (unsigned i = 0; i < JOBS; i++) {
        j[i] = (struct loop_job){.run = count};
        loop_post(loop, &j[i]);
    }
    return NULL;
}

static void work_of_every_thread_runs_once(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, jobs[i]), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ran, THREADS * JOBS);
}

static uint64_t due_at[3];
static struct loop_timer timers[3];

static void due(void *user) {
    due_at[(struct loop_timer *)user - timers] = clock_now();
    if (++ran == 3)
        loop_quit(loop);
}

static void timers_are_never_early_and_each_is_due_once(void **state) {
    (void)state;
    static const uint64_t after_ms[] = {30, 10, 20};
    uint64_t start = clock_now();
    for (int i = 0; i < 3; i++) {
        timers[i] = (struct loop_timer){.due = due, .user = &timers[i]};
        loop_timer_set(loop, &timers[i], start + after_ms[i] * NS_PER_MS);
    }
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(due_at[i] >= start + after_ms[i] * NS_PER_MS);
        assert_int_equal(timers[i].at, LOOP_NEVER);
    }
}

static struct loop_job again;

static void post_again(void *user) {
    struct loop_timer *t = user;
    ran++;
    if (t->at != LOOP_NEVER)
        loop_post(loop, &again);
}

static void stop(void *user) {
    (void)user;
    loop_quit(loop);
}

static void work_that_posts_itself_starves_nobody(void **state) {
    (void)state;
    struct loop_timer t = {.due = stop};
    again = (struct loop_job){.run = post_again, .user = &t};
    loop_timer_set(loop, &t, clock_now() + 5 * NS_PER_MS);
    loop_post(loop, &again);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    assert_true(ran >= 1);
}

static int ends[2];

static void drop_watch(void *user) {
    (void)user;
    ran++;
    loop_unwatch(loop, ends[0]);
    loop_quit(loop);
}

static void a_descriptor_that_is_dropped_is_served_no_more(void **state) {
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(loop_watch(loop, ends[0], drop_watch, NULL, NULL), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    struct loop_timer t = {.due = stop};
    loop_timer_set(loop, &t, clock_now() + NS_PER_MS);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    assert_int_equal(ran, 1);
    close(ends[0]);
    close(ends[1]);
}

static void on_shared(void *user, const struct epoll_event *event) {
    assert_ptr_equal(event->data.ptr, user);
    ran++;
    loop_quit(loop);
}

static void a_module_that_shares_the_set_gets_its_own_events(void **state) {
    (void)state;
    int pair[2], own;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &own};
    assert_int_equal(pipe(pair), 0);
    const int *set = loop_share(loop, on_shared, &own);
    assert_int_equal(epoll_ctl(*set, EPOLL_CTL_ADD, pair[0], &event), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    assert_int_equal(ran, 1);
    close(pair[0]);
    close(pair[1]);
}

static void count_and_quit(void *user) {
    (void)user;
    ran++;
    loop_quit(loop);
}

/* A terminal's master end in packet mode is what an ordinary program can make urgent. */
static void what_is_urgent_is_served_and_what_is_only_readable_is_not(void **state) {
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), on = 1;
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    assert_int_equal(ioctl(master, TIOCPKT, &on), 0);
    assert_int_equal(loop_watch_urgent(loop, master, count_and_quit, NULL, NULL), 0);
    assert_int_equal(write(slave, "x", 1), 1);
    struct loop_timer t = {.due = stop};
    loop_timer_set(loop, &t, clock_now() + 20 * NS_PER_MS);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    assert_int_equal(ran, 0);
    assert_int_equal(tcflush(slave, TCIFLUSH), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    assert_int_equal(ran, 1);
    loop_unwatch(loop, master);
    close(slave);
    close(master);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_of_every_thread_runs_once, make, unmake),
        cmocka_unit_test_setup_teardown(timers_are_never_early_and_each_is_due_once, make, unmake),
        cmocka_unit_test_setup_teardown(work_that_posts_itself_starves_nobody, make, unmake),
        cmocka_unit_test_setup_teardown(a_descriptor_that_is_dropped_is_served_no_more, make, unmake),
        cmocka_unit_test_setup_teardown(a_module_that_shares_the_set_gets_its_own_events, make, unmake),
        cmocka_unit_test_setup_teardown(what_is_urgent_is_served_and_what_is_only_readable_is_not, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
