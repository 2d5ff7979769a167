/* artifact/resolve, artifact/walk, artifact/key: from a reference to files and the key of their generation. */
#include "artifact_tree.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>

static const struct tree *swap_in; /* NULL: nothing is swapped */
static const char *swapped, *swapped_for;
static atomic_bool cancel;
static unsigned listed, cancel_at; /* entries */

/* Instead of the C library's: between the listing of a directory and the opening of what is in it, anything may happen.
 * The first listing that ends has `swapped` replaced by a link; entry number `cancel_at` has the request called off. */
struct dirent *readdir(DIR *dir) {
    static struct dirent *(*real)(DIR *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "readdir");
    struct dirent *d = real(dir);
    if (++listed == cancel_at)
        cancel = true;
    if (!d && swap_in) {
        char aside[PATH_MAX];
        snprintf(aside, sizeof(aside), "%s/aside", swap_in->root);
        assert_int_equal(rename(at(swap_in, swapped), aside), 0);
        tree_link(swap_in, swapped, swapped_for);
        swap_in = NULL;
        errno = 0;
    }
    return d;
}

static int resolve_and_swap(struct tree *t, const char *ref, const char *path, const char *target) {
    swapped = path;
    swapped_for = target;
    swap_in = t;
    int r = resolve(t, ref);
    assert_null(swap_in);
    assert_int_equal(remove(at(t, path)), 0);
    assert_int_equal(rename(at(t, "aside"), at(t, path)), 0);
    return r;
}

static void a_directory_becomes_its_sorted_files(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/config.json", "{}");
    tree_file(t, "m/model.safetensors", "12345");
    tree_file(t, "m/empty", "");
    tree_file(t, "m/a/b/c", "1");
    assert_int_equal(mkdir(at(t, "m/nothing"), 0755), 0);
    assert_int_equal(resolve(t, "m"), 0);
    const struct artifact *a = t->artifact;
    assert_string_equal(files_of(t), "a/b/c config.json empty model.safetensors");
    assert_int_equal(a->bytes, 1 + 2 + 5);
    assert_false(a->is_file);
    assert_int_equal(a->n_skipped, 0);
    assert_int_equal(a->files[3].role, HEARTH_ROLE_WEIGHTS);
    assert_int_equal(a->files[2].identity.bytes, 0);
    struct stat st;
    assert_int_equal(stat(at(t, "m/model.safetensors"), &st), 0);
    assert_int_equal(a->files[3].identity.inode, st.st_ino);
    assert_int_equal(a->files[3].identity.device, st.st_dev);
    char path[PATH_MAX];
    assert_string_equal(artifact_path(a, 0, path, sizeof(path)), at(t, "m/a/b/c"));
    assert_string_equal(artifact_join(a, "", path, sizeof(path)), at(t, "m"));
}

static void a_reference_may_be_one_file(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/model.gguf", "123");
    tree_file(t, "m/other", "123");
    assert_int_equal(resolve(t, "m/model.gguf"), 0);
    assert_true(t->artifact->is_file);
    assert_string_equal(files_of(t), "model.gguf");
    assert_int_equal(t->artifact->bytes, 3);
    char path[PATH_MAX];
    assert_string_equal(artifact_path(t->artifact, 0, path, sizeof(path)), at(t, "m/model.gguf"));
}

static void a_reference_may_be_a_link_to_anywhere(void **state) {
    struct tree *t = *state;
    tree_file(t, "store/v3/w.bin", "123");
    tree_link(t, "names/dir", at(t, "store/v3"));
    tree_link(t, "names/file.gguf", "../store/v3/w.bin");
    tree_link(t, "names/again", "file.gguf");
    assert_int_equal(resolve(t, "names/dir"), 0);
    assert_string_equal(files_of(t), "w.bin");
    assert_string_equal(t->artifact->ref, at(t, "names/dir"));
    assert_int_equal(resolve(t, "names/file.gguf"), 0);
    assert_string_equal(files_of(t), "file.gguf");
    assert_string_equal(t->artifact->opened_as, "w.bin");
    assert_int_equal(resolve(t, "names/again"), 0);
    assert_string_equal(files_of(t), "again");
    int fd;
    assert_int_equal(artifact_open(t->artifact, 0, 0, &fd, &t->err), 0);
    close(fd);
}

