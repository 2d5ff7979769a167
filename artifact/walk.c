/* The walk takes one directory at a time in two passes, since what is left out may depend on what lies beside it: all
 * names first, then the choice. Only what is chosen is looked at, so a broken file that is left out harms nobody.
 *
 * Directories are opened relative to their parent and never through a link; a link is resolved by its path from the
 * top, where artifact/place.h guards it. What a link leads to is walked under the link's own name, so a directory that
 * is reached in two ways is there twice, as it is for any program that opens it by path.
 */
#include "artifact/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "artifact/identity.h"
#include "artifact/role.h"
#include "util/array.h"
#include "util/cleanup.h"
#include "util/error.h"

struct walk {
    struct selection *selection;
    struct artifact *artifact;
    struct digest_files *found;
    size_t files_room, skipped_room;
    size_t met; /* entries so far */
};

/* One directory on the way down. */
struct level {
    const struct level *up;
    const char *path; /* inside the artifact, "" at the top */
    dev_t device;
    ino_t inode;
    unsigned depth;
    bool included;
};

struct entry {
    char *path; /* inside the artifact */
    bool link, directory;
    int failed; /* a link that cannot be followed: -errno */
    bool included;
    const char *reason; /* why it is left out, or NULL */
    struct stat st;     /* of a link's target */
};

struct entries {
    struct entry *list;
    size_t count, room;
};

