/* daemon/init.h: being process 1, as the only program of a container is.
 *
 * What loses its parent in a pid namespace becomes a child of its process 1, which has to collect it when it ends; else
 * whatever `docker exec` or a probe left behind stays as a zombie. hearthd waits for its own helpers, and for nobody
 * else. So as process 1 it forks: the parent collects all that ends, and passes signals on to the child, which is the
 * daemon. When that ends so does the parent, in the same way, and the kernel ends whatever is left in the namespace.
 */
#pragma once

#include <hearth/error.h>

/* Returns in the process that is to be the daemon: at once, unless this is process 1, whose parent half never returns.
 * To be called before there are threads. Errors: NO_MEMORY, SYSTEM. */
int init_stay_behind(struct hearth_error *err);
