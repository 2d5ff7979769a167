/* artifact/border: nothing of an artifact lies outside of its source, whatever links say. */
#include "artifact_tree.h"

static int resolve_in(struct tree *t, const char *source, const char *path) {
    return resolve_request(t, (struct artifact_request){.ref = at(t, path), .beneath = at(t, source)});
}

static void what_lies_in_the_source_is_found(void **state) {
    struct tree *t = *state;
    tree_file(t, "s/m/a", "1");
    assert_int_equal(resolve_in(t, "s", "s/m"), 0);
    assert_string_equal(files_of(t), "a");
    assert_int_equal(resolve_in(t, "s", "s/m/a"), 0);
    assert_true(t->artifact->is_file);
    assert_int_equal(resolve_in(t, "s", "s"), 0);
    assert_string_equal(files_of(t), "m/a");
    assert_int_equal(resolve_in(t, "s", "s/none"), HEARTH_E_NOT_FOUND);
    assert_int_equal(resolve_in(t, "none", "none/m"), HEARTH_E_NOT_FOUND);
    assert_string_equal(t->err.file, at(t, "none"));
    assert_int_equal(resolve_in(t, "s/m/a", "s/m/a"), HEARTH_E_NOT_FOUND); /* a source is a directory */
}

static void the_source_may_be_a_link_itself(void **state) {
    struct tree *t = *state;
    tree_file(t, "disk/m/a", "1");
    tree_link(t, "s", at(t, "disk"));
    assert_int_equal(resolve_in(t, "s", "s/m"), 0);
    assert_int_equal(resolve_in(t, "s", "s/m/a"), 0);
}

static void links_that_stay_inside_are_followed(void **state) {
    struct tree *t = *state;
    tree_file(t, "s/v1/a", "1");
    tree_link(t, "s/latest", "v1");
    tree_link(t, "s/now", at(t, "s/v1"));
    tree_link(t, "s/file", at(t, "s/v1/a"));
    tree_link(t, "s/deep/up", "../v1");
    static const char *const good[] = {"s/latest", "s/now", "s/file", "s/deep/up", "s/now/a"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(resolve_in(t, "s", good[i]), 0);
}

static void links_that_lead_out_are_unsafe_whatever_is_there(void **state) {
    struct tree *t = *state;
    tree_file(t, "s/m/a", "1");
    tree_file(t, "secret/a", "1");
    tree_file(t, "s2/a", "1");
    tree_link(t, "s/out", "../secret");
    tree_link(t, "s/absolute", at(t, "secret"));
    tree_link(t, "s/file", "../secret/a");
    tree_link(t, "s/nothing", "../not-there");
    tree_link(t, "s/nothing-absolute", at(t, "not-there"));
    tree_link(t, "s/twice", "out");
    tree_link(t, "s/neighbour", "../s2");
    tree_link(t, "s/top", "..");
    static const char *const bad[] = {"s/out",     "s/absolute",         "s/file",  "s/out/a",     "s/absolute/a",
                                      "s/nothing", "s/nothing-absolute", "s/twice", "s/neighbour", "s/top"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(resolve_in(t, "s", bad[i]), HEARTH_E_UNSAFE);
        assert_string_equal(t->err.message, "the reference leads out of its source");
        assert_string_equal(t->err.found, ""); /* nothing is said of what is there */
    }
    assert_int_equal(resolve(t, "s/out"), 0); /* without a source, a reference may lead anywhere */
}

static void a_repository_around_the_source_is_not_of_it(void **state) {
    struct tree *t = *state;
    tree_file(t, "hub/models--x/blobs/1", "weights");
    tree_link(t, "hub/models--x/snapshots/c/w", "../../blobs/1");
    assert_int_equal(resolve_in(t, "hub", "hub/models--x/snapshots/c"), 0);
    assert_string_equal(files_of(t), "w");
    assert_int_equal(resolve_in(t, "hub/models--x", "hub/models--x/snapshots/c"), 0);
    assert_int_equal(resolve_in(t, "hub/models--x/snapshots", "hub/models--x/snapshots/c"), HEARTH_E_UNSAFE);
    assert_int_equal(resolve_in(t, "hub/models--x/snapshots/c", "hub/models--x/snapshots/c/w"), HEARTH_E_UNSAFE);
}

static void another_source_is_another_artifact(void **state) {
    struct tree *t = *state;
    uint8_t key[32];
    tree_file(t, "s/m/a", "1");
    assert_int_equal(resolve_in(t, "s", "s/m"), 0);
    memcpy(key, t->artifact->key, sizeof(key));
    assert_int_equal(resolve_in(t, "s/m", "s/m"), 0);
    assert_memory_not_equal(key, t->artifact->key, sizeof(key));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        tree_test(what_lies_in_the_source_is_found),
        tree_test(the_source_may_be_a_link_itself),
        tree_test(links_that_stay_inside_are_followed),
        tree_test(links_that_lead_out_are_unsafe_whatever_is_there),
        tree_test(a_repository_around_the_source_is_not_of_it),
        tree_test(another_source_is_another_artifact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