static void entries_deinit(struct entries *e) {
    for (size_t i = 0; i < e->count; i++)
        free(e->list[i].path);
    free(e->list);
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int no_memory(struct hearth_error *err) {
    return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the artifact's list of files");
}

static void error_at_entry(const struct artifact *a, const char *path, struct hearth_error *err) {
    char whole[PATH_MAX];
    error_at(err, artifact_join(a, path, whole, sizeof(whole)), HEARTH_NO_OFFSET);
}

static int fail_errno(const struct artifact *a, const char *path, int sys_errno, const char *what,
                      struct hearth_error *err) {
    int r = error_errno(err, sys_errno, "%s", what);
    error_at_entry(a, path, err);
    return r;
}

int walk_add_file(struct artifact *a, size_t *room, char **path, const struct stat *st, struct hearth_error *err) {
    if (!S_ISREG(st->st_mode)) {
        const char *kind = S_ISFIFO(st->st_mode)   ? "fifo"
                           : S_ISSOCK(st->st_mode) ? "socket"
                           : S_ISLNK(st->st_mode)  ? "link that was put there meanwhile"
                           : S_ISDIR(st->st_mode)  ? "directory that was put there meanwhile"
                                                   : "device";
        error_set(err, HEARTH_E_UNSAFE, "only regular files can be loaded");
        error_at_entry(a, *path, err);
        error_expected(err, "a regular file");
        error_found(err, "a %s", kind);
        error_hint(err, "remove it, or leave it out with --exclude");
        return HEARTH_E_UNSAFE;
    }
    struct artifact_file *grown = grow_array(a->files, a->n_files, room, sizeof(*grown));
    if (!grown)
        return no_memory(err);
    a->files = grown;
    if (__builtin_add_overflow(a->bytes, (uint64_t)st->st_size, &a->bytes))
        return error_set(err, HEARTH_E_TOO_LARGE, "the files' sizes add up to more than 2^64 bytes");
    struct artifact_file *file = &a->files[a->n_files++];
    *file = (struct artifact_file){.identity = identity_of_stat(st), .role = role_of(*path)};
    file->path = steal_ptr(path);
    return 0;
}

static int add_skipped(struct walk *w, struct entry *e, struct hearth_error *err) {
    struct artifact *a = w->artifact;
    struct artifact_skipped *grown = grow_array(a->skipped, a->n_skipped, &w->skipped_room, sizeof(*grown));
    if (!grown)
        return no_memory(err);
    a->skipped = grown;
    a->skipped[a->n_skipped++] = (struct artifact_skipped){.path = steal_ptr(&e->path), .reason = e->reason};
    return 0;
}

static int refuse_link(struct walk *w, const struct entry *e, struct hearth_error *err) {
    const struct place *p = &w->artifact->place;
    char target[PATH_MAX];
    ssize_t n = readlinkat(p->directory, e->path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    int r;
    switch (-e->failed) {
    case EXDEV:
        r = error_set(err, HEARTH_E_UNSAFE, "a link leads out of the artifact");
        error_expected(err, p->repository < 0 ? "a relative path that stays inside the artifact"
                                              : "a path inside the snapshot, or a file in its repository's blobs");
        error_hint(err, "put the file itself there, or leave it out with --exclude");
        break;
    case ENOENT:
    case ENOTDIR:
        r = error_set(err, HEARTH_E_NOT_FOUND, "a link leads to nothing");
        error_hint(err, "complete the download, or leave it out with --exclude");
        break;
    case ELOOP:
        r = error_set(err, HEARTH_E_INVALID, "a link leads in a circle");
        break;
    default:
        r = error_errno(err, -e->failed, "a link cannot be followed");
    }
    error_at_entry(w->artifact, e->path, err);
    error_found(err, "a link to %s", target);
    return r;
}

/* What kind of thing it is, and what selection says by its name alone. */
static int meet(struct walk *w, int dir_fd, const struct level *here, const struct dirent *d, struct entry *e,
                struct hearth_error *err) {
    const struct artifact *a = w->artifact;
    unsigned char type = d->d_type;
    if (type == DT_UNKNOWN) { /* some file systems do not tell */
        if (fstatat(dir_fd, d->d_name, &e->st, AT_SYMLINK_NOFOLLOW) < 0)
            return fail_errno(a, e->path, errno, "cannot look at a file", err);
        type = IFTODT(e->st.st_mode);
    }
    e->link = type == DT_LNK;
    e->directory = type == DT_DIR;
    if (e->link && !select_excluded(w->selection, e->path, false)) {
        e->failed = place_stat(&a->place, e->path, &e->st);
        e->directory = e->failed == 0 && S_ISDIR(e->st.st_mode);
    }
    e->included = here->included;
    e->reason = e->directory ? select_directory(w->selection, e->path, &e->included)
                             : select_file(w->selection, e->path, here->included);
    if (!e->directory && is_digest_file(e->path) && !select_excluded(w->selection, e->path, false) &&
        digest_files_note(w->found, e->path) < 0)
        return no_memory(err);
    return select_check(w->selection, err);
}

/* One entry more, of this many bytes of path. Long paths are what would make a list of few files large. */
static int count_entry(struct walk *w, size_t path_bytes, struct hearth_error *err) {
    struct artifact *a = w->artifact;
    if (++w->met > ARTIFACT_FILES_MAX)
        error_set(err, HEARTH_E_INVALID, "more than %u files and directories", ARTIFACT_FILES_MAX);
    else if ((a->listed_bytes += path_bytes) > ARTIFACT_PATHS_MAX)
        error_set(err, HEARTH_E_INVALID, "the paths of the files and directories are too long, taken together");
    else
        return 0;
    error_at_entry(a, "", err);
    error_expected(err, "at most %u of them, with paths of %u bytes", ARTIFACT_FILES_MAX, ARTIFACT_PATHS_MAX);
    error_found(err, "%zu with paths of %" PRIu64 " bytes, and perhaps more", w->met, a->listed_bytes);
    error_hint(err, "name the artifact's own directory rather than one above it");
    return HEARTH_E_INVALID;
}

static int read_entries(struct walk *w, DIR *dir, const struct level *here, struct entries *out,
                        struct hearth_error *err) {
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d && errno)
            return fail_errno(w->artifact, here->path, errno, "cannot list a directory", err);
        if (!d)
            return 0;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int r = count_entry(w, strlen(here->path) + strlen(d->d_name) + 2, err);
        if (r)
            return r;
        struct entry *grown = grow_array(out->list, out->count, &out->room, sizeof(*grown));
        if (!grown)
            return no_memory(err);
        out->list = grown;
        struct entry *e = &out->list[out->count];
        *e = (struct entry){0};
        if (asprintf(&e->path, "%s%s%s", here->path, *here->path ? "/" : "", d->d_name) < 0)
            return no_memory(err);
        out->count++;
        r = meet(w, dirfd(dir), here, d, e, err);
        if (r)
            return r;
    }
}

static int walk_level(struct walk *w, int fd, struct level *here, struct hearth_error *err);

