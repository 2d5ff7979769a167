/* cli/links.h: a private directory that looks like artifacts, for programs that only take paths.
 *
 *     ROOT/1/all-minilm/config.json -> /proc/PID/fd/7
 *     ROOT/1/all-minilm/model.safetensors -> /proc/PID/fd/8
 *
 * PID is this process, which therefore has to live as long as the links are used. ROOT is made with mode 0700 under
 * $XDG_RUNTIME_DIR, else $TMPDIR, else /tmp. An artifact that is one file has it directly in ROOT/N.
 *
 * Links to a living process rather than inherited descriptors, because programs close what they inherit (Python's
 * subprocess and multiprocessing do). Who may follow them: processes of the same uid and gid, in the same namespaces,
 * while this process can be dumped.
 *
 * Thread rule: one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

struct links {
    char root[4096];    /* "" when there is none */
    char **directories; /* one an artifact, absolute */
    size_t n;
    char *any; /* one of the links, for a trial; NULL when there are no files */
};

/* Makes ROOT, empty. Errors: SYSTEM, DENIED. */
int links_begin(struct links *l, struct hearth_error *err);
/* Adds the next artifact, whose descriptors stay owned by it. Errors: those of hearth_leased_fd(); PROTOCOL when the
 * daemon names a file that would lie outside; SYSTEM. */
int links_add(struct links *l, struct hearth_artifact *a, uint64_t deadline, struct hearth_error *err);
/* Removes everything. May run twice. */
void links_remove(struct links *l);
