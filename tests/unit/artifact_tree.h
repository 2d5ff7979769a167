/* Trees of files for the tests of artifact/: made in a directory of their own, removed with it. A test's state is its
 * struct tree; every path given here is relative to it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "util/error.h"

struct tree {
    char root[64]; /* real, without links */
    struct artifact *artifact;
    struct hearth_error err;
};

static int tree_new(void **state) {
    struct tree *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    snprintf(t->root, sizeof(t->root), "/tmp/hearth-test-XXXXXX");
    assert_non_null(mkdtemp(t->root));
    assert_int_equal(chmod(t->root, 0755), 0);
    *state = t;
    return 0;
}

static int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tree_free(void **state) {
    struct tree *t = *state;
    artifact_free(t->artifact);
    assert_int_equal(nftw(t->root, tree_remove_one, 64, FTW_DEPTH | FTW_PHYS), 0);
    free(t);
    return 0;
}

/* A path below the tree, in one of a few static buffers. */
__attribute__((unused)) static const char *at(const struct tree *t, const char *path) {
    static char buffers[8][PATH_MAX];
    static unsigned next;
    char *b = buffers[next++ % 8];
    snprintf(b, PATH_MAX, "%s%s%s", t->root, *path ? "/" : "", path);
    return b;
}

/* Makes the directories that lie above a path. */
__attribute__((unused)) static void tree_above(const struct tree *t, const char *path) {
    char above[PATH_MAX];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(above, sizeof(above), "%s/%.*s", t->root, (int)(slash - path), path);
        if (mkdir(above, 0755) < 0)
            assert_int_equal(errno, EEXIST);
    }
}

__attribute__((unused)) static void tree_file(const struct tree *t, const char *path, const char *content) {
    tree_above(t, path);
    FILE *f = fopen(at(t, path), "w");
    assert_non_null(f);
    assert_true(fputs(content, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

__attribute__((unused)) static void tree_link(const struct tree *t, const char *path, const char *target) {
    tree_above(t, path);
    assert_int_equal(symlink(target, at(t, path)), 0);
}

/* Resolves; returns the error's code. What came before is freed. */
__attribute__((unused)) static int resolve_request(struct tree *t, struct artifact_request r) {
    t->artifact = artifact_free(t->artifact);
    error_clear(&t->err);
    return artifact_resolve(&r, &t->artifact, &t->err);
}

__attribute__((unused)) static int resolve(struct tree *t, const char *path) {
    return resolve_request(t, (struct artifact_request){.ref = at(t, path)});
}

/* With one include or exclude, either may be NULL. */
__attribute__((unused)) static int resolve_with(struct tree *t, const char *path, const char *include,
                                                const char *exclude) {
    return resolve_request(t, (struct artifact_request){.ref = at(t, path),
                                                        .include = &include,
                                                        .n_include = include != NULL,
                                                        .exclude = &exclude,
                                                        .n_exclude = exclude != NULL});
}

/* "a b/c": the paths of all files, in order. */
__attribute__((unused)) static const char *files_of(const struct tree *t) {
    static char text[8192];
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < t->artifact->n_files; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "", t->artifact->files[i].path);
    return text;
}

__attribute__((unused)) static const char *skipped_of(const struct tree *t) {
    static char text[8192];
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < t->artifact->n_skipped; i++) {
        assert_true(*t->artifact->skipped[i].reason);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "", t->artifact->skipped[i].path);
    }
    return text;
}

#define tree_test(f) cmocka_unit_test_setup_teardown(f, tree_new, tree_free)
