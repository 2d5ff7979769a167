/* daemon/access.c: see access.h. */
#include "daemon/access.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/internal.h"
#include "util/error.h"
#include "util/log.h"
#include "util/path.h"
#include "util/text.h"

/* ---- who ---- */

static bool may_do_all(uid_t uid) {
    return uid == 0 || uid == geteuid();
}

/* As of when it connected, like the rest of its credentials. */
static const struct who *who_of(int fd, struct ipc_cred cred) {
    static gid_t groups[1 + NGROUPS_MAX];
    static struct who who;
    socklen_t bytes = NGROUPS_MAX * sizeof(gid_t);
    groups[0] = cred.gid;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &groups[1], &bytes) < 0)
        bytes = 0;
    who = (struct who){.uid = cred.uid, .groups = groups, .n_groups = 1 + bytes / sizeof(gid_t)};
    return &who;
}

const struct who *access_who(const struct ipc_peer *p) {
    struct ipc_cred cred = ipc_peer_cred(p);
    return may_do_all(cred.uid) ? NULL : who_of(ipc_peer_fd(p), cred);
}

uid_t access_owner(const struct ipc_peer *p) {
    uid_t uid = ipc_peer_cred(p).uid;
    return may_do_all(uid) ? 0 : uid;
}

const char *access_refuses(void *daemon, int fd, struct ipc_cred cred) {
    const struct sources *sources = ((struct daemon *)daemon)->options.sources;
    if (may_do_all(cred.uid))
        return NULL;
    if (!sources)
        return cred.uid == IPC_STRANGER
                   ? "this daemon serves its own user only, and to it this is nobody: who connects "
                     "from another user namespace may have no id in its own"
                   : "this daemon serves its own user only";
    return sources_right(sources, who_of(fd, cred)) == RIGHT_NONE ? "no source of this daemon grants this user anything"
                                                                  : NULL;
}

/* ---- what ---- */

/* What was loaded before the source got the path that it has now may have led anywhere. */
static const struct source *source_of(const struct daemon *d, const struct generation *g) {
    const struct source *s = sources_of_path(d->options.sources, g->spec->ref);
    return s && g->spec->root && strcmp(g->spec->root, s->path) == 0 ? s : NULL;
}

enum right access_right(const struct daemon *d, const struct who *who, const struct generation *g) {
    const struct source *s = who ? source_of(d, g) : NULL;
    return !who ? RIGHT_ADMINISTER : s ? source_right(s, who) : RIGHT_NONE;
}

/* ---- refusals ---- */

static int refuse(const struct ipc_peer *p, struct hearth_error *err) {
    static struct log_limit limit;
    struct ipc_cred cred = ipc_peer_cred(p);
    char uid[16], pid[16];
    snprintf(uid, sizeof(uid), "%u", (unsigned)cred.uid);
    snprintf(pid, sizeof(pid), "%d", (int)cred.pid);
    const struct log_field fields[] = {{"UID", uid},
                                       {"PID", pid},
                                       {"CLIENT", ipc_peer_name(p)},
                                       {"FILE", err->file[0] ? err->file : NULL},
                                       {NULL, NULL}};
    if (log_may(&limit))
        log_fields(LOG_NOTICE, fields, "refused: %s", err->message);
    return (int)err->code;
}

static int lacks_right(const struct daemon *d, const struct ipc_peer *p, const struct source *s, enum right right,
                       struct hearth_error *err) {
    unsigned uid = ipc_peer_cred(p).uid;
    error_set(err, HEARTH_E_DENIED, "uid %u may not %s what is in source %s", uid, right_name(right), s->name);
    error_expected(err, "a grant of %s or a higher right", right_name(right));
    error_hint(err, "in %s, below [source %s], let '%s =' name %u, or a group of that user; then reload hearthd",
               d->command->config, s->name, right_name(right), uid);
    return refuse(p, err);
}

static int is_outside(const struct daemon *d, const struct ipc_peer *p, const char *path, struct hearth_error *err) {
    const char *slash = strrchr(path, '/');
    unsigned uid = ipc_peer_cred(p).uid;
    error_set(err, HEARTH_E_DENIED, "%.256s is in no source of this daemon", path);
    error_at(err, path, HEARTH_NO_OFFSET);
    error_expected(err, "a path in a source that lets uid %u load", uid);
    if (path_leads_back(path))
        error_hint(err, "write the path without '..'");
    else
        error_hint(err, "add to %s: [source NAME], and below it: path = %.*s, and: load = %u; then reload hearthd",
                   d->command->config, slash == path ? 1 : (int)(slash - path), path, uid);
    return refuse(p, err);
}

int access_check(struct daemon *d, struct ipc_peer *p, const struct generation *g, enum right right,
                 struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    enum right has = access_right(d, access_who(p), g);
    if (has >= right)
        return 0;
    if (has != RIGHT_NONE)
        return lacks_right(d, p, source_of(d, g), right, err);
    error_set(err, HEARTH_E_NOT_FOUND, "artifact %s is in no source that uid %u may attach from", format_id(g->id, id),
              (unsigned)ipc_peer_cred(p).uid);
    return refuse(p, err);
}

/* ---- references ---- */

static int names_nothing(const struct daemon *d, const char *reference, struct hearth_error *err) {
    error_set(err, HEARTH_E_NOT_FOUND, "'%.256s' is no path that exists, and no artifact's id", reference);
    error_at(err, reference, HEARTH_NO_OFFSET);
    error_expected(err, "a path that exists, %san id of 12 hex digits",
                   d->options.sources ? "SOURCE/PATH, or " : "or ");
    return HEARTH_E_NOT_FOUND;
}

int access_path(const struct daemon *d, const char *reference, char out[PATH_MAX], struct hearth_error *err) {
    const char *rest;
    const struct source *s = NULL;
    if (reference[0] != '/' && !(s = sources_of_name(d->options.sources, reference, &rest)))
        return names_nothing(d, reference, err);
    if ((size_t)snprintf(out, PATH_MAX, "%s%s%s", s ? s->path : "", s ? "/" : "", s ? rest : reference) >= PATH_MAX) {
        error_set(err, HEARTH_E_INVALID, "the reference is longer than a path may be");
        error_expected(err, "at most %d bytes, the path of the source included", PATH_MAX - 1);
        return HEARTH_E_INVALID;
    }
    path_tidy(out);
    if (s && path_leads_back(out)) {
        error_set(err, HEARTH_E_INVALID, "'%.256s' has '..' in it", reference);
        error_expected(err, "SOURCE/PATH without '..'");
        return HEARTH_E_INVALID;
    }
    return 0;
}

int access_own_reference(const struct daemon *d, const char *reference, char out[PATH_MAX], const char **root,
                         struct hearth_error *err) {
    int r = access_path(d, reference, out, err);
    if (r)
        return r;
    const struct source *s = sources_of_path(d->options.sources, out); /* not always the one that was named */
    *root = s ? s->path : NULL;
    return 0;
}

int access_reference(struct daemon *d, struct ipc_peer *p, const char *reference, enum right right, char out[PATH_MAX],
                     const char **root, struct hearth_error *err) {
    const struct who *who = access_who(p);
    int r = access_own_reference(d, reference, out, root, err);
    if (r)
        return r;
    const struct source *s = sources_of_path(d->options.sources, out);
    if (!who || (s && source_right(s, who) >= right))
        return 0;
    return s ? lacks_right(d, p, s, right, err) : is_outside(d, p, out, err);
}
