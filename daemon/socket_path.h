/* daemon/socket_path.h: where hearthd listens when nobody says.
 *
 * Thread rule: any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hearth/error.h>

/* The machine's socket (/run/hearth/hearth.sock), or the user's: $XDG_RUNTIME_DIR/hearth/hearth.sock, else
 * /tmp/hearth-UID/hearth.sock. The same rule as libhearth's hearth_default_socket(). Errors: INVALID (too long). */
int socket_path_default(bool system, char *buffer, size_t size, struct hearth_error *err);

/* Makes the directory of a default socket if it is not there, and checks that it is nobody else's: a real directory of
 * this uid; the user's of mode 0700. In /tmp anybody could have made it first. Errors: DENIED, SYSTEM, ... */
int socket_path_prepare(const char *socket, bool system, struct hearth_error *err);
