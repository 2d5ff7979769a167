/* From a reference to an artifact. The reference itself may lead through any links; what it leads to is then held by a
 * descriptor, and all else is relative to that. Only magic links (/proc/PID/fd, root, cwd) are not followed: they would
 * mean the daemon's own files, not those of whoever asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "artifact/border.h"
#include "artifact/digests.h"
#include "artifact/identity.h"
#include "artifact/key.h"
#include "artifact/select.h"
#include "artifact/walk.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/path.h"

#define LARGE_BYTES (UINT64_C(1) << 20)

DEFINE_CLEANUP(struct artifact *, cleanup_artifact, artifact_free)

static int fail_errno(const char *ref, int sys_errno, const char *what, struct hearth_error *err) {
    int r = error_errno(err, sys_errno, "%s", what);
    error_at(err, ref, HEARTH_NO_OFFSET);
    return r;
}

static int leads_out(const char *ref, const struct border *border, struct hearth_error *err) {
    error_set(err, HEARTH_E_UNSAFE, "the reference leads out of its source");
    error_at(err, ref, HEARTH_NO_OFFSET);
    error_expected(err, "a path that stays in %.200s, whatever its links say", border->path);
    error_hint(err, "load what it leads to by its own path, from a source that holds it");
    return HEARTH_E_UNSAFE;
}

static int no_memory(struct hearth_error *err) {
    return error_set(err, HEARTH_E_NO_MEMORY, "no memory for an artifact");
}

/* The C library keeps what is freed, all of it where anything that lives on was allocated behind it. */
static void give_back(uint64_t listed_bytes) {
    if (listed_bytes > LARGE_BYTES)
        malloc_trim(0);
}

static int check_request(const struct artifact_request *r, struct hearth_error *err) {
    if (!r->ref || *r->ref != '/' || strlen(r->ref) >= PATH_MAX)
        return error_set(err, HEARTH_E_INVALID, "a reference on storage is an absolute path of at most %d bytes",
                         PATH_MAX - 1);
    for (size_t i = 0; i < r->n_include + r->n_exclude; i++) {
        const char *pattern = i < r->n_include ? r->include[i] : r->exclude[i - r->n_include];
        if (!*pattern || strlen(pattern) >= ARTIFACT_PATTERN_MAX)
            return error_set(err, HEARTH_E_INVALID, "a pattern that includes or excludes has 1 to %u bytes",
                             ARTIFACT_PATTERN_MAX - 1);
    }
    return 0;
}

static int compare_files(const void *x, const void *y) {
    return strcmp(((const struct artifact_file *)x)->path, ((const struct artifact_file *)y)->path);
}

static int compare_skipped(const void *x, const void *y) {
    return strcmp(((const struct artifact_skipped *)x)->path, ((const struct artifact_skipped *)y)->path);
}

/* Takes fd over. */
static int resolve_directory(const struct artifact_request *r, const struct border *border, struct artifact *a, int fd,
                             struct hearth_error *err) {
    int e = place_init(&a->place, fd);
    if (e == 0)
        e = border_check_place(border, &a->place);
    if (e == -EXDEV)
        return leads_out(a->ref, border, err);
    if (e < 0)
        return fail_errno(a->ref, -e, "the artifact's directory cannot be reached", err);
    _cleanup_(digest_files_deinit) struct digest_files found = {0};
    struct selection selection = {.request = r, .steps_left = ARTIFACT_MATCHING_MAX};
    e = walk_artifact(&selection, a, &found, err);
    if (e)
        return e;
    if (a->n_skipped > 0)
        qsort(a->skipped, a->n_skipped, sizeof(*a->skipped), compare_skipped);
    if (a->n_files == 0) {
        error_set(err, HEARTH_E_INVALID, "there are no files in the artifact");
        error_at(err, a->ref, HEARTH_NO_OFFSET);
        if (a->n_skipped > 0) {
            error_found(err, "%zu left out, the first as: %s", a->n_skipped, a->skipped[0].reason);
            error_hint(err, "say which to take with --include");
        }
        return HEARTH_E_INVALID;
    }
    qsort(a->files, a->n_files, sizeof(*a->files), compare_files);
    return digests_of_directory(a, &selection, &found, err);
}

