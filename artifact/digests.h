/* artifact/digests.h: what files must hash to, as publishers write it beside them.
 *
 * SHA256SUMS at the top of the artifact (or beside the file, when the artifact is one file) lists any number of files,
 * by paths relative to itself; NAME.sha256 beside NAME speaks of NAME alone. Both in the formats of sha256sum(1):
 *
 *     HEX  NAME          text mode, or HEX *NAME: binary mode, which means the same here
 *     \HEX  NA\nME       a name with \n, \r or \\ escaped
 *     SHA256 (NAME) = HEX
 *
 * and NAME.sha256 may also hold HEX alone. Lines may end in CR LF; empty ones and those that begin with '#' say
 * nothing.
 *
 * A listed file that selection left out is passed over, as is the list's own name in it; one that is not there at all
 * is an error, since the artifact is then not what was published. Two different digests for one file are an error too.
 * What the request itself expects beats what was found.
 *
 * Beside an artifact that is one file, lists may be anybody's: others can put files into /tmp. Root's and those of the
 * file's owner come first and must be in order, for one that is damaged would leave the file unverified without a word.
 * A stranger's (it, or the link to it, is owned by neither) counts where those say nothing of the file, and is passed
 * over where it cannot be read as what it is called: a fifo, nonsense, a link that leads out, two different digests. In
 * a directory there are no strangers: whoever puts files into it makes the artifact.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <hearth/error.h>

#include "artifact/artifact.h"
#include "artifact/select.h"

#define DIGEST_FILE_MAX (UINT64_C(16) << 20)  /* bytes */
#define DIGEST_FILES_MAX (UINT64_C(64) << 20) /* bytes of all in one artifact */

struct digest_line {
    char *path; /* relative to the digest file, without "." parts; "" for HEX alone */
    uint8_t sha256[32];
    uint64_t offset; /* of the line in the digest file */
};

struct digest_list {
    struct digest_line *lines;
    size_t count, room;
};

void digest_list_deinit(struct digest_list *l);

/* Parses a digest file's text, which needs no NUL at its end. `file` is for messages. Errors: MALFORMED, NO_MEMORY. */
int digest_parse(const char *text, size_t length, const char *file, struct digest_list *out, struct hearth_error *err);

/* Paths of digest files that were met inside an artifact. */
struct digest_files {
    char **paths;
    size_t count, room;
};

/* By its path inside an artifact. */
bool is_digest_file(const char *path);
/* Keeps a copy of a digest file's path. 0 or -ENOMEM. */
int digest_files_note(struct digest_files *f, const char *path);
void digest_files_deinit(struct digest_files *f);

/* Each sets `expected` and `sha256` of the artifact's files, which are sorted.
 * From the digest files of a directory, which may be called off: */
int digests_of_directory(struct artifact *a, struct selection *selection, const struct digest_files *found,
                         struct hearth_error *err);
/* From those beside an artifact that is one file, wherever it has a name: */
struct digest_place {
    const struct place *place;
    const char *name; /* of the file, there */
};
int digests_beside_file(struct artifact *a, const struct digest_place *places, size_t n, uid_t owner,
                        struct hearth_error *err);
/* From the request: */
int digests_of_request(struct artifact *a, const struct artifact_request *r, struct hearth_error *err);
