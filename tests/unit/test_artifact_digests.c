/* artifact/digests: what SHA256SUMS, NAME.sha256 and the request say files must hash to. */
#include "artifact_tree.h"

#include <sys/syscall.h>

#include "artifact/digests.h"
#include "util/text.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

static void assert_expected(const struct tree *t, size_t i, const char *hex) {
    char found[65];
    assert_true(t->artifact->files[i].expected);
    assert_int_equal(strcasecmp(format_hex(t->artifact->files[i].sha256, 32, found), hex), 0);
}

static void every_form_of_line_is_read(void **state) {
    (void)state;
    static const struct {
        const char *line, *path;
    } cases[] = {
        {A "  name", "name"},
        {A " *name", "name"},
        {A "  name\n", "name"},
        {A "  name\r\n", "name"},
        {B "  two  spaces ", "two  spaces "},
        {"SHA256 (name) = " A, "name"},
        {"SHA256 (a) = b) = " A, "a) = b"},
        {"\\" A "  new\\nline", "new\nline"},
        {"\\" A "  back\\\\slash\\r", "back\\slash\r"},
        {"\\SHA256 (new\\nline) = " A, "new\nline"},
        {A "  back\\nslash", "back\\nslash"},
        {A "  ./sub//./name", "sub/name"},
        {A "  /sub/.//name/", "/sub/name"},
        {A "  /", "/"},
        {A "  \xff\xfe", "\xff\xfe"},
        {A, ""},
        {"# comment\n\n\r\n" A "  name", "name"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct digest_list list = {0};
        assert_int_equal(digest_parse(cases[i].line, strlen(cases[i].line), "f", &list, NULL), 0);
        assert_int_equal(list.count, 1);
        assert_string_equal(list.lines[0].path, cases[i].path);
        assert_true(list.lines[0].sha256[0] == 0xaa || list.lines[0].sha256[0] == 0xbb);
        digest_list_deinit(&list);
    }
}

static void a_line_that_cannot_be_read_is_refused_with_its_place(void **state) {
    (void)state;
    static const char *const bad[] = {
        "x",
        A " name",
        A "\tname",
        A "  ",
        A "a  name",
        "g" A "  name",
        "SHA256 (name) = abc",
        "SHA512 (name) = " A,
        "SHA256 (name)  " A,
        "\\" A "  bad\\escape",
        "\\" A "  ends\\",
        "\\",
        A "  ./",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[256];
        struct digest_list list = {0};
        struct hearth_error err = HEARTH_ERROR_INIT;
        int n = snprintf(text, sizeof(text), "%s  good\n%s\n", A, bad[i]);
        assert_int_equal(digest_parse(text, (size_t)n, "SUMS", &list, &err), HEARTH_E_MALFORMED);
        assert_string_equal(err.file, "SUMS");
        assert_int_equal(err.offset, 64 + 2 + 4 + 1);
        assert_non_null(strstr(err.message, "line 2"));
        digest_list_deinit(&list);
    }
    struct digest_list list = {0};
    static const char nul[] = A "  na\0me";
    assert_int_equal(digest_parse(nul, sizeof(nul) - 1, "SUMS", &list, NULL), HEARTH_E_MALFORMED);
    digest_list_deinit(&list);
}

static void sums_and_sidecars_reach_their_files(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/s/b", "2");
    tree_file(t, "m/s/b.sha256", B "  build/out/b\n");
    tree_file(t, "m/s/c", "3");
    tree_file(t, "m/s/c.sha256", A "\n");
    tree_file(t, "m/SHA256SUMS", A "  a\n" B "  s/b\n" A "  SHA256SUMS\n");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), "SHA256SUMS a s/b s/b.sha256 s/c s/c.sha256");
    assert_false(t->artifact->files[0].expected);
    assert_expected(t, 1, A);
    assert_expected(t, 2, B);
    assert_false(t->artifact->files[3].expected);
    assert_expected(t, 4, A);
}

