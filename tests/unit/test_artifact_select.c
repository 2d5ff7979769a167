/* artifact/glob, artifact/select, artifact/role: what names alone decide. */
#include "artifact_tree.h"

#include <hearth/hearth.h>

#include "artifact/glob.h"
#include "artifact/role.h"
#include "artifact/select.h"

static void globs_match_bytes_runs_and_sets(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"*", "", true},
        {"*", "a/b", true},
        {"", "", true},
        {"", "a", false},
        {"a*c", "abbc", true},
        {"a*c", "abbcd", false},
        {"*.safetensors", "model.safetensors", true},
        {"*ab*ab", "abab", true},
        {"?", "a", true},
        {"?", "", false},
        {"[a-c]x", "bx", true},
        {"[!a-c]x", "bx", false},
        {"[^a]", "b", true},
        {"[]]", "]", true},
        {"[a-]", "-", true},
        {"[", "[", true},
        {"[abc", "[abc", true},
        {"[abc", "a", false},
        {"\\*", "*", true},
        {"\\*", "x", false},
        {"[\\]]", "]", true},
        {"\xff*", "\xff\xfe", true},
        {"a\\", "a\\", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (glob_match(cases[i].pattern, cases[i].text) != cases[i].matches)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
}

/* With a backtracking matcher this pattern takes longer than the test's time limit. */
static void a_hostile_pattern_ends(void **state) {
    (void)state;
    char pattern[128] = "", text[256];
    for (int i = 0; i < 40; i++)
        strcat(pattern, "*a");
    strcat(pattern, "*b");
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_false(glob_match(pattern, text));
}

static void roles_follow_from_names(void **state) {
    (void)state;
    static const struct {
        const char *path;
        enum hearth_role role;
    } cases[] = {
        {"model-00001-of-00002.safetensors", HEARTH_ROLE_WEIGHTS},
        {"model.safetensors.index.json", HEARTH_ROLE_METADATA},
        {"config.json", HEARTH_ROLE_CONFIG},
        {"generation_config.json", HEARTH_ROLE_CONFIG},
        {"tokenizer.json", HEARTH_ROLE_TOKENIZER},
        {"tokenizer_config.json", HEARTH_ROLE_TOKENIZER},
        {"vocab.txt", HEARTH_ROLE_TOKENIZER},
        {"preprocessor_config.json", HEARTH_ROLE_PREPROCESSING},
        {"README.md", HEARTH_ROLE_METADATA},
        {"SHA256SUMS", HEARTH_ROLE_METADATA},
        {"model.safetensors.sha256", HEARTH_ROLE_METADATA},
        {"MLmodel", HEARTH_ROLE_METADATA},
        {"modeling_x.py", HEARTH_ROLE_CODE},
        {"unet/diffusion_pytorch_model.fp16.safetensors", HEARTH_ROLE_WEIGHTS},
        {"weights/notes", HEARTH_ROLE_OTHER},
        {"", HEARTH_ROLE_OTHER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (role_of(cases[i].path) != cases[i].role)
            fail_msg("%s is %s", cases[i].path, hearth_role_name(role_of(cases[i].path)));
}

static void version_control_caches_and_partial_downloads_are_skipped(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/.git/config", "x");
    tree_file(t, "m/.gitattributes", "x");
    tree_file(t, "m/.cache/huggingface/download/a.metadata", "x");
    tree_file(t, "m/sub/.git", "gitdir: elsewhere");
    tree_file(t, "m/model.bin.incomplete", "x");
    tree_file(t, "m/config.json", "{}");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), ".gitattributes config.json");
    assert_string_equal(skipped_of(t), ".cache .git model.bin.incomplete sub/.git");

    assert_int_equal(resolve_with(t, "m", "*", NULL), 0);
    assert_string_equal(files_of(t), ".gitattributes config.json");
    assert_int_equal(resolve_with(t, "m", ".cache/huggingface/download/*", NULL), 0);
    assert_string_equal(files_of(t), ".cache/huggingface/download/a.metadata");
    assert_int_equal(resolve_with(t, "m", "model.bin.incomplete", NULL), 0);
    assert_string_equal(files_of(t), "model.bin.incomplete");
}

