/* daemon/metrics_http.h: figures for Prometheus over HTTP, by libmicrohttpd where it is built in.
 *
 * It has one thread, which sleeps while nobody asks. What it serves, the event loop hands it: a scrape costs the loop
 * one copy, and a client that is slow or means no good costs it nothing. Connections, their memory and their time are
 * bounded.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <hearth/error.h>

#include "daemon/loop.h"
#include "daemon/metrics.h"

struct metrics_server;
/* Called on the loop, once a scrape. */
typedef void (*metrics_fill)(void *user, struct metrics *m);

/* Serves on a listening socket, which is taken over, also on failure. Errors: UNSUPPORTED (libmicrohttpd is not built
 * in), SYSTEM, NO_MEMORY. */
int metrics_server_new(int fd, struct loop *loop, metrics_fill fill, void *user, struct metrics_server **out,
                       struct hearth_error *err);
/* Ends its thread; before the loop is freed. Returns NULL; NULL is allowed. */
struct metrics_server *metrics_server_free(struct metrics_server *s);