static void digests_count_though_their_file_is_not_included(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/b", "1");
    tree_file(t, "m/SHA256SUMS", A "  a\n" B "  b\n");
    assert_int_equal(resolve_with(t, "m", "a", NULL), 0);
    assert_string_equal(files_of(t), "a");
    assert_expected(t, 0, A);
    assert_int_equal(resolve_with(t, "m", NULL, "SHA256SUMS"), 0);
    assert_false(t->artifact->files[0].expected);
}

static void two_different_digests_are_refused_with_both(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/SHA256SUMS", A "  a\n" A "  a\n" B " *./a\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
    assert_int_equal(t->err.offset, 2 * (64 + 4));
    assert_string_equal(t->err.file, at(t, "m/SHA256SUMS"));
    assert_non_null(strstr(t->err.expected, "aaaa"));
    assert_non_null(strstr(t->err.found, "bbbb"));
    tree_file(t, "m/SHA256SUMS", A "  a\n");
    tree_file(t, "m/a.sha256", B "  a\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
}

static void a_listed_file_that_is_missing_is_an_error_unless_left_out(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/model.safetensors", "1");
    tree_file(t, "m/pytorch_model.bin", "1");
    tree_file(t, "m/onnx/model.onnx", "1");
    tree_file(t, "m/.git/head", "1");
    tree_file(t, "m/SHA256SUMS", A "  pytorch_model.bin\n" A "  onnx/model.onnx\n" A "  .git/head\n" A "  gone/x\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_NOT_FOUND);
    assert_string_equal(t->err.expected, "gone/x");
    assert_int_equal(t->err.offset, 3 * 66 + 18 + 16 + 10);
    assert_int_equal(resolve_with(t, "m", NULL, "gone"), 0);
    assert_int_equal(resolve_with(t, "m", NULL, "x"), 0);
    assert_int_equal(resolve_with(t, "m", "*.safetensors", NULL), 0);
    assert_int_equal(resolve_with(t, "m", "gone", NULL), HEARTH_E_INVALID);
    assert_int_equal(resolve_with(t, "m", "*", NULL), HEARTH_E_NOT_FOUND);
    tree_file(t, "m/SHA256SUMS", A "  ../outside\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_NOT_FOUND);
    tree_file(t, "m/SHA256SUMS", A "\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
}

static void a_sidecar_speaks_of_its_file_alone(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/gone.sha256", "not even a digest");
    assert_int_equal(resolve(t, "m"), 0);
    tree_file(t, "m/a.sha256", A "  b\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
    assert_string_equal(t->err.found, "b");
    tree_file(t, "m/a.sha256", A "  a\n" A "  a\n");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
    tree_file(t, "m/a.sha256", "");
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
    assert_int_equal(resolve(t, "m/a"), HEARTH_E_MALFORMED);
}

static void a_digest_file_too_large_is_not_read(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/SHA256SUMS", "");
    assert_int_equal(truncate(at(t, "m/SHA256SUMS"), (off_t)DIGEST_FILE_MAX + 1), 0);
    assert_int_equal(resolve(t, "m"), HEARTH_E_MALFORMED);
    assert_string_equal(t->err.file, at(t, "m/SHA256SUMS"));
}

static const char *grows_when_read; /* or NULL */
static bool cancelled_when_read;
static atomic_bool cancel;

/* Instead of the C library's: a publisher may write at any time. */
ssize_t read(int fd, void *buffer, size_t size) {
    if (grows_when_read) {
        int list = open(grows_when_read, O_WRONLY | O_APPEND | O_CLOEXEC);
        assert_int_equal(write(list, "\n", 1), 1);
        close(list);
    }
    cancel = cancelled_when_read;
    return syscall(SYS_read, fd, buffer, size);
}

static void a_list_that_grows_while_it_is_read_is_not_believed(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/SHA256SUMS", A "  a");
    grows_when_read = at(t, "m/SHA256SUMS");
    int r = resolve(t, "m");
    grows_when_read = NULL;
    assert_int_equal(r, HEARTH_E_CHANGED);
    assert_string_equal(t->err.file, at(t, "m/SHA256SUMS"));
    assert_int_equal(resolve(t, "m"), 0);
}

static void a_request_called_off_looks_at_no_more_lines(void **state) {
    struct tree *t = *state;
    struct artifact_request r = {.ref = at(t, "m"), .cancel = &cancel};
    tree_file(t, "m/a", "1");
    tree_file(t, "m/SHA256SUMS", A "  gone\n");
    assert_int_equal(resolve_request(t, r), HEARTH_E_NOT_FOUND);
    cancelled_when_read = true;
    int e = resolve_request(t, r);
    cancelled_when_read = false;
    cancel = false;
    assert_int_equal(e, HEARTH_E_CANCELLED);
}

/* Every part of every path is a directory that might have been left out: all 2000 in each of 4000 lines would take
 * long. */
static void a_list_of_deep_paths_costs_little(void **state) {
    struct tree *t = *state;
    enum { LINES = 4000, DEPTH = 2000, LINE = 64 + 2 + 2 * DEPTH + 13 };
    char *line = malloc(LINE + 1);
    memcpy(line, A "  ", 66);
    for (size_t i = 0; i < DEPTH; i++)
        memcpy(line + 66 + 2 * i, "a/", 2);
    memcpy(line + LINE - 13, "x.incomplete\n", 14);
    tree_file(t, "m/a", "1");
    FILE *f = fopen(at(t, "m/SHA256SUMS"), "we");
    for (size_t i = 0; i < LINES; i++)
        assert_true(fputs(line, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(line);
    /* Matching is counted, so that no clock is needed. */
    const char *excludes[16];
    for (size_t i = 0; i < 16; i++)
        excludes[i] = "[bcdefghijklmnopqrstuvwxyz]x";
    struct artifact_request r = {.ref = at(t, "m"), .exclude = excludes, .n_exclude = 16};
    if (resolve_request(t, r) != 0)
        fail_msg("%s", t->err.message);
    assert_string_equal(files_of(t), "SHA256SUMS a");
}

static void a_listed_file_left_out_is_passed_over_at_any_depth(void **state) {
    struct tree *t = *state;
    char deepest[4 * ARTIFACT_DEPTH_MAX], sums[2 * sizeof(deepest)];
    size_t n = 0;
    for (unsigned i = 0; i < ARTIFACT_DEPTH_MAX; i++)
        n += (size_t)snprintf(deepest + n, sizeof(deepest) - n, "d/");
    snprintf(sums, sizeof(sums), "%s  %s.git/x/y/z\n", A, deepest);
    char path[sizeof(deepest) + 16];
    snprintf(path, sizeof(path), "m/%s.git/x/y/z", deepest);
    tree_file(t, path, "1");
    tree_file(t, "m/a", "1");
    tree_file(t, "m/SHA256SUMS", sums);
    if (resolve(t, "m") != 0)
        fail_msg("%s", t->err.message);
    snprintf(sums, sizeof(sums), "%s  %sd/d/d/x.txt\n", A, deepest);
    tree_file(t, "m/SHA256SUMS", sums);
    assert_int_equal(resolve(t, "m"), HEARTH_E_NOT_FOUND);
    assert_int_equal(resolve_with(t, "m", NULL, "*.txt"), 0);
}

static void many_large_digest_files_are_refused(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a0", "1");
    tree_file(t, "m/a0.sha256", A "\n#");
    assert_int_equal(truncate(at(t, "m/a0.sha256"), (off_t)DIGEST_FILE_MAX), 0);
    for (unsigned i = 1; i <= DIGEST_FILES_MAX / DIGEST_FILE_MAX; i++) {
        char path[32];
        snprintf(path, sizeof(path), "m/a%u", i);
        tree_file(t, path, "1");
        if (i == DIGEST_FILES_MAX / DIGEST_FILE_MAX)
            assert_int_equal(resolve(t, "m"), 0);
        snprintf(path, sizeof(path), "m/a%u.sha256", i);
        tree_link(t, path, "a0.sha256");
    }
    assert_int_equal(resolve(t, "m"), HEARTH_E_INVALID);
    assert_non_null(strstr(t->err.expected, "64 MiB"));
}

static void a_single_file_has_those_beside_it(void **state) {
    struct tree *t = *state;
    tree_file(t, "d/a", "1");
    tree_file(t, "d/SHA256SUMS", A "  a\n" B "  not-here\n");
    assert_int_equal(resolve(t, "d/a"), 0);
    assert_expected(t, 0, A);
    assert_int_equal(resolve(t, "d/SHA256SUMS"), 0);
    assert_false(t->artifact->files[0].expected);

    /* Through a link: beside the link as beside the file. */
    tree_link(t, "e/latest", "../d/a");
    assert_int_equal(resolve(t, "e/latest"), 0);
    assert_expected(t, 0, A);
    tree_file(t, "e/latest.sha256", B "  latest\n");
    assert_int_equal(resolve(t, "e/latest"), HEARTH_E_MALFORMED);
    assert_int_equal(mkfifo(at(t, "e/a.sha256"), 0600), 0);
    tree_file(t, "e/a", "1");
    assert_int_equal(resolve(t, "e/a"), HEARTH_E_MALFORMED);
}

enum { OWNER = 1001, STRANGER = 1002 };

static void give(const struct tree *t, const char *path, uid_t uid) {
    assert_int_equal(lchown(at(t, path), uid, (gid_t)-1), 0);
}

/* As in a directory that is open to all. Each list is a stranger's first, then the owner's, then root's. */
static void a_strangers_list_cannot_keep_a_file_from_being_loaded(void **state) {
    struct tree *t = *state;
    if (geteuid() != 0) {
        print_message("skipped: only root can give files away\n");
        skip();
    }
    static const char *const lists[] = {"d/SHA256SUMS", "d/a.sha256"};
    static const uid_t others[] = {OWNER, 0};
    enum { FIFO, DIRECTORY, NONSENSE, LINK_OUT, LINK_TO_THE_FILE, CONTRADICTION, KINDS };
    static const int refusals[KINDS] = {HEARTH_E_MALFORMED, HEARTH_E_MALFORMED, HEARTH_E_MALFORMED,
                                        HEARTH_E_UNSAFE,    HEARTH_E_MALFORMED, HEARTH_E_MALFORMED};
    tree_file(t, "d/a", "not a list");
    tree_file(t, "outside", A "  a\n");
    give(t, "d/a", OWNER);
    for (size_t i = 0; i < 2; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            const char *list = lists[i];
            if (kind == FIFO)
                assert_int_equal(mkfifo(at(t, list), 0600), 0);
            else if (kind == DIRECTORY)
                assert_int_equal(mkdir(at(t, list), 0700), 0);
            else if (kind == LINK_OUT)
                tree_link(t, list, "../outside");
            else if (kind == LINK_TO_THE_FILE)
                tree_link(t, list, "a");
            else
                tree_file(t, list, kind == NONSENSE ? "gibberish\n" : A "  a\n" B "  a\n");
            give(t, list, STRANGER);
            if (resolve(t, "d/a") != 0)
                fail_msg("%s, kind %d: %s", list, kind, t->err.message);
            assert_int_equal(t->err.code, 0);
            assert_false(t->artifact->files[0].expected);
            for (size_t k = 0; k < 2; k++) {
                give(t, list, others[k]);
                assert_int_equal(resolve(t, "d/a"), refusals[kind]);
                assert_string_equal(t->err.file, at(t, list));
            }
            assert_int_equal(remove(at(t, list)), 0);
        }
}

static void a_strangers_list_counts_where_the_owner_says_nothing(void **state) {
    struct tree *t = *state;
    if (geteuid() != 0) {
        print_message("skipped: only root can give files away\n");
        skip();
    }
    tree_file(t, "d/a", "1");
    give(t, "d/a", OWNER);
    tree_file(t, "d/SHA256SUMS", A "  a\n");
    give(t, "d/SHA256SUMS", STRANGER);
    assert_int_equal(resolve(t, "d/a"), 0);
    assert_expected(t, 0, A);
    tree_file(t, "d/a.sha256", B "  a\n");
    give(t, "d/a.sha256", OWNER);
    assert_int_equal(resolve(t, "d/a"), 0);
    assert_expected(t, 0, B);
    /* A link to a list is whose either of them is. */
    assert_int_equal(unlink(at(t, "d/a.sha256")), 0);
    tree_file(t, "d/list", "gibberish\n");
    give(t, "d/list", STRANGER);
    tree_link(t, "d/a.sha256", "list");
    give(t, "d/a.sha256", OWNER);
    assert_int_equal(resolve(t, "d/a"), 0);
    give(t, "d/list", OWNER);
    assert_int_equal(resolve(t, "d/a"), HEARTH_E_MALFORMED);
}

static void a_hugging_face_snapshot_may_hold_digests(void **state) {
    struct tree *t = *state;
    tree_file(t, "r/blobs/b1", "1");
    tree_file(t, "r/blobs/b2", A "  w\n");
    tree_link(t, "r/snapshots/c/w", "../../blobs/b1");
    tree_link(t, "r/snapshots/c/SHA256SUMS", "../../blobs/b2");
    assert_int_equal(resolve(t, "r/snapshots/c"), 0);
    assert_expected(t, 1, A);
    assert_int_equal(resolve(t, "r/snapshots/c/w"), 0);
    assert_expected(t, 0, A);
    tree_file(t, "outside", A "  w\n");
    assert_int_equal(unlink(at(t, "r/snapshots/c/SHA256SUMS")), 0);
    tree_link(t, "r/snapshots/c/SHA256SUMS", "../../../outside");
    assert_int_equal(resolve(t, "r/snapshots/c/w"), HEARTH_E_UNSAFE);
    assert_int_equal(resolve_with(t, "r/snapshots/c", "w", NULL), HEARTH_E_UNSAFE);
}

static int resolve_digest(struct tree *t, const char *ref, const char *path, const char *hex) {
    struct artifact_digest d = {.path = path};
    assert_true(parse_hex(hex, 64, d.sha256, 32));
    return resolve_request(t, (struct artifact_request){.ref = at(t, ref), .digests = &d, .n_digests = 1});
}

static void the_requests_digests_beat_those_found(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/a.sha256", A);
    assert_int_equal(resolve_digest(t, "m", "a", B), 0);
    assert_expected(t, 0, B);
    assert_int_equal(resolve_digest(t, "m/a", "", B), 0);
    assert_expected(t, 0, B);
    assert_int_equal(resolve_digest(t, "m/a", "a", B), 0);
    assert_expected(t, 0, B);
}

static void a_digest_for_no_file_is_invalid(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    assert_int_equal(resolve_digest(t, "m", "b", A), HEARTH_E_INVALID);
    assert_non_null(strstr(t->err.message, " b,"));
    assert_int_equal(resolve_digest(t, "m", "", A), HEARTH_E_INVALID);
    struct artifact_digest twice[2] = {{.path = "a"}, {.path = "a", .sha256 = {1}}};
    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = at(t, "m"), .digests = twice, .n_digests = 2}),
                     HEARTH_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_line_is_read),
        cmocka_unit_test(a_line_that_cannot_be_read_is_refused_with_its_place),
        tree_test(sums_and_sidecars_reach_their_files),
        tree_test(digests_count_though_their_file_is_not_included),
        tree_test(two_different_digests_are_refused_with_both),
        tree_test(a_listed_file_that_is_missing_is_an_error_unless_left_out),
        tree_test(a_sidecar_speaks_of_its_file_alone),
        tree_test(a_digest_file_too_large_is_not_read),
        tree_test(a_list_that_grows_while_it_is_read_is_not_believed),
        tree_test(a_request_called_off_looks_at_no_more_lines),
        tree_test(a_list_of_deep_paths_costs_little),
        tree_test(a_listed_file_left_out_is_passed_over_at_any_depth),
        tree_test(many_large_digest_files_are_refused),
        tree_test(a_single_file_has_those_beside_it),
        tree_test(a_strangers_list_cannot_keep_a_file_from_being_loaded),
        tree_test(a_strangers_list_counts_where_the_owner_says_nothing),
        tree_test(a_hugging_face_snapshot_may_hold_digests),
        tree_test(the_requests_digests_beat_those_found),
        tree_test(a_digest_for_no_file_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