static int descend(struct walk *w, int dir_fd, const struct level *here, const struct entry *e,
                   struct hearth_error *err) {
    struct level below = {.up = here, .path = e->path, .depth = here->depth + 1, .included = e->included};
    if (below.depth > ARTIFACT_DEPTH_MAX) {
        error_set(err, HEARTH_E_INVALID, "directories are nested more than %u deep", ARTIFACT_DEPTH_MAX);
        error_at_entry(w->artifact, e->path, err);
        return HEARTH_E_INVALID;
    }
    int fd;
    if (e->link) {
        fd = place_open(&w->artifact->place, e->path, O_RDONLY | O_DIRECTORY);
    } else {
        fd = openat(dir_fd, name_of(e->path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd = fd < 0 ? -errno : fd;
    }
    if (fd == -EXDEV || fd == -ELOOP || fd == -ENOTDIR) { /* it was none of these when it was listed */
        error_set(err, HEARTH_E_CHANGED, "a directory was replaced while the artifact was listed");
        error_at_entry(w->artifact, e->path, err);
        error_hint(err, "load it again once nothing writes to it");
        return HEARTH_E_CHANGED;
    }
    if (fd < 0)
        return fail_errno(w->artifact, e->path, -fd, "cannot open a directory", err);
    return walk_level(w, fd, &below, err);
}

static int take(struct walk *w, int dir_fd, struct entry *e, struct hearth_error *err) {
    struct artifact *a = w->artifact;
    if (e->failed)
        return refuse_link(w, e, err);
    if (strlen(e->path) + strlen(a->place.real) + 2 > PATH_MAX) {
        error_set(err, HEARTH_E_INVALID, "a path is longer than the system allows");
        error_at_entry(a, e->path, err);
        return HEARTH_E_INVALID;
    }
    if (!e->link && fstatat(dir_fd, name_of(e->path), &e->st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(a, e->path, errno, "cannot look at a file", err);
    return walk_add_file(a, &w->files_room, &e->path, &e->st, err);
}

/* Takes fd over. */
static int walk_level(struct walk *w, int fd, struct level *here, struct hearth_error *err) {
    struct stat st;
    _cleanup_closedir_ DIR *dir = fdopendir(fd);
    if (!dir) {
        int saved = errno;
        close(fd);
        return fail_errno(w->artifact, here->path, saved, "cannot list a directory", err);
    }
    if (fstat(fd, &st) < 0)
        return fail_errno(w->artifact, here->path, errno, "cannot look at a directory", err);
    here->device = st.st_dev;
    here->inode = st.st_ino;
    for (const struct level *l = here->up; l; l = l->up)
        if (l->device == here->device && l->inode == here->inode) {
            error_set(err, HEARTH_E_INVALID, "a link leads to a directory that it lies in");
            error_at_entry(w->artifact, here->path, err);
            error_hint(err, "remove the link, or leave it out with --exclude");
            return HEARTH_E_INVALID;
        }

    _cleanup_(entries_deinit) struct entries entries = {0};
    int r = read_entries(w, dir, here, &entries, err);
    if (r)
        return r;
    struct select_formats formats = {0};
    for (size_t i = 0; i < entries.count; i++)
        if (!entries.list[i].reason && !entries.list[i].directory)
            select_note(&formats, name_of(entries.list[i].path));
    for (size_t i = 0; i < entries.count; i++) {
        struct entry *e = &entries.list[i];
        r = select_check(w->selection, err);
        if (r)
            return r;
        if (!e->reason)
            e->reason = select_duplicate(w->selection->request, &formats, name_of(e->path), e->directory);
        if (e->reason)
            r = add_skipped(w, e, err);
        else
            r = e->directory ? descend(w, fd, here, e, err) : take(w, fd, e, err);
        if (r)
            return r;
    }
    return 0;
}

int walk_artifact(struct selection *selection, struct artifact *a, struct digest_files *found,
                  struct hearth_error *err) {
    struct walk w = {.selection = selection, .artifact = a, .found = found};
    struct level top = {.path = ""};
    int fd = openat(a->place.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(a, "", errno, "cannot open the artifact's directory", err);
    return walk_level(&w, fd, &top, err);
}
