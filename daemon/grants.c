/* daemon/grants.c: what a source's keys say. See sources.h. Users and groups become numbers here, once: who is asked
 * for them, NSS, may be a directory server far away, and the event loop must never wait for it. */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sources.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/path.h"

#define ENTRY_BYTES_MAX (1u << 20) /* a group may have thousands of members */

int source_key(const char *key) {
    for (int r = RIGHT_ATTACH; r < RIGHTS; r++)
        if (strcmp(key, right_name((enum right)r)) == 0)
            return r;
    return strcmp(key, "path") == 0 ? 0 : -1;
}

/* 0, or an errno: ENOENT when there is none. */
static int look_up(const char *name, bool group, unsigned *id) {
    for (size_t size = 1024; size <= ENTRY_BYTES_MAX; size *= 4) {
        _cleanup_free_ char *buffer = malloc(size);
        struct passwd user, *is_user = NULL;
        struct group members, *is_group = NULL;
        if (!buffer)
            return ENOMEM;
        int r = group ? getgrnam_r(name, &members, buffer, size, &is_group)
                      : getpwnam_r(name, &user, buffer, size, &is_user);
        if (is_user || is_group) {
            *id = group ? members.gr_gid : user.pw_uid;
            return 0;
        }
        if (r != ERANGE)
            return r == 0 || r == ESRCH ? ENOENT : r;
    }
    return ERANGE;
}

static bool parse_number(const char *word, unsigned *id) {
    char *end;
    if (word[0] < '0' || word[0] > '9')
        return false;
    errno = 0;
    unsigned long n = strtoul(word, &end, 10);
    if (errno || *end || n >= UINT_MAX) /* the last one means "none" to the kernel */
        return false;
    *id = (unsigned)n;
    return true;
}

static int parse_grant(const char *key, const char *word, struct grant *out, struct hearth_error *err) {
    const char *name = word + (word[0] == '@');
    out->kind = word[0] == '@' ? GRANT_GROUP : GRANT_USER;
    if (strcmp(word, "*") == 0) {
        out->kind = GRANT_EVERYBODY;
        return 0;
    }
    if (parse_number(name, &out->id))
        return 0;
    int e = !*name || strpbrk(name, " \t@*") ? EINVAL : look_up(name, out->kind == GRANT_GROUP, &out->id);
    if (e == 0)
        return 0;
    const char *what = out->kind == GRANT_GROUP ? "group" : "user";
    if (e == EINVAL)
        error_set(err, HEARTH_E_INVALID, "%s: '%.64s' names nobody", key, word);
    else if (e == ENOENT)
        error_set(err, HEARTH_E_INVALID, "%s: there is no %s '%.64s' here", key, what, name);
    else
        error_errno(err, e, "%s: the %s '%.64s' cannot be looked up", key, what, name);
    error_expected(err, "users, @groups, their numbers, or *, with commas between them");
    error_found(err, "%s", word);
    return (int)err->code;
}

static char *trim(char *word) {
    word += strspn(word, " \t");
    for (size_t n = strlen(word); n > 0 && strchr(" \t", word[n - 1]); n--)
        word[n - 1] = '\0';
    return word;
}

static int set_grants(struct source *s, enum right right, const char *value, struct hearth_error *err) {
    _cleanup_free_ char *copy = strdup(value);
    char *next = copy;
    if (!copy)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a grant");
    for (char *word; (word = strsep(&next, ","));) {
        struct grant g = {.right = right};
        int r = parse_grant(right_name(right), trim(word), &g, err);
        if (r)
            return r;
        struct grant *grown = reallocarray(s->grants, s->n_grants + 1, sizeof(*grown));
        if (!grown)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a grant");
        s->grants = grown;
        s->grants[s->n_grants++] = g;
    }
    return 0;
}

static int set_path(struct sources *all, struct source *s, const char *value, struct hearth_error *err) {
    char path[PATH_MAX] = "";
    if (strlen(value) < sizeof(path))
        strcpy(path, value);
    path_tidy(path);
    if (path[0] != '/' || strcmp(path, "/") == 0 || path_leads_back(path)) {
        error_set(err, HEARTH_E_INVALID, "path: '%.128s' cannot be a source", value);
        error_expected(err, "the absolute path of a directory, not /, and no .. in it");
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    for (size_t i = 0; i < all->n; i++)
        if (all->list[i].path && strcmp(all->list[i].path, path) == 0) {
            error_set(err, HEARTH_E_INVALID, "path: %.128s is the path of source %s already", path, all->list[i].name);
            error_expected(err, "each directory in one source");
            error_found(err, "%s", value);
            return HEARTH_E_INVALID;
        }
    s->path = strdup(path);
    return s->path ? 0 : error_set(err, HEARTH_E_NO_MEMORY, "no memory for a source");
}

int source_set(struct sources *all, struct source *s, const char *key, const char *value, struct hearth_error *err) {
    struct hearth_error unheard = HEARTH_ERROR_INIT;
    int k = source_key(key);
    err = err ? err : &unheard;
    if (k == 0)
        return set_path(all, s, value, err);
    if (k > 0)
        return set_grants(s, (enum right)k, value, err);
    error_set(err, HEARTH_E_NOT_FOUND, "a source has no key '%.64s'", key);
    error_expected(err, "one of path, attach, load, pin, evict, administer; the daemon's own keys stand above all "
                        "sections");
    error_found(err, "%s", key);
    return HEARTH_E_NOT_FOUND;
}