/* What sentence-transformers and whisper repositories hold. */
static void weights_in_a_second_format_are_skipped_beside_safetensors(void **state) {
    struct tree *t = *state;
    static const char *const names[] = {
        "m/model.safetensors",
        "m/pytorch_model.bin",
        "m/pytorch_model.bin.index.json",
        "m/tf_model.h5",
        "m/flax_model.msgpack",
        "m/rust_model.ot",
        "m/model.onnx",
        "m/model.onnx_data",
        "m/model-q4.gguf",
        "m/consolidated.00.pth",
        "m/consolidated.safetensors",
        "m/onnx/model.onnx",
        "m/openvino/openvino_model.bin",
        "m/original/params.json",
        "m/config.json",
        "m/tokenizer.model",
        "m/training_args.bin",
        "m/2_Dense/model.safetensors",
        "m/2_Dense/pytorch_model.bin",
        "m/head/pytorch_model.bin",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        tree_file(t, names[i], "x");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), "2_Dense/model.safetensors config.json head/pytorch_model.bin model.safetensors "
                                     "tokenizer.model training_args.bin");
    assert_int_equal(t->artifact->n_skipped, 14);

    assert_int_equal(resolve_with(t, "m", "pytorch_model.bin", NULL), 0);
    assert_string_equal(files_of(t), "2_Dense/pytorch_model.bin head/pytorch_model.bin pytorch_model.bin");
    assert_int_equal(resolve_with(t, "m", "onnx", NULL), 0);
    assert_string_equal(files_of(t), "onnx/model.onnx");
}

static void excluded_safetensors_leave_the_other_format_in_place(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/model.safetensors", "x");
    tree_file(t, "m/pytorch_model.bin", "x");
    assert_int_equal(resolve_with(t, "m", NULL, "*.safetensors"), 0);
    assert_string_equal(files_of(t), "pytorch_model.bin");
    assert_string_equal(t->artifact->skipped[0].reason, "excluded by the request");
}

static void other_formats_alone_are_taken(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/pytorch_model.bin", "x");
    tree_file(t, "m/onnx/model.onnx", "x");
    tree_file(t, "m/consolidated.safetensors.bin", "x");
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(t->artifact->n_files, 3);
}

static void consolidated_safetensors_alone_are_taken(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/consolidated.safetensors", "x");
    tree_file(t, "m/consolidated.00.pth", "x");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), "consolidated.safetensors");
}

