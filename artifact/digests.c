/* From digest files to what the artifact's files are expected to be. */
#include "artifact/digests.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "artifact/identity.h"
#include "util/array.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

static const char sums_name[] = "SHA256SUMS", sidecar_suffix[] = ".sha256";

/* The length of NAME in a path that ends in NAME.sha256, else 0. */
static size_t sidecar_stem(const char *path) {
    size_t length = strlen(path), suffix = strlen(sidecar_suffix);
    bool is =
        length > suffix && strcmp(path + length - suffix, sidecar_suffix) == 0 && path[length - suffix - 1] != '/';
    return is ? length - suffix : 0;
}

bool is_digest_file(const char *path) {
    return strcmp(path, sums_name) == 0 || sidecar_stem(path) > 0;
}

int digest_files_note(struct digest_files *f, const char *path) {
    char **grown = grow_array(f->paths, f->count, &f->room, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    f->paths = grown;
    f->paths[f->count] = strdup(path);
    return f->paths[f->count] ? (f->count++, 0) : -ENOMEM;
}

void digest_files_deinit(struct digest_files *f) {
    for (size_t i = 0; i < f->count; i++)
        free(f->paths[i]);
    free(steal_ptr(&f->paths));
    f->count = f->room = 0;
}

/* A digest file while it is used. */
struct digest_source {
    char path[PATH_MAX]; /* for messages */
    struct digest_list list;
    uint64_t bytes;
    bool missing;
};

static void source_deinit(struct digest_source *s) {
    digest_list_deinit(&s->list);
}

static int fail_errno(const struct digest_source *s, int sys_errno, struct hearth_error *err) {
    int r = sys_errno == EXDEV ? error_set(err, HEARTH_E_UNSAFE, "a link to a digest file leads out of the artifact")
                               : error_errno(err, sys_errno, "a digest file cannot be read");
    error_at(err, s->path, HEARTH_NO_OFFSET);
    return r;
}

static int refuse_source(const struct digest_source *s, const char *message, struct hearth_error *err) {
    error_set(err, HEARTH_E_MALFORMED, "%s", message);
    error_at(err, s->path, HEARTH_NO_OFFSET);
    error_expected(err, "a regular file of at most %u MiB", (unsigned)(DIGEST_FILE_MAX >> 20));
    return HEARTH_E_MALFORMED;
}

/* Reads and parses it. With `missing_is_fine` a file that is not there has no lines. */
static int source_read(struct digest_source *s, const struct place *place, const char *name, bool missing_is_fine,
                       struct hearth_error *err) {
    s->list = (struct digest_list){0};
    s->missing = false;
    s->bytes = 0;
    snprintf(s->path, sizeof(s->path), "%s/%s", place->real, name);
    struct stat st;
    int r = place_stat(place, name, &st);
    if (r == -ENOENT && missing_is_fine) {
        s->missing = true;
        return 0;
    }
    if (r < 0)
        return fail_errno(s, -r, err);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > DIGEST_FILE_MAX)
        return refuse_source(s, S_ISREG(st.st_mode) ? "a digest file is too large" : "a digest file is no file", err);

    _cleanup_close_ int fd = place_open(place, name, O_RDONLY);
    if (fd < 0)
        return fail_errno(s, -fd, err);
    size_t room = (size_t)st.st_size, length = 0;
    s->bytes = room;
    _cleanup_free_ char *text = malloc(room + 1);
    if (!text)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a list of digests");
    while (length < room) {
        ssize_t n = read(fd, text + length, room - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(s, errno, err);
        if (n == 0)
            break;
        length += (size_t)n;
    }
    /* A part of a list would leave files unverified without a word. */
    struct file_identity before = identity_of_stat(&st), after;
    r = file_identity_of(fd, &after);
    if (r < 0)
        return fail_errno(s, -r, err);
    if (length != room || !file_identity_equal(&before, &after)) {
        error_set(err, HEARTH_E_CHANGED, "a digest file changed while it was read");
        error_at(err, s->path, HEARTH_NO_OFFSET);
        error_hint(err, "load it again once nothing writes to it");
        return HEARTH_E_CHANGED;
    }
    return digest_parse(text, length, s->path, &s->list, err);
}

static int compare_path(const void *key, const void *file) {
    return strcmp(key, ((const struct artifact_file *)file)->path);
}

static struct artifact_file *file_by_path(struct artifact *a, const char *path) {
    return bsearch(path, a->files, a->n_files, sizeof(*a->files), compare_path);
}

static int expect(struct artifact_file *file, const struct digest_source *s, const struct digest_line *line,
                  struct hearth_error *err) {
    if (file->expected && memcmp(file->sha256, line->sha256, sizeof(line->sha256)) != 0) {
        char first[65], second[65], shown[256];
        error_set(err, HEARTH_E_MALFORMED, "two different digests are given for %s",
                  format_printable(file->path, strlen(file->path), shown, sizeof(shown)));
        error_at(err, s->path, line->offset);
        error_expected(err, "%s, as was read before", format_hex(file->sha256, sizeof(file->sha256), first));
        error_found(err, "%s", format_hex(line->sha256, sizeof(line->sha256), second));
        error_hint(err, "correct the wrong one, or say which holds with --sha256 and leave this file out with "
                        "--exclude");
        return HEARTH_E_MALFORMED;
    }
    file->expected = true;
    memcpy(file->sha256, line->sha256, sizeof(file->sha256));
    return 0;
}

static int compare_skipped(const void *key, const void *skipped) {
    return strcmp(key, ((const struct artifact_skipped *)skipped)->path);
}

static bool was_skipped(const struct artifact *a, const char *path) {
    return a->n_skipped && bsearch(path, a->skipped, a->n_skipped, sizeof(*a->skipped), compare_skipped);
}

/* Was it, or a directory above it, left out; or would it have been, were it there? What lies deeper than an artifact
 * may go is in it only if it lies in what was left out: no directory below that is looked at. */
static bool left_out(const struct artifact *a, struct selection *selection, const char *path) {
    char above[PATH_MAX];
    bool included = false;
    size_t length = strlen(path);
    if (length >= sizeof(above))
        return false;
    memcpy(above, path, length + 1);
    char *slash = strchr(above, '/');
    for (unsigned depth = 0; slash && depth <= ARTIFACT_DEPTH_MAX; depth++) {
        *slash = '\0';
        if (was_skipped(a, above) || select_directory(selection, above, &included))
            return true;
        *slash = '/';
        slash = strchr(slash + 1, '/');
    }
    return was_skipped(a, path) || select_file(selection, path, included);
}

static int apply_sums(struct artifact *a, struct selection *selection, const struct digest_source *s,
                      struct hearth_error *err) {
    for (size_t i = 0; i < s->list.count; i++) {
        const struct digest_line *line = &s->list.lines[i];
        struct artifact_file *file = file_by_path(a, line->path);
        /* `sha256sum * >SHA256SUMS` lists the file that it is about to write. */
        if (strcmp(line->path, sums_name) == 0)
            continue;
        bool passed_over = !file && *line->path && left_out(a, selection, line->path);
        int e = select_check(selection, err);
        if (e)
            return e;
        if (passed_over)
            continue;
        if (file) {
            e = expect(file, s, line, err);
        } else if (!*line->path) {
            e = error_set(err, HEARTH_E_MALFORMED, "a line of %s names no file", sums_name);
            error_at(err, s->path, line->offset);
        } else {
            char shown[sizeof(err->found)];
            e = error_set(err, HEARTH_E_NOT_FOUND, "a file that %s lists is not in the artifact", sums_name);
            error_at(err, s->path, line->offset);
            error_expected(err, "%s", format_printable(line->path, strlen(line->path), shown, sizeof(shown)));
            error_found(err, "no such file");
            error_hint(err, "complete the artifact, or say that the file is not wanted with --exclude");
        }
        if (e)
            return e;
    }
    return 0;
}

/* `name` is what the file is called beside its NAME.sha256. */
static int apply_sidecar(struct artifact_file *file, const char *name, const struct digest_source *s,
                         struct hearth_error *err) {
    if (s->list.count != 1) {
        error_set(err, HEARTH_E_MALFORMED, "a digest file beside one file must hold one digest");
        error_at(err, s->path, s->list.count > 1 ? s->list.lines[1].offset : 0);
        error_expected(err, "1 line");
        error_found(err, "%zu", s->list.count);
        return HEARTH_E_MALFORMED;
    }
    /* Whoever made it may have stood in a directory above: the last part of its path is what must agree. */
    const struct digest_line *line = s->list.lines;
    const char *slash = strrchr(line->path, '/'), *listed = slash ? slash + 1 : line->path;
    if (*listed && strcmp(listed, name) != 0) {
        char shown[2][sizeof(err->found)];
        error_set(err, HEARTH_E_MALFORMED, "a digest file speaks of another file than it is named for");
        error_at(err, s->path, line->offset);
        error_expected(err, "%s", format_printable(name, strlen(name), shown[0], sizeof(shown[0])));
        error_found(err, "%s", format_printable(listed, strlen(listed), shown[1], sizeof(shown[1])));
        return HEARTH_E_MALFORMED;
    }
    return expect(file, s, line, err);
}

static int refuse_bytes(const struct digest_source *s, uint64_t bytes, struct hearth_error *err) {
    error_set(err, HEARTH_E_INVALID, "the digest files are too large, taken together");
    error_at(err, s->path, HEARTH_NO_OFFSET);
    error_expected(err, "at most %u MiB in all", (unsigned)(DIGEST_FILES_MAX >> 20));
    error_found(err, "%" PRIu64 " bytes up to this one", bytes);
    return HEARTH_E_INVALID;
}

int digests_of_directory(struct artifact *a, struct selection *selection, const struct digest_files *found,
                         struct hearth_error *err) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < found->count; i++) {
        char name[PATH_MAX];
        size_t stem = sidecar_stem(found->paths[i]);
        if (stem >= sizeof(name))
            continue;
        memcpy(name, found->paths[i], stem);
        name[stem] = '\0';
        struct artifact_file *file = stem ? file_by_path(a, name) : NULL;
        if (stem && !file) /* beside nothing that was taken: a file like any other */
            continue;
        _cleanup_(source_deinit) struct digest_source s;
        int e = source_read(&s, &a->place, found->paths[i], false, err);
        a->listed_bytes += s.bytes;
        bytes += s.bytes;
        if (e == 0 && bytes > DIGEST_FILES_MAX)
            e = refuse_bytes(&s, bytes, err);
        e = e ? e : select_check(selection, err);
        if (e == 0) {
            const char *slash = strrchr(name, '/');
            e = stem ? apply_sidecar(file, slash ? slash + 1 : name, &s, err) : apply_sums(a, selection, &s, err);
        }
        if (e)
            return e;
        struct artifact_file *itself = file_by_path(a, found->paths[i]);
        if (itself)
            itself->digests = true;
    }
    return 0;
}

