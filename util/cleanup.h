/* util/cleanup.h: locals that clean up after themselves.
 *
 * The pattern everywhere in hearth is "build, then commit": what a function builds sits in locals with a cleanup
 * attribute, and its last lines hand it over (`*out = steal_ptr(&x); return 0;`). Whatever path leaves earlier frees
 * it.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Defines `name`, a cleanup function for a local of type `type` whose free function `fn` takes it by value. */
#define DEFINE_CLEANUP(type, name, fn)                         \
    static inline __attribute__((unused)) void name(type *p) { \
        if (*p)                                                \
            fn(*p);                                            \
    }

static inline void cleanup_free(void *p) {
    free(*(void **)p);
}
static inline void cleanup_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
}
DEFINE_CLEANUP(FILE *, cleanup_fclose, fclose)
DEFINE_CLEANUP(DIR *, cleanup_closedir, closedir)

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

/* Closes fd if it is one; returns -1, so that `fd = close_fd(fd)` cannot be closed twice. */
static inline int close_fd(int fd) {
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Takes a value out of a local that would clean it up. */
static inline int steal_fd(int *fd) {
    int v = *fd;
    *fd = -1;
    return v;
}
#define steal_ptr(p)                     \
    __extension__({                      \
        __typeof__(*(p)) stolen_ = *(p); \
        *(p) = NULL;                     \
        stolen_;                         \
    })
