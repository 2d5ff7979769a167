/* cli/doctor_daemon.c: the socket, and the daemon behind it. None is started for this. */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/socket_path.h"
#include "util/text.h"

#define ANSWER_MS 2000

static const char *named_socket(const struct doctor *d) {
    const char *environment = getenv("HEARTH_SOCKET");
    if (d->socket)
        return d->socket;
    return environment && environment[0] ? environment : NULL;
}

/* The directory of the socket, which is not there. hearthd makes the last part of a default one, nothing else. */
static void judge_missing(struct doctor *d, const char *path, const char *directory, bool made) {
    char above[PATH_MAX];
    snprintf(above, sizeof(above), "%s", directory);
    if (made && access(dirname(above), W_OK | X_OK) == 0) {
        finding_add(d, "socket", LEVEL_OK, "%s, whose directory hearthd will make", path);
        return;
    }
    struct finding *f = finding_add(d, "socket", LEVEL_PROBLEM,
                                    "%s: there is no directory %s, and hearthd may not make it", path, directory);
    finding_cost(f, "a daemon of this user cannot listen there");
    if (made && getenv("XDG_RUNTIME_DIR"))
        finding_mend(f, "loginctl enable-linger, or unset XDG_RUNTIME_DIR");
    else
        finding_mend(f, "mkdir -m 700 -p %s", directory);
}

static void judge_directory(struct doctor *d, const char *path, const char *directory, const struct stat *st) {
    struct stat s;
    if (st->st_mode & S_IWOTH && !(st->st_mode & S_ISVTX)) {
        struct finding *f =
            finding_add(d, "socket", LEVEL_PROBLEM, "%s: its directory can be written by everybody", path);
        finding_cost(f, "another user may put a daemon of theirs in the place of yours");
        finding_mend(f, "chmod go-w %s", directory);
        return;
    }
    if (lstat(path, &s) == 0 && S_ISSOCK(s.st_mode))
        finding_add(d, "socket", LEVEL_OK, "%s, mode %04o, of uid %u", path, (unsigned)(s.st_mode & 07777),
                    (unsigned)s.st_uid);
    else if (access(directory, W_OK | X_OK) == 0)
        finding_add(d, "socket", LEVEL_OK, "%s, where nothing listens yet", path);
    else
        finding_add(d, "socket", LEVEL_NOTE, "%s, where this user may not listen", path);
}

void check_socket(struct doctor *d) {
    char path[PATH_MAX], directory[PATH_MAX];
    struct hearth_error err = HEARTH_ERROR_INIT;
    const char *named = named_socket(d);
    struct stat st;
    if (named)
        snprintf(path, sizeof(path), "%s", named);
    else if (hearth_default_socket(false, path, sizeof(path), &err) != 0) {
        finding_add(d, "socket", LEVEL_PROBLEM, "%s", err.message);
        return;
    }
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    snprintf(directory, sizeof(directory), "%s", dirname(copy));
    int r = socket_path_check(path, &err);
    if (r != 0 && r != HEARTH_E_NOT_FOUND) {
        struct finding *f = finding_add(d, "socket", LEVEL_PROBLEM, "%s: %s; found %s", path, err.message,
                                        err.found[0] ? err.found : "nothing");
        finding_mend(f, "rm -r %s, or export XDG_RUNTIME_DIR=DIRECTORY of your own", directory);
    } else if (stat(directory, &st) < 0 && errno == ENOENT) {
        judge_missing(d, path, directory, !named);
    } else if (errno = 0, stat(directory, &st) < 0) {
        finding_add(d, "socket", LEVEL_PROBLEM, "%s: %s", path, strerror(errno));
    } else {
        judge_directory(d, path, directory, &st);
    }
}

/* In the daemon's words: the directory, or what is wrong with it. */
static void judge_state(struct doctor *d, const char *state) {
    struct finding *f;
    if (state[0] == '/') {
        finding_add(d, CHECK_STATE, LEVEL_OK, "%s", state);
        return;
    }
    f = finding_add(d, CHECK_STATE, strstr(state, "state-dir is none") ? LEVEL_NOTE : LEVEL_WARNING, "%s",
                    state[0] ? state : "the daemon does not say");
    finding_cost(f, "pins, records and history do not survive a restart");
    finding_mend(f, "state-dir = DIRECTORY in hearthd.conf, one that the daemon's user may write");
}

static void describe_daemon(struct doctor *d, struct hearth *h, const struct hearth_status *s) {
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof(peer);
    char up[16];
    d->reserve = s->reserve_bytes;
    d->reached = true;
    (void)getsockopt(hearth_fd(h), SOL_SOCKET, SO_PEERCRED, &peer, &size);
    bool same = strcmp(s->version, hearth_version()) == 0;
    struct finding *f =
        finding_add(d, "daemon", same ? LEVEL_OK : LEVEL_WARNING,
                    "hearthd %s answers on %s: pid %u, uid %u, up %s; %s; %s", s->version, hearth_socket_path(h),
                    s->pid, (unsigned)peer.uid, format_duration(s->uptime_ns, up, sizeof(up)), s->reader, s->backing);
    if (!same) {
        finding_cost(f, "this hearth is %s: what is new in either may be missing", hearth_version());
        finding_mend(f, "hearth stop, then start the daemon of the version that is installed");
    }
    if (strstr(s->swap, "can be swapped out")) {
        f = finding_add(d, "daemon's swap", LEVEL_WARNING, "%s", s->swap);
        finding_cost(f, "a warm start may wait for the disk");
        finding_mend(f, "MemorySwapMax=0 in the daemon's unit, or ulimit -l unlimited where it is started");
    }
    judge_state(d, s->state);
}

void check_daemon(struct doctor *d, uint64_t deadline) {
    struct hearth *h = NULL;
    struct hearth_status s;
    struct hearth_error err = HEARTH_ERROR_INIT;
    uint64_t soon = hearth_deadline_in(ANSWER_MS);
    deadline = deadline < soon ? deadline : soon;
    int r = hearth_connect(named_socket(d), deadline, &h, &err);
    if (r == 0)
        r = hearth_get_status(h, deadline, &s, &err);
    if (r == 0) {
        describe_daemon(d, h, &s);
    } else if (r == HEARTH_E_NO_DAEMON) {
        struct finding *f = finding_add(d, "daemon", LEVEL_NOTE, "none answers; the first `hearth load` starts yours");
        finding_mend(f, "hearthd --detach");
    } else if (r == HEARTH_E_DENIED) {
        struct finding *f = finding_add(d, "daemon", LEVEL_WARNING, "%s", err.message);
        finding_mend(f, "%s", err.hint[0] ? err.hint : "hearthd --detach");
    } else {
        struct finding *f = finding_add(d, "daemon", LEVEL_PROBLEM, "%s", err.message);
        finding_mend(f, "%s", err.hint[0] ? err.hint : "hearth stop, or end it by its pid");
    }
    hearth_close(h);
}
