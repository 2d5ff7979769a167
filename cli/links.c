/* cli/links.c: see links.h. */
#include "cli/links.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/error.h"

int links_begin(struct links *l, struct hearth_error *err) {
    const char *const places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    int e = ENOENT;
    *l = (struct links){0};
    for (size_t i = 0; i < 3; i++) {
        if (!places[i] || places[i][0] != '/')
            continue;
        int n = snprintf(l->root, sizeof(l->root), "%s/hearth-run-XXXXXX", places[i]);
        if (n > 0 && (size_t)n < sizeof(l->root) && mkdtemp(l->root))
            return 0;
        e = errno;
    }
    l->root[0] = '\0';
    error_errno(err, e, "cannot make a private directory for links");
    error_hint(err, "set TMPDIR to a directory that you may write to");
    return err ? (int)err->code : HEARTH_E_SYSTEM;
}

/* The daemon checks paths, but it may be another user's: nothing that it says may lead out of ROOT. */
static bool stays_inside(const char *path) {
    if (!path[0])
        return false;
    for (const char *part = path;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (!part[length])
            return true;
        part += length + 1;
    }
}

/* Makes the directories that `path`, relative to `directory`, lies in. 0 or -errno. */
static int make_parents(int directory, const char *path) {
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(directory, copy, 0700) != 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int add_link(struct links *l, int directory, const char *top, const char *path, int fd,
                    struct hearth_error *err) {
    char target[64];
    snprintf(target, sizeof(target), "/proc/%d/fd/%d", (int)getpid(), fd);
    int r = stays_inside(path) ? make_parents(directory, path) : -EINVAL;
    if (r == -EINVAL) {
        error_set(err, HEARTH_E_PROTOCOL, "the daemon names a file that would lie outside of its artifact");
    } else if (r == 0 && symlinkat(target, directory, path) == 0) {
        if (!l->any && asprintf(&l->any, "%s/%s", top, path) < 0)
            l->any = NULL;
        return 0;
    } else {
        error_errno(err, r < 0 ? -r : errno, "cannot make a link for a file");
    }
    error_at(err, path, HEARTH_NO_OFFSET);
    return err ? (int)err->code : HEARTH_E_SYSTEM;
}

/* The last part of the reference, when the artifact is a directory of that name: programs show it, and some decide by
 * it. "" for an artifact that is this one file. */
static const char *base_name(const struct hearth_artifact *a) {
    const char *ref = hearth_index_string(a, hearth_index(a)->ref);
    const char *slash = strrchr(ref, '/');
    const char *name = slash ? slash + 1 : ref;
    struct hearth_file only;
    if (hearth_file_count(a) == 1 && hearth_file_at(a, 0, &only, NULL) == 0 && strcmp(only.path, name) == 0)
        return "";
    return stays_inside(name) && strlen(name) <= NAME_MAX ? name : "";
}

static int make_top(struct links *l, const struct hearth_artifact *a, char **top, struct hearth_error *err) {
    const char *name = base_name(a);
    _cleanup_free_ char *path = NULL;
    int n = asprintf(&path, "%s/%zu", l->root, l->n + 1);
    if (n < 0) {
        path = NULL;
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    }
    int r = mkdir(path, 0700);
    if (r == 0 && name[0]) {
        char *longer;
        if (asprintf(&longer, "%s/%s", path, name) < 0)
            return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
        free(path);
        path = longer;
        r = mkdir(path, 0700);
    }
    if (r != 0)
        return error_errno(err, errno, "cannot make a private directory for links");
    *top = steal_ptr(&path);
    return 0;
}

int links_add(struct links *l, struct hearth_artifact *a, uint64_t deadline, struct hearth_error *err) {
    char *top = NULL;
    char **grown = reallocarray(l->directories, l->n + 1, sizeof(*grown));
    if (!grown)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    l->directories = grown;
    int r = make_top(l, a, &top, err);
    if (r != 0)
        return r;
    l->directories[l->n++] = top;
    _cleanup_close_ int directory = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return error_errno(err, errno, "cannot open a private directory for links");
    for (size_t i = 0; i < hearth_file_count(a); i++) {
        struct hearth_file file;
        r = hearth_file_at(a, i, &file, err);
        if (r != 0)
            return r;
        int fd = hearth_leased_fd(a, i, deadline, err);
        if (fd < 0)
            return err ? (int)err->code : HEARTH_E_SYSTEM;
        r = add_link(l, directory, top, file.path, fd, err);
        if (r != 0)
            return r;
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *where) {
    (void)s;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

void links_remove(struct links *l) {
    if (l->root[0])
        nftw(l->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    for (size_t i = 0; i < l->n; i++)
        free(l->directories[i]);
    free(l->directories);
    free(l->any);
    *l = (struct links){0};
}
