/* ipc/client/hub: a name in the Hugging Face cache becomes the path of a snapshot, or an error that says why not. */
#include "artifact_tree.h"

#include <hearth/hearth.h>

static char out[HEARTH_REF_MAX];
static struct hearth_error err;

static int look_up(const char *argument) {
    return hearth_ref_from_argument(argument, out, sizeof(out), &err);
}

static int make(void **state) {
    tree_new(state);
    struct tree *t = *state;
    tree_file(t, "hub/models--org--name/refs/main", "abc123\n");
    tree_file(t, "hub/models--org--name/refs/pr/1", "def456");
    tree_file(t, "hub/models--org--name/snapshots/abc123/config.json", "{}");
    tree_file(t, "hub/models--org--name/snapshots/def456/config.json", "{}");
    tree_file(t, "hub/models--gpt2/refs/main", "0f");
    tree_file(t, "hub/models--gpt2/snapshots/0f/config.json", "{}");
    tree_file(t, "hub/models--org--bad/refs/main", "../../../../secret");
    tree_file(t, "hub/models--org--gone/refs/main", "abc123");
    tree_file(t, "secret/file", "");
    assert_int_equal(chdir(t->root), 0);
    unsetenv("HF_HUB_CACHE");
    unsetenv("XDG_CACHE_HOME");
    setenv("HF_HOME", t->root, 1);
    return 0;
}

static int unmake(void **state) {
    assert_int_equal(chdir("/"), 0);
    return tree_free(state);
}

static void a_name_is_the_snapshot_of_its_revision(void **state) {
    struct tree *t = *state;
    static const char *const good[][2] = {
        {"hf/org/name", "hub/models--org--name/snapshots/abc123"},
        {"hf/org/name@main", "hub/models--org--name/snapshots/abc123"},
        {"hf/org/name@pr/1", "hub/models--org--name/snapshots/def456"},
        {"hf/org/name@def456", "hub/models--org--name/snapshots/def456"},
        {"hf/gpt2", "hub/models--gpt2/snapshots/0f"},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(look_up(good[i][0]), 0);
        assert_string_equal(out, at(t, good[i][1]));
    }
}

static void the_cache_is_where_its_library_looks_for_it(void **state) {
    struct tree *t = *state;
    setenv("HF_HUB_CACHE", at(t, "hub"), 1);
    setenv("HF_HOME", "/nonexistent", 1);
    assert_int_equal(look_up("hf/org/name"), 0);
    unsetenv("HF_HUB_CACHE");
    assert_int_equal(look_up("hf/org/name"), HEARTH_E_NOT_FOUND);
    assert_string_equal(err.file, "/nonexistent/hub/models--org--name/snapshots/main");
    unsetenv("HF_HOME");
    tree_file(t, "huggingface/hub/models--a--b/snapshots/1/x", "");
    setenv("XDG_CACHE_HOME", t->root, 1);
    assert_int_equal(look_up("hf/a/b@1"), 0);
    unsetenv("XDG_CACHE_HOME");
    tree_file(t, ".cache/huggingface/hub/models--a--c/snapshots/1/x", "");
    setenv("HOME", t->root, 1);
    assert_int_equal(look_up("hf/a/c@1"), 0);
}

static void what_is_not_there_is_said_with_what_to_do(void **state) {
    (void)state;
    static const char *const bad[] = {"hf/org/none", "hf/org/name@none", "hf/org/bad", "hf/org/gone"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(look_up(bad[i]), HEARTH_E_NOT_FOUND);
        assert_non_null(strstr(err.hint, "download"));
    }
}

static void a_name_that_is_none_leads_nowhere(void **state) {
    (void)state;
    static const char *const bad[] = {"hf/",          "hf/org/",          "hf//name",      "hf/org/name/file",
                                      "hf/../secret", "hf/org/..",        "hf/org/name@",  "hf/org/name@../../secret",
                                      "hf/org/.name", "hf/org/name@a//b", "hf/org/name@/a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(look_up(bad[i]), HEARTH_E_INVALID);
}

static void what_exists_as_a_path_is_that_path(void **state) {
    struct tree *t = *state;
    tree_file(t, "hf/org/name", "");
    assert_int_equal(look_up("hf/org/name"), 0);
    assert_string_equal(out, at(t, "hf/org/name"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_is_the_snapshot_of_its_revision, make, unmake),
        cmocka_unit_test_setup_teardown(the_cache_is_where_its_library_looks_for_it, make, unmake),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_said_with_what_to_do, make, unmake),
        cmocka_unit_test_setup_teardown(a_name_that_is_none_leads_nowhere, make, unmake),
        cmocka_unit_test_setup_teardown(what_exists_as_a_path_is_that_path, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