static void one_artifact_has_one_reference(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    uint8_t key[32];
    assert_int_equal(resolve(t, "m"), 0);
    memcpy(key, t->artifact->key, 32);
    static const char *const same[] = {"m/", "./m", "/m/.", "m//"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(resolve(t, same[i]), 0);
        assert_string_equal(t->artifact->ref, at(t, "m"));
        assert_memory_equal(t->artifact->key, key, 32);
    }
    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = "m"}), HEARTH_E_INVALID);
    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ""}), HEARTH_E_INVALID);
}

static void assert_failed(const struct tree *t, int got, int code, const char *file) {
    assert_int_equal(got, code);
    assert_int_equal(t->err.code, code);
    assert_string_equal(t->err.file, at(t, file));
    assert_true(*t->err.message);
}

static void what_is_missing_or_empty_is_named(void **state) {
    struct tree *t = *state;
    assert_failed(t, resolve(t, "none"), HEARTH_E_NOT_FOUND, "none");
    tree_file(t, "file", "x");
    assert_failed(t, resolve(t, "file/below"), HEARTH_E_NOT_FOUND, "file/below");
    assert_failed(t, resolve(t, "file/"), HEARTH_E_NOT_FOUND, "file");
    assert_int_equal(mkdir(at(t, "empty"), 0755), 0);
    assert_failed(t, resolve(t, "empty"), HEARTH_E_INVALID, "empty");
    tree_link(t, "circle", "circle");
    assert_failed(t, resolve(t, "circle"), HEARTH_E_INVALID, "circle");
}

/* /proc/self would be the daemon's own. */
static void what_who_asks_sees_is_compared(void **state) {
    struct tree *t = *state;
    struct stat st;
    tree_file(t, "m/model.safetensors", "12345");
    tree_link(t, "link", "m/model.safetensors");
    const char *const references[] = {"m", "m/model.safetensors", "link"};
    for (size_t i = 0; i < 3; i++) {
        const char *ref = at(t, references[i]);
        assert_int_equal(stat(ref, &st), 0);
        bool file = S_ISREG(st.st_mode);
        const struct artifact_seen same = {true, st.st_dev, st.st_ino, file ? 5 : 0};
        struct artifact_seen device = same, inode = same, bytes = same, none = inode;
        device.device++, inode.inode++, bytes.bytes++, none.inode++;
        none.valid = false;
        assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ref, .seen = same}), 0);
        assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ref, .seen = none}), 0);
        assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ref, .seen = device}), HEARTH_E_CHANGED);
        assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ref, .seen = inode}), HEARTH_E_CHANGED);
        assert_string_equal(t->err.file, ref);
        assert_non_null(strstr(t->err.hint, "mount"));
        /* A directory's size is nobody's business. */
        assert_int_equal(resolve_request(t, (struct artifact_request){.ref = ref, .seen = bytes}),
                         file ? HEARTH_E_CHANGED : 0);
    }
    const struct artifact_request gone = {.ref = at(t, "gone"), .seen = {true, 1, 2, 3}};
    assert_int_equal(resolve_request(t, gone), HEARTH_E_NOT_FOUND);
    assert_non_null(strstr(t->err.hint, "the client sees it"));
}

static void a_reference_through_a_magic_link_is_refused(void **state) {
    struct tree *t = *state;
    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = "/proc/self/root/etc/passwd"}),
                     HEARTH_E_INVALID);
}

static void links_that_stay_inside_are_followed(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/real/w", "123");
    tree_link(t, "m/w", "real/w");
    tree_link(t, "m/real/up", "../w");
    tree_link(t, "m/dir", "real");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), "dir/up dir/w real/up real/w w");
    assert_int_equal(t->artifact->files[1].identity.inode, t->artifact->files[4].identity.inode);
}

