/* daemon/sources: which source a path is in, and who has which right there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "daemon/sources.h"
#include "util/error.h"

static struct sources *all;

static void add(const char *name, const char *path, const char *right, const char *whom) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct source *s;
    assert_int_equal(sources_add(&all, name, &s, &err), 0);
    assert_int_equal(source_set(all, s, "path", path, &err), 0);
    assert_int_equal(source_set(all, s, right, whom, &err), 0);
}

static int make(void **state) {
    (void)state;
    add("models", "/srv/models", "attach", "1000, @50");
    add("inner", "/srv/models/inner", "load", "1001");
    add("free", "/srv/free", "evict", "*");
    return 0;
}

static int unmake(void **state) {
    (void)state;
    all = sources_free(all);
    return 0;
}

static const char *name_of(const char *path) {
    const struct source *s = sources_of_path(all, path);
    return s ? s->name : "";
}

static void the_innermost_source_has_a_path(void **state) {
    (void)state;
    assert_string_equal(name_of("/srv/models"), "models");
    assert_string_equal(name_of("/srv/models/a/b"), "models");
    assert_string_equal(name_of("/srv/models/inner"), "inner");
    assert_string_equal(name_of("/srv/models/inner/a"), "inner");
    assert_string_equal(name_of("/srv/models/inner2"), "models");
    assert_string_equal(name_of("/srv/models2"), "");
    assert_string_equal(name_of("/srv"), "");
    assert_string_equal(name_of("/"), "");
    assert_null(sources_of_path(NULL, "/srv/models"));
}

static void a_path_that_leads_back_is_in_no_source(void **state) {
    (void)state;
    assert_string_equal(name_of("/srv/models/../../etc/shadow"), "");
    assert_string_equal(name_of("/srv/models/a/.."), "");
    assert_string_equal(name_of("/srv/models/..a/b.."), "models");
}

static void a_name_is_taken_apart(void **state) {
    (void)state;
    const char *rest;
    assert_string_equal(sources_of_name(all, "models/a/b", &rest)->name, "models");
    assert_string_equal(rest, "a/b");
    assert_string_equal(sources_of_name(all, "models", &rest)->name, "models");
    assert_string_equal(rest, "");
    assert_null(sources_of_name(all, "model/a", &rest));
    assert_null(sources_of_name(all, "models2/a", &rest));
    assert_null(sources_of_name(all, "/models", &rest));
    assert_null(sources_of_name(all, "", &rest));
    assert_null(sources_of_name(NULL, "models/a", &rest));
}

static enum right right_of(const char *path, uid_t uid, gid_t group) {
    const gid_t groups[] = {7, group};
    return source_right(sources_of_path(all, path), &(struct who){.uid = uid, .groups = groups, .n_groups = 2});
}

static void who_is_not_named_has_no_right(void **state) {
    (void)state;
    assert_int_equal(right_of("/srv/models/a", 1000, 8), RIGHT_ATTACH);
    assert_int_equal(right_of("/srv/models/a", 1002, 50), RIGHT_ATTACH);
    assert_int_equal(right_of("/srv/models/a", 50, 1000), RIGHT_NONE); /* a user is no group */
    assert_int_equal(right_of("/srv/models/a", 1001, 8), RIGHT_NONE);
    assert_int_equal(right_of("/srv/models/inner/a", 1000, 50), RIGHT_NONE); /* nothing comes from the outer one */
    assert_int_equal(right_of("/srv/models/inner/a", 1001, 8), RIGHT_LOAD);
    assert_int_equal(right_of("/srv/free/a", 4711, 8), RIGHT_EVICT);
}

static void the_highest_right_of_all_that_fit_counts(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct source *s = &all->list[0];
    assert_int_equal(source_set(all, s, "administer", "@51", &err), 0);
    const gid_t groups[] = {50, 51};
    assert_int_equal(source_right(s, &(struct who){.uid = 1000, .groups = groups, .n_groups = 2}), RIGHT_ADMINISTER);
    assert_int_equal(source_right(s, &(struct who){.uid = 1000, .groups = groups, .n_groups = 1}), RIGHT_ATTACH);
    assert_int_equal(sources_right(all, &(struct who){.uid = 1}), RIGHT_EVICT);
    assert_int_equal(sources_right(NULL, &(struct who){.uid = 1}), RIGHT_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_innermost_source_has_a_path, make, unmake),
        cmocka_unit_test_setup_teardown(a_path_that_leads_back_is_in_no_source, make, unmake),
        cmocka_unit_test_setup_teardown(a_name_is_taken_apart, make, unmake),
        cmocka_unit_test_setup_teardown(who_is_not_named_has_no_right, make, unmake),
        cmocka_unit_test_setup_teardown(the_highest_right_of_all_that_fit_counts, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
