/* daemon/access.h: what a client may ask for, by the grants of sources.
 *
 * The daemon's own user and root may do everything; what they load from outside of all sources is theirs alone. All
 * others need a grant, to connect at all and for each request: an artifact that they may not attach is not there for
 * them, neither in a list nor by its id. What is refused is logged, a bounded number a second.
 *
 * Thread rule: the event loop's. Nobody's name is looked up here: that could block.
 */
#pragma once

#include <limits.h>

#include "daemon/sources.h"
#include "ipc/server.h"

struct daemon;
struct generation;

/* For struct ipc_options: why this client is not served, or NULL when it is. Static. */
const char *access_refuses(void *daemon, int fd, struct ipc_cred cred);

/* Makes `out` the absolute path that a reference means. Errors: NOT_FOUND (no source of this name), INVALID. */
int access_path(const struct daemon *d, const char *reference, char out[PATH_MAX], struct hearth_error *err);
/* The same if the client has this right there. *root: the directory of its
 * source, that it must not lead out of; NULL: none. It is good for as long as the sources are. Errors: NOT_FOUND,
 * INVALID, DENIED. */
int access_reference(struct daemon *d, struct ipc_peer *p, const char *reference, enum right right, char out[PATH_MAX],
                     const char **root, struct hearth_error *err);
/* The same for the daemon's own use. */
int access_own_reference(const struct daemon *d, const char *reference, char out[PATH_MAX], const char **root,
                         struct hearth_error *err);

/* Whose what this client loads is: the daemon's own user and root are one, 0. */
uid_t access_owner(const struct ipc_peer *p);

/* Who asks, for access_right(): good until the next call. NULL: somebody who may do everything. */
const struct who *access_who(const struct ipc_peer *p);
enum right access_right(const struct daemon *d, const struct who *who, const struct generation *g);
/* Errors: NOT_FOUND (it is not to know of it), DENIED. */
int access_check(struct daemon *d, struct ipc_peer *p, const struct generation *g, enum right right,
                 struct hearth_error *err);
