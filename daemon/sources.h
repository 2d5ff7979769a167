/* daemon/sources.h: directories that artifacts may be taken from, and who may do what there.
 *
 *     [source models]
 *     path = /srv/models
 *     attach = @ml-serving, alice
 *     load = @ml-ops
 *
 * The rights are rungs of one ladder, and each holds those below it: who may load may attach. Who is named on several
 * rungs has the highest. A user who is not named has none, and no source has a grant that nobody wrote.
 *
 * What lies in a source is known by its absolute path; NAME/REST is another way to say it. Where sources lie in one
 * another, the innermost decides. No path with a ".." in it lies in any: behind a link it may lead anywhere.
 *
 * Thread rule: none of its own. Immutable once it is read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <hearth/error.h>

enum right {
    RIGHT_NONE,
    RIGHT_ATTACH,     /* see it, and take a lease on what is resident */
    RIGHT_LOAD,       /* make it resident */
    RIGHT_PIN,        /* keep it resident */
    RIGHT_EVICT,      /* drop what nobody holds */
    RIGHT_ADMINISTER, /* and what others hold */
    RIGHTS,
};
/* As the configuration spells it. Static. */
const char *right_name(enum right r);

/* A user and all groups of it. The list is borrowed. */
struct who {
    uid_t uid;
    const gid_t *groups;
    size_t n_groups;
};

struct grant {
    enum right right;
    enum { GRANT_EVERYBODY, GRANT_USER, GRANT_GROUP } kind;
    unsigned id; /* uid or gid */
};

#define SOURCE_NAME_MAX 32u
struct source {
    char name[SOURCE_NAME_MAX + 1];
    char *path; /* absolute and tidy; NULL until it is set */
    struct grant *grants;
    size_t n_grants;
};

#define SOURCES_MAX 1024u
struct sources {
    struct source *list;
    size_t n;
};

/* NULL is allowed. Returns NULL. */
struct sources *sources_free(struct sources *all);
/* Adds one, whose pointer is good until the next is added; *all is made with the first. Errors: INVALID (no name, one
 * that is taken, too many), NO_MEMORY. */
int sources_add(struct sources **all, const char *name, struct source **out, struct hearth_error *err);

/* Sets one key of a source: path, or a right to its list of users, @groups and '*'. Asks the system who they are, which
 * may block on a directory service. Errors: NOT_FOUND (no such key), INVALID, SYSTEM, NO_MEMORY. */
#define SOURCE_KEYS ((int)RIGHTS)
int source_key(const char *key); /* its number, from 0 on; or -1 */
int source_set(struct sources *all, struct source *s, const char *key, const char *value, struct hearth_error *err);

/* The source that an absolute, tidy path lies in, or NULL. `all` may be NULL. */
const struct source *sources_of_path(const struct sources *all, const char *path);
/* The source that a NAME or NAME/REST begins with, and the rest; or NULL. */
const struct source *sources_of_name(const struct sources *all, const char *reference, const char **rest);

enum right source_right(const struct source *s, const struct who *who);
/* The highest right that this user has anywhere. */
enum right sources_right(const struct sources *all, const struct who *who);