/* The directory above a path, which is cut there; *name is the last part. */
static int open_above(const struct border *border, char *path, const char **name, struct place *out) {
    char *slash = strrchr(path, '/');
    if (!slash)
        return -ENOENT;
    *name = slash + 1;
    *slash = '\0';
    int fd = open(slash == path ? "/" : path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : place_init(out, fd);
    return r < 0 ? r : border_check_place(border, out);
}

/* The reference may be a link to anywhere: the artifact is in the place where the file really lies, and is called as
 * the reference calls it. */
static int resolve_file(const struct border *border, struct artifact *a, int fd, const struct stat *st,
                        struct hearth_error *err) {
    _cleanup_free_ char *real = descriptor_path(fd), *ref = strdup(a->ref);
    _cleanup_(place_deinit) struct place beside = PLACE_NULL;
    const char *real_name, *name;
    if (!real || !ref)
        return fail_errno(a->ref, errno, "the file's path cannot be found out", err);
    int e = open_above(border, real, &real_name, &a->place);
    if (e == 0)
        e = open_above(border, ref, &name, &beside);
    if (e == -EXDEV)
        return leads_out(a->ref, border, err);
    if (e < 0)
        return fail_errno(a->ref, -e, "the file's directory cannot be opened", err);
    a->is_file = true;
    a->opened_as = strdup(real_name);
    _cleanup_free_ char *path = strdup(name);
    if (!a->opened_as || !path)
        return no_memory(err);
    size_t room = 0;
    e = walk_add_file(a, &room, &path, st, err);
    bool renamed = strcmp(name, real_name) != 0 || strcmp(a->place.real, beside.real) != 0;
    const struct digest_place places[] = {{&a->place, real_name}, {&beside, name}};
    return e ? e : digests_beside_file(a, places, renamed ? 2 : 1, st->st_uid, err);
}

static int check_seen(const struct artifact_request *r, const struct stat *st, struct hearth_error *err) {
    const struct artifact_seen *seen = &r->seen;
    struct file_identity here = identity_of_stat(st);
    bool is_file = !S_ISDIR(st->st_mode);
    if (!seen->valid ||
        (seen->device == here.device && seen->inode == here.inode && (!is_file || seen->bytes == here.bytes)))
        return 0;
    error_set(err, HEARTH_E_CHANGED, "at this path hearthd finds another file than its client");
    error_at(err, r->ref, HEARTH_NO_OFFSET);
    error_expected(err, "device %u:%u, inode %" PRIu64 ", %" PRIu64 " bytes", major(seen->device), minor(seen->device),
                   seen->inode, seen->bytes);
    error_found(err, "device %u:%u, inode %" PRIu64 ", %" PRIu64 " bytes", major(here.device), minor(here.device),
                here.inode, is_file ? here.bytes : 0);
    error_hint(err, "in another mount namespace a path may mean another file: mount the same one for both at the same "
                    "place, or name it by a source; if it was replaced just now, load it again");
    return HEARTH_E_CHANGED;
}

int artifact_resolve(const struct artifact_request *r, struct artifact **out, struct hearth_error *err) {
    int e = check_request(r, err);
    if (e)
        return e;
    _cleanup_(cleanup_artifact) struct artifact *a = calloc(1, sizeof(*a));
    if (!a)
        return no_memory(err);
    a->place = (struct place)PLACE_NULL;
    a->ref = strdup(r->ref);
    if (!a->ref)
        return no_memory(err);
    path_tidy(a->ref); /* one artifact has one reference */

    _cleanup_(border_deinit) struct border border = BORDER_NULL;
    e = border_init(&border, r->beneath);
    if (e < 0)
        return fail_errno(r->beneath, -e, "the directory of the source cannot be opened", err);
    _cleanup_close_ int fd = border_open(&border, r->beneath ? a->ref : r->ref);
    struct stat st;
    if (fd == -EXDEV && r->beneath)
        return leads_out(a->ref, &border, err);
    if (fd < 0 || fstat(fd, &st) < 0) {
        e = fail_errno(a->ref, fd < 0 ? -fd : errno, "the artifact cannot be opened", err);
        if (e == HEARTH_E_INVALID)
            error_hint(err,
                       "links in a circle, and those of /proc that stand for a process's own files, are not followed");
        else if (err && err->sys_errno == ENOSYS)
            error_hint(err,
                       "a sandbox takes openat2 away (systemd's RestrictSUIDSGID= does), or the kernel is too old");
        else if (e == HEARTH_E_NOT_FOUND && r->seen.valid)
            error_hint(err,
                       "the client sees it, and hearthd does not: it runs in another mount namespace; mount it for "
                       "both at the same place, or name it by a source");
        return e;
    }
    e = check_seen(r, &st, err);
    if (e)
        return e;
    if (S_ISDIR(st.st_mode))
        e = resolve_directory(r, &border, a, steal_fd(&fd), err);
    else
        e = resolve_file(&border, a, fd, &st, err);
    if (e == 0)
        e = digests_of_request(a, r, err);
    if (e == 0)
        e = artifact_make_key(a, r, err);
    if (e == 0) {
        give_back(a->listed_bytes); /* what was of use on the way alone */
        *out = steal_ptr(&a);
    }
    return e;
}

void artifact_close(struct artifact *a) {
    place_deinit(&a->place);
}

uint64_t artifact_list_bytes(const struct artifact *a) {
    const size_t beside = 16; /* what an allocation takes beside its bytes */
    uint64_t bytes = a->n_files * sizeof(*a->files) + a->n_skipped * sizeof(*a->skipped);
    for (size_t i = 0; i < a->n_files; i++)
        bytes += strlen(a->files[i].path) + beside;
    for (size_t i = 0; i < a->n_skipped; i++)
        bytes += strlen(a->skipped[i].path) + beside;
    return bytes;
}

struct artifact *artifact_free(struct artifact *a) {
    if (!a)
        return NULL;
    for (size_t i = 0; i < a->n_files; i++)
        free(a->files[i].path);
    for (size_t i = 0; i < a->n_skipped; i++)
        free(a->skipped[i].path);
    free(a->files);
    free(a->skipped);
    free(a->opened_as);
    free(a->ref);
    artifact_close(a);
    uint64_t listed_bytes = a->listed_bytes;
    free(a);
    give_back(listed_bytes);
    return NULL;
}
