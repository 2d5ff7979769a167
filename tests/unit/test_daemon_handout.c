/* daemon/handout: descriptors of their own for every reply, and spares that stay within their bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/handout.h"
#include "util/cleanup.h"
#include "util/memfd.h"

#define FILES 3u

struct thing {
    struct generation g;
    struct resident r;
    struct blob blobs[FILES];
};

static void make(struct thing *t) {
    memset(t, 0, sizeof(*t));
    t->r.blobs = t->blobs;
    t->r.n_blobs = FILES;
    t->g.resident = &t->r;
    for (unsigned i = 0; i <= FILES; i++) {
        int fd = memfd_from_bytes("test", &i, sizeof(i));
        assert_true(fd >= 0);
        *(i == 0 ? &t->r.index_fd : &t->blobs[i - 1].fd) = memfd_reopen_readonly(fd);
        close(fd);
    }
}

static void unmake(struct handout *h, struct thing *t) {
    handout_drop(h, &t->g);
    free(t->g.spares.fds);
    close(t->r.index_fd);
    for (unsigned i = 0; i < FILES; i++)
        close(t->blobs[i].fd);
}

static unsigned open_fds(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Takes index and all files, as an attach does, and says which they are by their content. */
static void attach(struct handout *h, struct thing *t) {
    struct fdlist fds = FDLIST_NULL;
    assert_int_equal(handout_take(h, &t->g, true, NULL, FILES, &fds, NULL), 0);
    assert_int_equal(fds.count, FILES + 1);
    for (unsigned i = 0; i <= FILES; i++) {
        unsigned content = 99;
        assert_int_equal(lseek(fds.fds[i], 0, SEEK_CUR), 0); /* nobody has moved it */
        assert_int_equal(read(fds.fds[i], &content, sizeof(content)), sizeof(content));
        assert_int_equal(content, i);
    }
    assert_true(handout_turn(h)); /* not in the turn that handed them out */
    assert_false(handout_turn(h));
    fdlist_deinit(&fds);
}

static void each_reply_has_descriptors_of_its_own(void **state) {
    (void)state;
    struct handout h;
    struct thing t;
    unsigned before = open_fds();
    handout_init(&h, 100);
    make(&t);
    for (int i = 0; i < 3; i++)
        attach(&h, &t);
    assert_int_equal(h.spares, FILES + 1);
    unmake(&h, &t);
    assert_int_equal(h.spares, 0);
    handout_deinit(&h);
    assert_int_equal(open_fds(), before);
}

static void files_come_in_the_order_asked_for_repeats_included(void **state) {
    (void)state;
    static const uint32_t files[] = {2, 0, 2, 2};
    static const unsigned contents[] = {3, 1, 3, 3};
    struct handout h;
    struct thing t;
    handout_init(&h, 100);
    make(&t);
    for (int round = 0; round < 2; round++) {
        struct fdlist fds = FDLIST_NULL;
        assert_int_equal(handout_take(&h, &t.g, false, files, 4, &fds, NULL), 0);
        for (unsigned i = 0; i < 4; i++) {
            unsigned content = 99;
            assert_int_equal(read(fds.fds[i], &content, sizeof(content)), sizeof(content));
            assert_int_equal(content, contents[i]);
        }
        assert_true(handout_turn(&h));
        assert_false(handout_turn(&h));
        fdlist_deinit(&fds);
    }
    assert_int_equal(h.spares, 2); /* one a slot, however often it is asked for */
    unmake(&h, &t);
    handout_deinit(&h);
}

static void spares_stay_within_their_bound(void **state) {
    (void)state;
    struct handout h;
    struct thing a, b, c;
    handout_init(&h, 2 * (FILES + 1));
    make(&a);
    make(&b);
    make(&c);
    attach(&h, &a);
    attach(&h, &b);
    attach(&h, &a); /* now b was attached longest ago */
    attach(&h, &c);
    assert_int_equal(h.spares, 2 * (FILES + 1));
    assert_true(a.g.spares.listed && c.g.spares.listed && !b.g.spares.listed);
    attach(&h, &b); /* without spares it works the same */
    assert_true(h.spares <= 2 * (FILES + 1));
    unmake(&h, &a);
    unmake(&h, &b);
    unmake(&h, &c);
    assert_int_equal(h.spares, 0);
    handout_deinit(&h);
}

static void without_room_for_one_artifact_there_are_fewer_spares(void **state) {
    (void)state;
    struct handout h;
    struct thing t;
    handout_init(&h, 2);
    make(&t);
    attach(&h, &t);
    attach(&h, &t);
    assert_int_equal(h.spares, 2);
    unmake(&h, &t);
    handout_deinit(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reply_has_descriptors_of_its_own),
        cmocka_unit_test(files_come_in_the_order_asked_for_repeats_included),
        cmocka_unit_test(spares_stay_within_their_bound),
        cmocka_unit_test(without_room_for_one_artifact_there_are_fewer_spares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