static void patterns_match_paths_base_names_and_directories(void **state) {
    struct tree *t = *state;
    static const char *const names[] = {"m/a.bin", "m/s/a.bin", "m/s/b.txt", "m/s/deep/a.bin", "m/z"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        tree_file(t, names[i], "x");
    static const struct {
        const char *include, *exclude, *files;
    } cases[] = {
        {"a.bin", NULL, "a.bin s/a.bin s/deep/a.bin"},
        {"**/a.bin", NULL, "a.bin s/a.bin s/deep/a.bin"},
        {"s/*.bin", NULL, "s/a.bin s/deep/a.bin"},
        {"s", NULL, "s/a.bin s/b.txt s/deep/a.bin"},
        {"s/", NULL, "s/a.bin s/b.txt s/deep/a.bin"},
        {"**/deep/*", NULL, "s/deep/a.bin"},
        {"s", "deep", "s/a.bin s/b.txt"},
        {NULL, "s/", "a.bin z"},
        {NULL, "*.bin", "s/b.txt z"},
        {"z", "y", "z"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(resolve_with(t, "m", cases[i].include, cases[i].exclude), 0);
        assert_string_equal(files_of(t), cases[i].files);
    }
}

/* Each name is tried at each of its bytes against a set of 4000: 14 such patterns and 2000 names take half a minute. */
static void patterns_that_cost_too_much_are_refused(void **state) {
    struct tree *t = *state;
    enum { EXCLUDES = 14, SETS = 1350 };
    char pattern[3 * SETS + 8] = "b*[", name[256], path[300];
    for (size_t i = 0; i < SETS; i++)
        strcat(pattern + 3 * i, "a-b");
    strcat(pattern, "]q");
    memset(name, 'b', 250);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name + 250, 6, "%u", i);
        snprintf(path, sizeof(path), "m/%s", name);
        tree_file(t, path, "1");
    }
    const char *excludes[EXCLUDES];
    for (size_t i = 0; i < EXCLUDES; i++)
        excludes[i] = pattern;
    struct artifact_request r = {.ref = at(t, "m"), .exclude = excludes, .n_exclude = EXCLUDES};
    struct selection few = {.request = &r, .steps_left = 1000000};
    (void)select_file(&few, name, false);
    assert_int_equal(select_check(&few, &t->err), HEARTH_E_INVALID);
    assert_string_equal(t->err.file, at(t, "m"));
    assert_true(*t->err.expected && *t->err.found && *t->err.hint);
#ifndef HEARTH_SANITIZED /* there, so many steps take a minute */
    assert_int_equal(resolve_request(t, r), HEARTH_E_INVALID);
    assert_string_equal(t->err.file, at(t, "m"));
#endif
    r.n_exclude = 1;
    r.exclude = (const char *const[]){"b*[a-c]q"};
    assert_int_equal(resolve_request(t, r), 0);
    assert_int_equal(t->artifact->n_files, 300);
}

static void the_cost_of_a_match_is_counted(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        uint64_t least, most;
    } cases[] = {
        {"abc", "abc", 3, 8},
        {"x*", "abcdefghijklmnopqrstuvwxyz", 1, 2},
        {"*x", "aaaaaaaaaaaaaaaaaaaa", 20, 50},
        {"*[bcdefghijk]", "aaaaaaaaaaaaaaaaaaaa", 200, 300},
        {"*[[[[[[[[[[[[[[[[[[[[", "aaaaaaaaaaaaaaaaaaaa", 300, 500}, /* none is closed, all are looked for */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t steps = 1000000;
        bool matches = glob_match_within(cases[i].pattern, cases[i].text, &steps);
        assert_int_equal(matches, glob_match(cases[i].pattern, cases[i].text));
        assert_in_range(1000000 - steps, cases[i].least, cases[i].most);
        steps = cases[i].least - 1;
        assert_false(glob_match_within(cases[i].pattern, cases[i].text, &steps));
        assert_int_equal(steps, 0);
    }
}

static void nothing_left_is_an_error_with_a_reason(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "x");
    assert_int_equal(resolve_with(t, "m", "b", NULL), HEARTH_E_INVALID);
    assert_non_null(strstr(t->err.found, "not among what the request includes"));
    assert_int_equal(resolve_with(t, "m", "", NULL), HEARTH_E_INVALID);
    char *large = calloc(1, ARTIFACT_PATTERN_MAX + 1);
    memset(large, '*', ARTIFACT_PATTERN_MAX);
    assert_int_equal(resolve_with(t, "m", NULL, large), HEARTH_E_INVALID);
    free(large);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_match_bytes_runs_and_sets),
        cmocka_unit_test(a_hostile_pattern_ends),
        cmocka_unit_test(roles_follow_from_names),
        tree_test(version_control_caches_and_partial_downloads_are_skipped),
        tree_test(weights_in_a_second_format_are_skipped_beside_safetensors),
        tree_test(excluded_safetensors_leave_the_other_format_in_place),
        tree_test(other_formats_alone_are_taken),
        tree_test(consolidated_safetensors_alone_are_taken),
        tree_test(patterns_match_paths_base_names_and_directories),
        tree_test(patterns_that_cost_too_much_are_refused),
        cmocka_unit_test(the_cost_of_a_match_is_counted),
        tree_test(nothing_left_is_an_error_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
