/* artifact/walk.h: from a directory to the list of its files, by the rules of artifact/select.h. Part of resolving. */
#pragma once

#include <hearth/error.h>

#include "artifact/artifact.h"
#include "artifact/digests.h"
#include "artifact/select.h"

/* Fills a->files and a->skipped (neither sorted) from a->place, and adds the digest files met to *found. */
int walk_artifact(struct selection *selection, struct artifact *a, struct digest_files *found,
                  struct hearth_error *err);

/* Adds a file to a->files, whose room is `*room` entries; takes *path over, and sets it to NULL, where it succeeds. */
int walk_add_file(struct artifact *a, size_t *room, char **path, const struct stat *st, struct hearth_error *err);
