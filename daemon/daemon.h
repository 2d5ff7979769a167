/* daemon/daemon.h: hearthd: the engine, the server and the artifacts put together around one event loop.
 *
 * Thread rule: made, run and freed by one thread, which must have started no other before.
 */
#pragma once

#include <hearth/error.h>

#include "daemon/options.h"

struct daemon;

/* Everything that can fail at a start, up to the point at which clients can connect. Takes over the command's options,
 * on success; the command itself must outlive the daemon. Listens on the socket `passed` by systemd (taken over, also
 * on failure), or where it is -1, on a new one at the path `socket`. Errors: as of the parts; BUSY when another daemon
 * answers there. */
int daemon_new(struct command_line *command, const char *socket, int passed, struct daemon **out,
               struct hearth_error *err);
/* Serves until SIGTERM, SIGINT, a STOP request or idle-exit, and then until nothing is under way any more: for
 * some seconds at most, after which the process ends by itself. A second signal ends it at once. SIGHUP
 * has it read its configuration again. Errors: SYSTEM. */
int daemon_run(struct daemon *d, struct hearth_error *err);
/* Returns NULL; NULL is allowed. */
struct daemon *daemon_free(struct daemon *d);
