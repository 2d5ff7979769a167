/* artifact/border.h: a directory that nothing of an artifact may lie outside of, whatever its links say.
 *
 * Somebody who may write into a source must not get at what only the daemon can read. So what was opened is asked where
 * it is, after the fact: no link that is swapped in meanwhile changes the answer. What cannot be told from the source's
 * own is a hard link.
 *
 * Thread rule: as artifact.h.
 */
#pragma once

#include "artifact/place.h"

struct border {
    const char *path; /* borrowed; NULL: there is none, and everything is inside */
    int directory;    /* O_PATH */
    char *real;       /* its path without links */
};
#define BORDER_NULL \
    { .directory = -1 }

/* `path`: an absolute directory, which may be a link itself; or NULL. 0 or -errno. */
int border_init(struct border *b, const char *path);
/* May run twice. */
void border_deinit(struct border *b);

/* Opens an absolute path with O_PATH: with a border, one that begins with the border's. Links are followed, those of
 * /proc that stand for a process's own files excepted. A descriptor or -errno: -EXDEV when it leads out, whether there
 * is anything there or not. */
int border_open(const struct border *b, const char *path);
/* 0 when what the descriptor holds is inside, else -EXDEV or another -errno. */
int border_check(const struct border *b, int fd);
/* The same for a place; a Hugging Face repository that reaches out is none: its links to blobs then lead out. */
int border_check_place(const struct border *b, struct place *p);
