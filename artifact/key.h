/* artifact/key.h: the digest that says whether two resolved artifacts are the same generation. Part of resolving. */
#pragma once

#include <hearth/error.h>

#include "artifact/artifact.h"

/* Sets a->key: equal for equal references, files, identities, expected digests, patterns and policies. Patterns count
 * in the order given. Never stored, so what goes into it may change with any release. */
int artifact_make_key(struct artifact *a, const struct artifact_request *r, struct hearth_error *err);