static void links_that_lead_out_are_refused_by_name_and_target(void **state) {
    struct tree *t = *state;
    tree_file(t, "secret", "s");
    tree_file(t, "m/ok", "1");
    static const char *const targets[] = {"../../secret", "/etc/passwd", "../../m/../secret", "/proc/self/root/etc"};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        tree_link(t, "m/s/l", targets[i]);
        assert_failed(t, resolve(t, "m"), HEARTH_E_UNSAFE, "m/s/l");
        assert_non_null(strstr(t->err.found, targets[i]));
        assert_int_equal(unlink(at(t, "m/s/l")), 0);
    }
    tree_link(t, "m/out", "..");
    assert_failed(t, resolve(t, "m"), HEARTH_E_UNSAFE, "m/out");
    assert_int_equal(resolve_with(t, "m", NULL, "out"), 0);
    assert_string_equal(files_of(t), "ok");
}

static void a_directory_swapped_for_a_link_is_not_walked(void **state) {
    struct tree *t = *state;
    tree_file(t, "secret/s", "s");
    tree_file(t, "m/d/w", "1");
    tree_file(t, "m/e/w", "1");
    tree_link(t, "m/l", "d");
    static const char *const targets[] = {"../secret", "/", "l", "d", "e", "d/w"};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        assert_int_equal(resolve_and_swap(t, "m", "m/d", targets[i]), HEARTH_E_CHANGED);
        assert_true(*t->err.file && *t->err.hint); /* m/d, or m/l that leads there: whichever is listed first */
    }
    for (size_t i = 0; i < 3; i++)
        assert_failed(t, resolve_and_swap(t, "m", "m/l", targets[i]), HEARTH_E_CHANGED, "m/l");
    assert_int_equal(resolve(t, "m"), 0);
    assert_string_equal(files_of(t), "d/w e/w l/w");
}

static void links_that_lead_nowhere_are_refused(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_link(t, "m/dangling", "gone");
    assert_failed(t, resolve(t, "m"), HEARTH_E_NOT_FOUND, "m/dangling");
    assert_non_null(strstr(t->err.found, "gone"));
    assert_int_equal(unlink(at(t, "m/dangling")), 0);
    tree_link(t, "m/x", "y");
    tree_link(t, "m/y", "x");
    assert_int_equal(resolve(t, "m"), HEARTH_E_INVALID);
    assert_int_equal(unlink(at(t, "m/x")), 0);
    assert_int_equal(unlink(at(t, "m/y")), 0);
    tree_link(t, "m/sub/loop", "../sub");
    assert_failed(t, resolve(t, "m"), HEARTH_E_INVALID, "m/sub/loop");
    assert_int_equal(unlink(at(t, "m/sub/loop")), 0);
    tree_link(t, "m/sub/loop", "..");
    assert_failed(t, resolve(t, "m"), HEARTH_E_INVALID, "m/sub/loop");
}

#define HF "hub/models--o--n/"
#define COMMIT "snapshots/0123456789abcdef0123456789abcdef01234567"

static void a_hugging_face_snapshot_leads_to_its_own_blobs(void **state) {
    struct tree *t = *state;
    tree_file(t, HF "blobs/b1", "weights");
    tree_file(t, HF "blobs/b2", "{}");
    tree_file(t, HF "blobs/b3.incomplete", "half");
    tree_file(t, HF "refs/main", COMMIT);
    tree_link(t, HF COMMIT "/model.safetensors", "../../blobs/b1");
    tree_link(t, HF COMMIT "/sub/config.json", "../../../blobs/b2");
    tree_link(t, HF COMMIT "/alias.safetensors", "model.safetensors");
    assert_int_equal(resolve(t, HF COMMIT), 0);
    assert_string_equal(files_of(t), "alias.safetensors model.safetensors sub/config.json");
    assert_int_equal(t->artifact->files[1].identity.bytes, 7);
    int fd;
    char content[8] = "";
    assert_int_equal(artifact_open(t->artifact, 1, 0, &fd, &t->err), 0);
    assert_int_equal(read(fd, content, sizeof(content)), 7);
    assert_string_equal(content, "weights");
    close(fd);

    /* Through a link, below a snapshot, and one file of it. */
    tree_link(t, "elsewhere/latest", at(t, HF COMMIT));
    assert_int_equal(resolve(t, "elsewhere/latest"), 0);
    assert_int_equal(t->artifact->n_files, 3);
    assert_int_equal(resolve(t, HF COMMIT "/sub"), 0);
    assert_string_equal(files_of(t), "config.json");
    assert_int_equal(resolve(t, HF COMMIT "/model.safetensors"), 0);
    assert_string_equal(files_of(t), "model.safetensors");
    assert_int_equal(artifact_open(t->artifact, 0, 0, &fd, &t->err), 0);
    close(fd);
}

