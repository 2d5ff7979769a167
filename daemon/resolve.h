/* daemon/resolve.h: resolving references off the event loop.
 *
 * Storage may take as long as it likes to answer a stat, and a thread that waits for it cannot be called back. So each
 * resolve has a thread of its own, of a bounded number; of one reference, only one is under way at a time, and of one
 * folder a few, so that a storage that hangs costs few threads however often it is asked for. Who gets no thread for
 * some seconds is refused. And nobody ever waits for a thread's end: a resolve that is no longer wanted is let go, and
 * its thread, told so, comes to an end and cleans up as soon as the storage answers.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "artifact/artifact.h"
#include "daemon/loop.h"

/* What a LOAD asks for, as a value of its own. Immutable. */
struct load_spec {
    char *ref;  /* an absolute path */
    char *root; /* that of the source it lies in, out of which it must not lead; NULL: it may lead anywhere */
    char **include;
    size_t n_include;
    char **exclude;
    size_t n_exclude;
    struct artifact_digest *digests;
    size_t n_digests;
    enum hearth_verify verify; /* not DEFAULT */
    struct artifact_seen seen; /* by who asks, at `ref` */
};
/* Copies; NULL when there is no memory. Either frees. */
struct load_spec *load_spec_copy(const struct load_spec *from);
struct load_spec *load_spec_free(struct load_spec *s);
/* The same files are asked for. */
bool load_spec_same_files(const struct load_spec *a, const struct load_spec *b);

struct resolver;
struct resolve;

/* On the event loop, once. On success the artifact is the callee's and err is NULL. The span is CLOCK_MONOTONIC. */
typedef void (*resolve_done)(void *user, struct artifact *artifact, struct hearth_span span,
                             const struct hearth_error *err);

int resolver_new(struct loop *loop, struct resolver **out, struct hearth_error *err);
/* Does not wait for threads under way. Returns NULL; NULL is allowed. */
struct resolver *resolver_free(struct resolver *r);

/* `spec` is copied. Errors: NO_MEMORY. Failing to start a thread comes through done(), and so does BUSY: all threads,
 * or those for this folder, wait for storage that does not answer. */
int resolve_start(struct resolver *r, const struct load_spec *spec, resolve_done done, void *user, struct resolve **out,
                  struct hearth_error *err);
/* The oldest resolve under way, dropped or not: its reference, until the next call, and since when. NULL: there is
 * none.
 */
const char *resolver_oldest(const struct resolver *r, uint64_t *since_ns);
/* done() will not be called. */
void resolve_drop(struct resolve *job);
