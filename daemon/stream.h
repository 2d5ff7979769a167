/* daemon/stream.h: descriptors of an artifact that is loading, for those who stream it.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "daemon/generation.h"
#include "util/fdlist.h"

/* Appends the index's and the progress page's descriptor if `index`, then those of files[0..n) (NULL: files 0..n). On
 * failure *out holds what was made. Errors: BUSY when the load has just ended: attach it when that is known; the load's
 * own; NO_FDS, SYSTEM. */
int stream_take(struct generation *g, bool index, const uint32_t *files, size_t n, struct fdlist *out,
                struct hearth_error *err);