static void a_hugging_face_snapshot_leads_nowhere_else(void **state) {
    struct tree *t = *state;
    tree_file(t, HF "blobs/deep/b", "x");
    tree_file(t, HF "blobs2/b", "x");
    tree_file(t, HF "refs/main", "x");
    tree_file(t, HF COMMIT "f/other", "x");
    tree_file(t, "hub/other/blobs/b", "x");
    tree_file(t, HF COMMIT "/ok", "x");
    static const char *const targets[] = {
        "../../refs/main",
        "../../blobs/deep/b",
        "../../blobs2/b",
        "../0123456789abcdef0123456789abcdef01234567f/other",
        "../../../other/blobs/b",
        "../../blobs/deep/../../refs/main",
        "../../blobs",
        "../..",
    };
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        tree_link(t, HF COMMIT "/l", targets[i]);
        assert_failed(t, resolve(t, HF COMMIT), HEARTH_E_UNSAFE, HF COMMIT "/l");
        assert_int_equal(unlink(at(t, HF COMMIT "/l")), 0);
    }
    /* Blobs that are themselves links out. */
    tree_file(t, "secret", "x");
    tree_link(t, HF "blobs/evil", "../../../secret");
    tree_link(t, HF COMMIT "/l", "../../blobs/evil");
    assert_failed(t, resolve(t, HF COMMIT), HEARTH_E_UNSAFE, HF COMMIT "/l");
}

/* The repository holds other snapshots, which a link put there meanwhile must not bring in. */
static void a_link_swapped_after_it_was_listed_leads_nowhere_else(void **state) {
    struct tree *t = *state;
    tree_file(t, HF "snapshots/c2/secret", "s");
    tree_file(t, HF "snapshots/c2/sub/secret", "s");
    tree_file(t, HF COMMIT "/sub/w", "1");
    tree_link(t, HF COMMIT "/dir", "sub");
    assert_failed(t, resolve_and_swap(t, HF COMMIT, HF COMMIT "/dir", "../c2"), HEARTH_E_CHANGED, HF COMMIT "/dir");
    assert_failed(t, resolve_and_swap(t, HF COMMIT, HF COMMIT "/dir", "../../snapshots"), HEARTH_E_CHANGED,
                  HF COMMIT "/dir");

    /* The same file by another name: its identity does not tell. */
    tree_file(t, HF "blobs/b", "x");
    assert_int_equal(link(at(t, HF "blobs/b"), at(t, HF "snapshots/c2/b")), 0);
    tree_link(t, HF COMMIT "/a", "../../blobs/b");
    assert_int_equal(resolve(t, HF COMMIT), 0);
    assert_string_equal(files_of(t), "a dir/w sub/w");
    int fd;
    assert_int_equal(artifact_open(t->artifact, 0, 0, &fd, &t->err), 0);
    close(fd);
    assert_int_equal(unlink(at(t, HF COMMIT "/a")), 0);
    tree_link(t, HF COMMIT "/a", "../c2/b");
    assert_failed(t, artifact_open(t->artifact, 0, 0, &fd, &t->err), HEARTH_E_CHANGED, HF COMMIT "/a");
}

static void a_hugging_face_repository_may_move_meanwhile(void **state) {
    struct tree *t = *state;
    tree_file(t, HF "blobs/b", "x");
    tree_file(t, HF COMMIT "/w", "x");
    tree_link(t, HF COMMIT "/a", "../../blobs/b");
    assert_int_equal(resolve(t, HF COMMIT), 0);
    assert_int_equal(rename(at(t, "hub"), at(t, "moved")), 0);
    for (size_t i = 0; i < 2; i++) {
        int fd;
        assert_int_equal(artifact_open(t->artifact, i, 0, &fd, &t->err), 0);
        close(fd);
    }
}

