/* cli/disk.h: what storage gives at this moment, and what the page cache has of some files.
 *
 * The measure is what a load is held against: large reads past the page cache, several under way, into memory that is
 * there already; no hash, no other work. It is this program's own, so that a fault of the engine cannot hide in it.
 *
 * Thread rule: one thread; it makes some of its own and waits for them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <hearth/error.h>

#include "artifact/artifact.h"

struct disk_rate {
    uint64_t bytes, ns; /* ns 0: not measured */
};

/* Reads at most `most_bytes` of the artifact's files, spread over all of it, for at most `most_ns` and what is under
 * way then. Files that cannot be read past the page cache are left out. Errors: those of artifact_open(), IO,
 * NO_MEMORY. */
int disk_measure(const struct artifact *a, uint64_t most_bytes, uint64_t most_ns, struct disk_rate *out,
                 struct hearth_error *err);

/* Has the kernel forget what it caches of the files. *left: bytes that it still has, counted afterwards; others may
 * have them mapped, or may be writing them; UINT64_MAX where the kernel does not tell. Errors: those of
 * artifact_open(). */
int disk_drop_cache(const struct artifact *a, uint64_t *left, struct hearth_error *err);
