/* ipc/client/hub.c: hf/ORG/NAME[@REV]: what is in the caller's Hugging Face cache.
 *
 * Whose cache it is, the caller's environment says, not the daemon's; so the caller's side makes the path of a snapshot
 * from it. The cache is laid out as
 *
 *     HUB/models--ORG--NAME/refs/REV            a file that holds the hash of a commit
 *     HUB/models--ORG--NAME/snapshots/COMMIT/   what the commit has, as links to ../../blobs
 *
 * What is read here is the content of refs/REV, and it is taken for nothing but hex digits.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/client/client.h"

#define COMMIT_MAX 64

/* A path is put together in `out`; false when it does not fit. */
#define PUT(out, size, ...) ((size_t)snprintf(out, size, __VA_ARGS__) < (size))

/* As the huggingface_hub library looks for it. */
static bool hub_path(char *out, size_t size) {
    const char *value;
    if ((value = secure_getenv("HF_HUB_CACHE")) && value[0] == '/')
        return PUT(out, size, "%s", value);
    if ((value = secure_getenv("HF_HOME")) && value[0] == '/')
        return PUT(out, size, "%s/hub", value);
    if ((value = secure_getenv("XDG_CACHE_HOME")) && value[0] == '/')
        return PUT(out, size, "%s/huggingface/hub", value);
    value = secure_getenv("HOME");
    return value && value[0] == '/' && PUT(out, size, "%s/.cache/huggingface/hub", value);
}

/* A part of a path that stays one: not empty, not hidden. */
static bool is_part(const char *text, size_t n) {
    return n > 0 && text[0] != '.' && !memchr(text, '/', n);
}

/* "ORG/NAME@REV" to the directory's name and the revision. */
static bool take_apart(const char *name, char folder[NAME_MAX], const char **revision) {
    size_t n = strcspn(name, "@"), org = strcspn(name, "/");
    *revision = name[n] ? name + n + 1 : "main";
    if (org >= n) /* some have no organisation */
        return is_part(name, n) && PUT(folder, NAME_MAX, "models--%.*s", (int)n, name);
    return is_part(name, org) && is_part(name + org + 1, n - org - 1) &&
           PUT(folder, NAME_MAX, "models--%.*s--%.*s", (int)org, name, (int)(n - org - 1), name + org + 1);
}

/* refs/pr/1 is one, too. */
static bool is_revision(const char *text) {
    for (;;) {
        size_t n = strcspn(text, "/");
        if (!is_part(text, n))
            return false;
        if (!text[n])
            return true;
        text += n + 1;
    }
}

/* The commit that a file of refs names; false when there is none. */
static bool read_commit(const char *path, char commit[COMMIT_MAX + 1]) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, commit, COMMIT_MAX);
    if (n <= 0)
        return false;
    commit[n] = '\0';
    commit[strspn(commit, "0123456789abcdef")] = '\0';
    return commit[0] != '\0';
}

int hub_reference(const char *argument, char *out, size_t size, struct hearth_error *err) {
    char hub[PATH_MAX], folder[NAME_MAX], path[2 * PATH_MAX], commit[COMMIT_MAX + 1];
    const char *revision;
    struct stat st;
    if (!take_apart(argument + strlen(HUB_PREFIX), folder, &revision) || !is_revision(revision)) {
        error_set(err, HEARTH_E_INVALID, "'%.256s' names nothing in a Hugging Face cache", argument);
        error_expected(err, HUB_PREFIX "ORG/NAME or " HUB_PREFIX "ORG/NAME@REVISION");
        return HEARTH_E_INVALID;
    }
    if (!hub_path(hub, sizeof(hub)))
        return error_set(err, HEARTH_E_NOT_FOUND, "there is no Hugging Face cache: HF_HOME and HOME are not set");
    bool fits = PUT(path, sizeof(path), "%s/%s/refs/%s", hub, folder, revision);
    if (!fits || !read_commit(path, commit))
        snprintf(commit, sizeof(commit), "%.*s", COMMIT_MAX, revision); /* it may be one itself */
    fits = fits && PUT(path, sizeof(path), "%s/%s/snapshots/%s", hub, folder, commit);
    if (fits && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (PUT(out, size, "%s", path))
            return 0;
        return error_set(err, HEARTH_E_INVALID, "the reference is too long");
    }
    error_set(err, HEARTH_E_NOT_FOUND, "%.256s is not in your Hugging Face cache", argument);
    error_at(err, path, HEARTH_NO_OFFSET);
    error_hint(err, "download it first (hf download ORG/NAME), or set HF_HOME or HF_HUB_CACHE to where it is");
    return HEARTH_E_NOT_FOUND;
}