static void without_a_repository_blobs_are_outside(void **state) {
    struct tree *t = *state;
    tree_file(t, "plain/blobs/b", "x");
    tree_link(t, "plain/s/c/l", "../../blobs/b");
    assert_int_equal(resolve(t, "plain/s/c"), HEARTH_E_UNSAFE);
    tree_link(t, "linked/snapshots/c/l", "../../blobs/b");
    tree_link(t, "linked/blobs", "../plain/blobs");
    assert_int_equal(resolve(t, "linked/snapshots/c"), HEARTH_E_UNSAFE);
}

static void what_is_no_file_is_refused_unopened(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    assert_int_equal(mkfifo(at(t, "m/p"), 0600), 0);
    assert_failed(t, resolve(t, "m"), HEARTH_E_UNSAFE, "m/p");
    assert_string_equal(t->err.found, "a fifo");
    assert_failed(t, resolve(t, "m/p"), HEARTH_E_UNSAFE, "m/p");
    tree_link(t, "m/l", "p");
    assert_int_equal(resolve_with(t, "m", NULL, "p"), HEARTH_E_UNSAFE);
    assert_string_equal(t->err.file, at(t, "m/l"));
    assert_int_equal(unlink(at(t, "m/l")), 0);
    assert_int_equal(unlink(at(t, "m/p")), 0);

    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/m/s", t->root);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof(address)), 0);
    close(s);
    assert_failed(t, resolve(t, "m"), HEARTH_E_UNSAFE, "m/s");
    assert_int_equal(unlink(at(t, "m/s")), 0);

    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = "/dev/null"}), HEARTH_E_UNSAFE);
    if (mknod(at(t, "m/n"), S_IFCHR | 0600, makedev(1, 3)) < 0) {
        print_message("no device node can be made here (%s): that part is skipped\n", strerror(errno));
        return;
    }
    assert_failed(t, resolve(t, "m"), HEARTH_E_UNSAFE, "m/n");
    assert_string_equal(t->err.found, "a device");
}

static void odd_names_are_kept_as_they_are(void **state) {
    struct tree *t = *state;
    char longest[256], path[300];
    memset(longest, 'n', 255);
    longest[255] = '\0';
    snprintf(path, sizeof(path), "m/%s", longest);
    tree_file(t, "m/new\nline", "1");
    tree_file(t, "m/\xff\xfe", "1");
    tree_file(t, "m/ ", "1");
    tree_file(t, "m/-", "1");
    tree_file(t, path, "1");
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(t->artifact->n_files, 5);
    assert_string_equal(t->artifact->files[2].path, "new\nline");
    assert_string_equal(t->artifact->files[3].path, longest);
    assert_string_equal(t->artifact->files[4].path, "\xff\xfe");
    assert_int_equal(resolve(t, path), 0);
    assert_string_equal(files_of(t), longest);
}

static void directories_nested_too_deep_are_refused(void **state) {
    struct tree *t = *state;
    char path[512] = "m";
    for (unsigned i = 0; i < ARTIFACT_DEPTH_MAX; i++)
        strcat(path, "/d");
    char file[600];
    snprintf(file, sizeof(file), "%s/f", path);
    tree_file(t, file, "1");
    assert_int_equal(resolve(t, "m"), 0);
    strcat(path, "/d");
    assert_int_equal(mkdir(at(t, path), 0755), 0);
    assert_failed(t, resolve(t, "m"), HEARTH_E_INVALID, path);
}

/* One directory under a hundred names. */
static void too_many_files_are_refused(void **state) {
    struct tree *t = *state;
    char name[32];
    enum { NAMES = 100, FILES = ARTIFACT_FILES_MAX / NAMES - 1 };
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "m/d/%u", i);
        tree_file(t, name, "");
    }
    for (unsigned i = 1; i < NAMES; i++) {
        snprintf(name, sizeof(name), "m/l%u", i);
        assert_int_equal(symlink("d", at(t, name)), 0);
    }
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(t->artifact->n_files, FILES * NAMES);
    tree_file(t, "m/one-more", "");
    assert_failed(t, resolve(t, "m"), HEARTH_E_INVALID, "m");
}

