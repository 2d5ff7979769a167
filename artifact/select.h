/* artifact/select.h: which of a directory's files belong to the artifact. Names alone decide; nothing is opened.
 *
 * By default everything is taken, except
 *   - .git and .cache, at any depth, and what is in them;
 *   - NAME.incomplete: a download that has not ended;
 *   - weights that are there a second time. Where a directory holds safetensors, weights of other formats beside them
 * are left out (pytorch_model*.bin, *.pt, *.pth, *.ckpt, *.h5, *.msgpack, *.ot, *.onnx, *.gguf, ... and their indexes
 * of shards), and so are the folders that model repositories keep other formats in (onnx, openvino, coreml, original,
 *     metal); where it holds model*.safetensors, so are consolidated*.safetensors.
 *
 * `include` names what to take instead: only files that some pattern matches, but all of those, whatever the format.
 * What .git, .cache and .incomplete hide comes back only if a pattern spells the way to it (".cache/model.bin").
 * `exclude` takes away, and is the last word. A file left out by either never counts as safetensors.
 *
 * A pattern (artifact/glob.h) with a '/' is matched against the path inside the artifact, `*` over '/' as well; one
 * without against the base name. Its leading double star and '/' may also stand for nothing. A pattern that matches a
 * directory, with or without a '/' at its end, stands for all that is in it.
 *
 * A reference that is one file is not subject to selection: who names it wants it.
 */
#pragma once

#include <stdbool.h>

#include "artifact/artifact.h"

/* A request's patterns at work, all through one resolve. */
struct selection {
    const struct artifact_request *request;
    uint64_t steps_left; /* of ARTIFACT_MATCHING_MAX */
};

/* Says no once the request was called off, or its patterns have cost too much: CANCELLED, INVALID. What the functions
 * below have said since it last returned 0 holds only when it does again. */
int select_check(const struct selection *s, struct hearth_error *err);

/* Why the file is left out (static text), or NULL. `included`: a directory above was matched by an include. */
const char *select_file(struct selection *s, const char *path, bool included);
/* The same for a directory and all that is in it; *included is set when an include matches it. */
const char *select_directory(struct selection *s, const char *path, bool *included);
/* Is it excluded by a pattern of the request? */
bool select_excluded(struct selection *s, const char *path, bool directory);

/* What the files that are taken in one directory have told about its formats. */
struct select_formats {
    bool safetensors;
    bool model_safetensors; /* model*.safetensors */
};

void select_note(struct select_formats *f, const char *name);
/* Why this entry of that directory is left out as a second copy of the weights (static text), or NULL. */
const char *select_duplicate(const struct artifact_request *r, const struct select_formats *f, const char *name,
                             bool directory);
