/* cli/connect.c: which daemon a command talks to, and when it may start one.
 *
 * A named socket (--socket, else $HEARTH_SOCKET) is the only one tried; without a name the library tries the system's
 * daemon and the user's. Where none answers, a command that brings artifacts in starts the user's own: on the user's
 * default socket, or on the named one when this user may make a file there and it is not the system's place, where
 * a daemon without the system's configuration would mislead everybody else.
 */
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"

#define CONNECT_MS 5000
#define START_MS 15000
#define SOCKET_MAX 4096

static uint64_t sooner(uint64_t deadline, uint64_t ms) {
    uint64_t other = hearth_deadline_in(ms);
    return deadline < other ? deadline : other;
}

static const char *named_socket(const struct cli *c) {
    const char *environment = getenv("HEARTH_SOCKET");
    if (c->options.socket)
        return c->options.socket;
    return environment && environment[0] ? environment : NULL;
}

static bool autostart_allowed(void) {
    const char *value = getenv("HEARTH_AUTOSTART");
    return !value || strcmp(value, "0") != 0;
}

/* Whether a daemon of this user's may listen on `path`, which is not NULL. */
static bool may_listen(const char *path) {
    char other[SOCKET_MAX];
    if (hearth_default_socket(true, other, sizeof(other), NULL) == 0 && strcmp(path, other) == 0)
        return false;
    if (hearth_default_socket(false, other, sizeof(other), NULL) == 0 && strcmp(path, other) == 0)
        return true; /* hearthd makes its directory */
    _cleanup_free_ char *copy = strdup(path);
    return copy && access(dirname(copy), W_OK | X_OK) == 0;
}

static int start(struct cli *c, const char *named, struct hearth **out, struct hearth_error *err) {
    char socket[SOCKET_MAX];
    int r = named ? absolute_path(named, socket, sizeof(socket), err)
                  : hearth_default_socket(false, socket, sizeof(socket), err);
    if (r != 0)
        return r;
    struct hearth_error failure = HEARTH_ERROR_INIT;
    uint64_t deadline = sooner(c->deadline, START_MS);
    r = autostart(socket, deadline, &failure);
    /* Also after a failure: somebody else may have started one on this socket at the same time. */
    if (hearth_connect(socket, sooner(c->deadline, CONNECT_MS), out, err) != 0) {
        if (r != 0 && err)
            *err = failure;
        return r != 0 ? r : (int)(err ? err->code : HEARTH_E_NO_DAEMON);
    }
    struct hearth_status status;
    if (r == 0 && hearth_get_status(*out, deadline, &status, NULL) == 0)
        note(c, "started a daemon of your own (pid %u, socket %s); it ends after 30 minutes without use", status.pid,
             socket);
    return 0;
}

int cli_connect(struct cli *c, bool may_start, struct hearth **out, struct hearth_error *err) {
    const char *named = named_socket(c);
    int r = hearth_connect(named, sooner(c->deadline, CONNECT_MS), out, err);
    if (r != HEARTH_E_NO_DAEMON)
        return r;
    if (may_start && autostart_allowed() && (!named || may_listen(named)))
        return start(c, named, out, err);
    if (err && !err->hint[0])
        error_hint(err, "start one with `hearthd`, or let `hearth load` start yours");
    return r;
}
