/* daemon/metrics_listen.h: the socket that figures are served on. */
#pragma once

#include <stdbool.h>

#include <hearth/error.h>

/* The absolute path of a Unix socket, 127.0.0.1:PORT or [::1]:PORT. Who listened anywhere else would tell strangers. */
bool metrics_address_is_valid(const char *address);
/* A listening socket. Call it before there are other threads: the mode of a Unix socket, 0660, is made by the umask. A
 * stale one is replaced. Errors: BUSY, DENIED, NOT_FOUND, SYSTEM. */
int metrics_listen(const char *address, int *fd, struct hearth_error *err);
/* Removes the file of a Unix socket. */
void metrics_unlisten(const char *address);