#define LONG_PATH 3800u

/* A directory far down, whose path inside "m" has about LONG_PATH bytes, and files in it. */
static void make_long_paths(const struct tree *t, unsigned files) {
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    assert_true(mkdir(at(t, "m"), 0755) == 0 || errno == EEXIST);
    int dir = open(at(t, "m"), O_PATH | O_DIRECTORY);
    for (unsigned length = 0; length < LONG_PATH - 255; length += 256) {
        assert_true(mkdirat(dir, name, 0755) == 0 || errno == EEXIST);
        int below = openat(dir, name, O_PATH | O_DIRECTORY);
        assert_true(below >= 0);
        close(dir);
        dir = below;
    }
    assert_true(mknodat(dir, "0", S_IFREG | 0644, 0) == 0 || errno == EEXIST);
    for (unsigned i = 1; i < files; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_true(linkat(dir, "0", dir, name, 0) == 0 || errno == EEXIST);
    }
    close(dir);
}

static void paths_too_long_in_all_are_refused(void **state) {
    struct tree *t = *state;
    make_long_paths(t, 8000);
    if (resolve(t, "m") != 0)
        fail_msg("%s", t->err.message);
    assert_int_equal(t->artifact->n_files, 8000);
    make_long_paths(t, ARTIFACT_PATHS_MAX / LONG_PATH + 1000);
    assert_failed(t, resolve(t, "m"), HEARTH_E_INVALID, "m");
    assert_non_null(strstr(t->err.message, "paths"));
    assert_non_null(strstr(t->err.expected, "33554432 bytes"));
    assert_true(*t->err.found && *t->err.hint);
}

__attribute__((unused)) static long resident_bytes(void) {
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &pages, &resident), 2);
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* What is allocated behind a list would keep all of its memory, once freed, from going back by itself. */
static void a_large_list_is_given_back_to_the_system(void **state) {
#ifdef HEARTH_SANITIZED
    (void)state;
    print_message("skipped: sanitizers have an allocator of their own\n");
    skip();
#else
    struct tree *t = *state;
    enum { FILES = 6000, BEHIND = 20000 };
    static void *behind[BEHIND];
    make_long_paths(t, FILES);
    long before = resident_bytes();
    assert_int_equal(resolve(t, "m"), 0);
    long large = resident_bytes() - before;
    uintptr_t last = 0;
    for (size_t i = 0; i < FILES; i++)
        if ((uintptr_t)t->artifact->files[i].path > last)
            last = (uintptr_t)t->artifact->files[i].path;
    size_t n = 0;
    do
        assert_non_null(behind[n] = malloc(1000));
    while ((uintptr_t)behind[n++] < last && n < BEHIND);
    assert_true(n < BEHIND);
    for (size_t i = 0; i + 1 < n; i++)
        free(behind[i]);
    t->artifact = artifact_free(t->artifact);
    long left = resident_bytes() - before;
    free(behind[n - 1]);
    assert_true(large > (long)FILES * (long)LONG_PATH / 2);
    if (left > large / 4)
        fail_msg("%ld of %ld bytes are left", left, large);
#endif
}

static void a_request_called_off_ends_at_the_next_entry(void **state) {
    struct tree *t = *state;
    for (unsigned i = 0; i < 20; i++) {
        char path[32];
        snprintf(path, sizeof(path), "m/%u/f", i);
        tree_file(t, path, "1");
    }
    struct artifact_request r = {.ref = at(t, "m"), .cancel = &cancel};
    cancel = false;
    assert_int_equal(resolve_request(t, r), 0);
    /* In the directory itself, then in one below it. */
    for (cancel_at = 5; cancel_at <= 30; cancel_at += 25) {
        listed = 0;
        cancel = false;
        assert_int_equal(resolve_request(t, r), HEARTH_E_CANCELLED);
        assert_null(t->artifact);
        assert_in_range(listed, cancel_at, cancel_at + 1);
    }
    cancel_at = 0;
}

