/* artifact/place.h: a directory whose files are reached by relative path, and how far their links may lead.
 *
 * Everything goes through openat2: a path cannot leave the directory, whatever is swapped in meanwhile. A link that
 * stays inside is followed; an absolute one counts as leading out, for it breaks when the directory moves. In a Hugging
 * Face cache (REPO/snapshots/COMMIT, or deeper) a link may also lead to a file directly in REPO/blobs, which is how
 * that cache is made.
 */
#pragma once

#include <sys/stat.h>

struct place {
    int directory;  /* O_PATH */
    int repository; /* O_PATH, of the Hugging Face repository around it; or -1 */
    char *real;     /* the directory's path without links, as of when it was opened */
    char *inside;   /* with `repository`: the part of `real` below it, "snapshots/COMMIT"; points into `real` */
};

#define PLACE_NULL \
    { .directory = -1, .repository = -1 }

/* Takes the descriptor over, also on failure. 0 or -errno. */
int place_init(struct place *p, int directory);
/* Of a Hugging Face repository, its snapshot alone is left: links to its blobs lead out then. */
void place_forget_repository(struct place *p);
/* May run twice. */
void place_deinit(struct place *p);

/* Both follow links by the rules above and return -errno on failure: -EXDEV for a link that leads out, -ELOOP for links
 * in a circle. place_open() returns a close-on-exec descriptor; never blocks on a fifo or device. */
int place_stat(const struct place *p, const char *path, struct stat *st);
int place_open(const struct place *p, const char *path, int flags);

/* The same for any directory: a path that leads out of it, through whatever links, is -EXDEV. */
int open_beneath(int root, const char *path, int flags);

/* The path that a descriptor was opened by, without links: a new string, or NULL with errno set. */
char *descriptor_path(int fd);
