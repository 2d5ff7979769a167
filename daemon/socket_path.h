/* daemon/socket_path.h: where hearthd listens when nobody says: at socket_path_default() of util/socket_path.h.
 *
 * Thread rule: any thread.
 */
#pragma once

#include <stdbool.h>

#include <hearth/error.h>

#include "util/socket_path.h"

/* Makes the directory of a default socket if it is not there, and checks that it is nobody else's: a real directory of
 * this uid; the user's of mode 0700. In /tmp anybody could have made it first. Errors: DENIED, SYSTEM, ... */
int socket_path_prepare(const char *socket, bool system, struct hearth_error *err);