static void the_key_changes_with_all_that_matters(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "1");
    tree_file(t, "m/b", "1");
    const char *pattern = "b", *all = "*";
    struct artifact_digest digest = {.path = "a", .sha256 = {7}};
    const struct artifact_request requests[] = {
        {.ref = at(t, "m")},
        {.ref = at(t, "m"), .policy = 1},
        {.ref = at(t, "m"), .exclude = &pattern, .n_exclude = 1},
        {.ref = at(t, "m"), .include = &pattern, .n_include = 1},
        {.ref = at(t, "m"), .include = &all, .n_include = 1},
        {.ref = at(t, "m"), .digests = &digest, .n_digests = 1},
        {.ref = at(t, "m/a")},
    };
    enum { N = sizeof(requests) / sizeof(requests[0]), MORE = 4 };
    uint8_t keys[N + MORE][32];
    size_t n = 0;
    for (; n < N; n++) {
        assert_int_equal(resolve_request(t, requests[n]), 0);
        memcpy(keys[n], t->artifact->key, 32);
        assert_int_equal(resolve_request(t, requests[n]), 0);
        assert_memory_equal(keys[n], t->artifact->key, 32);
    }
    for (; n < N + MORE; n++) {
        if (n == N) /* the same bytes, touched */
            assert_int_equal(utimes(at(t, "m/a"), (struct timeval[2]){{1, 0}, {1, 0}}), 0);
        else if (n == N + 1)
            tree_file(t, "m/a", "12");
        else if (n == N + 2)
            assert_int_equal(rename(at(t, "m/b"), at(t, "m/c")), 0);
        else
            tree_file(t, "m/SHA256SUMS", "");
        assert_int_equal(resolve(t, "m"), 0);
        memcpy(keys[n], t->artifact->key, 32);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(keys[i], keys[j], 32);
}

static unsigned descriptors(void) {
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void no_descriptor_is_left(void **state) {
    struct tree *t = *state;
    unsigned before = descriptors();
    tree_file(t, "m/a/b", "1");
    tree_file(t, "m/SHA256SUMS", "");
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(resolve(t, "m/a/b"), 0);
    t->artifact = artifact_free(t->artifact);
    tree_link(t, "m/a/l", "/");
    assert_int_equal(resolve(t, "m"), HEARTH_E_UNSAFE);
    tree_file(t, "m/SHA256SUMS", "bad");
    assert_int_equal(resolve_with(t, "m", NULL, "l"), HEARTH_E_MALFORMED);
    assert_int_equal(resolve(t, "m/SHA256SUMS"), 0);
    t->artifact = artifact_free(t->artifact);
    assert_int_equal(descriptors(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        tree_test(a_directory_becomes_its_sorted_files),
        tree_test(a_reference_may_be_one_file),
        tree_test(a_reference_may_be_a_link_to_anywhere),
        tree_test(one_artifact_has_one_reference),
        tree_test(what_is_missing_or_empty_is_named),
        tree_test(what_who_asks_sees_is_compared),
        tree_test(a_reference_through_a_magic_link_is_refused),
        tree_test(links_that_stay_inside_are_followed),
        tree_test(links_that_lead_out_are_refused_by_name_and_target),
        tree_test(a_directory_swapped_for_a_link_is_not_walked),
        tree_test(links_that_lead_nowhere_are_refused),
        tree_test(a_hugging_face_snapshot_leads_to_its_own_blobs),
        tree_test(a_hugging_face_snapshot_leads_nowhere_else),
        tree_test(a_link_swapped_after_it_was_listed_leads_nowhere_else),
        tree_test(a_hugging_face_repository_may_move_meanwhile),
        tree_test(without_a_repository_blobs_are_outside),
        tree_test(what_is_no_file_is_refused_unopened),
        tree_test(odd_names_are_kept_as_they_are),
        tree_test(directories_nested_too_deep_are_refused),
        tree_test(too_many_files_are_refused),
        tree_test(paths_too_long_in_all_are_refused),
        tree_test(a_large_list_is_given_back_to_the_system),
        tree_test(a_request_called_off_ends_at_the_next_entry),
        tree_test(the_key_changes_with_all_that_matters),
        tree_test(no_descriptor_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