/* Neither the list nor a link to it is root's or the owner's. What is not there is nobody's. */
static bool is_strangers(const struct place *place, const char *list, uid_t owner) {
    struct stat st;
    if (fstatat(place->directory, list, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (st.st_uid != 0 && st.st_uid != owner)
        return true;
    return S_ISLNK(st.st_mode) && place_stat(place, list, &st) == 0 && st.st_uid != 0 && st.st_uid != owner;
}

static int apply_beside(struct artifact *a, const struct digest_place *p, const char *list, struct hearth_error *err) {
    _cleanup_(source_deinit) struct digest_source s;
    int e = source_read(&s, p->place, list, true, err);
    a->listed_bytes += s.bytes;
    if (e || s.missing)
        return e;
    if (list != sums_name)
        return apply_sidecar(&a->files[0], p->name, &s, err);
    for (size_t i = 0; e == 0 && i < s.list.count; i++)
        if (strcmp(s.list.lines[i].path, p->name) == 0)
            e = expect(&a->files[0], &s, &s.list.lines[i], err);
    return e;
}

static int apply_strangers(struct artifact *a, const struct digest_place *p, const char *list,
                           struct hearth_error *err) {
    if (a->files[0].expected)
        return 0;
    int e = apply_beside(a, p, list, err);
    if (e == 0 || e == HEARTH_E_NO_MEMORY || e == HEARTH_E_NO_FDS)
        return e;
    a->files[0].expected = false;
    error_clear(err);
    return 0;
}

int digests_beside_file(struct artifact *a, const struct digest_place *places, size_t n, uid_t owner,
                        struct hearth_error *err) {
    for (unsigned strangers = 0; strangers < 2; strangers++)
        for (size_t i = 0; i < n; i++) {
            const struct digest_place *p = &places[i];
            char sidecar[NAME_MAX + 1];
            const char *lists[2] = {sums_name, sidecar};
            size_t length = (size_t)snprintf(sidecar, sizeof(sidecar), "%s%s", p->name, sidecar_suffix);
            size_t end = length < sizeof(sidecar) ? 2 : 1; /* no file can be called that */
            for (size_t k = strcmp(p->name, sums_name) == 0; k < end; k++) {
                if (is_strangers(p->place, lists[k], owner) != (strangers == 1))
                    continue;
                int e = strangers ? apply_strangers(a, p, lists[k], err) : apply_beside(a, p, lists[k], err);
                if (e)
                    return e;
            }
        }
    return 0;
}

int digests_of_request(struct artifact *a, const struct artifact_request *r, struct hearth_error *err) {
    for (size_t i = 0; i < r->n_digests; i++) {
        const struct artifact_digest *d = &r->digests[i];
        struct artifact_file *file = a->is_file && !*d->path ? a->files : file_by_path(a, d->path);
        if (!file) {
            char shown[256];
            error_set(err, HEARTH_E_INVALID, "a digest is given for %s, which is not among the artifact's files",
                      format_printable(d->path, strlen(d->path), shown, sizeof(shown)));
            error_at(err, a->ref, HEARTH_NO_OFFSET);
            error_hint(err, "give the path inside the artifact, and include the file if selection leaves it out");
            return HEARTH_E_INVALID;
        }
        for (size_t j = 0; j < i; j++)
            if (strcmp(r->digests[j].path, d->path) == 0 &&
                memcmp(r->digests[j].sha256, d->sha256, sizeof(d->sha256)) != 0)
                return error_set(err, HEARTH_E_INVALID, "the request gives two different digests for one file");
        file->expected = file->demanded = true;
        memcpy(file->sha256, d->sha256, sizeof(file->sha256));
    }
    return 0;
}
