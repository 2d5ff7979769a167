/* util/socket_path.h: where hearth's sockets are by default. One rule for the daemon that listens and for clients.
 *
 * The system's daemon listens at /run/hearth/hearth.sock. A user's is in $XDG_RUNTIME_DIR/hearth/; without one in
 * /tmp/hearth-UID/, a name that anybody could have taken first: so that directory is trusted only if it is a real
 * directory of this uid that is closed to all others (mode 0700).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hearth/error.h>

/* Writes the path. HEARTH_E_INVALID when it does not fit into `size`. */
int socket_path_default(bool system_wide, char *buffer, size_t size, struct hearth_error *err);

/* Checks the directory of `path` if it is the one in /tmp; any other path passes. Errors: DENIED (it belongs to
 * somebody else or is open to others), NOT_FOUND (it does not exist). */
int socket_path_check(const char *path, struct hearth_error *err);
