/* artifact/artifact.h: what an artifact is on storage: a list of files with their identities.
 *
 * Resolving turns a path (a directory or one file) into that list, by the rules of selection in artifact/select.h, and
 * remembers for each file who it is: (device, inode, size, mtime, ctime). The artifact's key digests all of that with
 * what the caller expects of it; two loads with the same key are the same generation and share one load.
 *
 * Links: the reference itself may be a link, which must not lead out of the source that it is in. Inside, a link is
 * followed if it stays inside the artifact's directory, or, in a Hugging Face cache (REPO/snapshots/COMMIT), if it
 * leads to a file directly in REPO/blobs. Any other is refused as unsafe. Files are opened with openat2, so that a link
 * swapped in later cannot lead out either.
 *
 * Thread rule: resolving may block on storage for as long as storage likes: never call it on an event loop. Another
 * thread may call it off, which is noticed between two answers of the storage. An artifact is immutable afterwards and
 * may be read by any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

#include "artifact/place.h"

struct file_identity {
    uint64_t device, inode;
    uint64_t bytes;
    int64_t mtime_ns, ctime_ns; /* CLOCK_REALTIME */
};

struct artifact_file {
    char *path; /* inside the artifact: relative, '/' between parts, no "." or ".." */
    struct file_identity identity;
    enum hearth_role role;
    bool expected; /* sha256 holds what the content must hash to */
    bool demanded; /* and the request itself said so: it is proven whatever the policy is */
    bool digests;  /* what other files are compared to was read from it: nothing is left to compare it to */
    uint8_t sha256[32];
};

/* A file that selection left out, and why. */
struct artifact_skipped {
    char *path;
    const char *reason; /* static text */
};

struct artifact {
    char *ref;                   /* the absolute path it was asked for by, without "//", "/./" and a '/' at its end */
    bool is_file;                /* the reference is one file: files[0].path is its base name */
    struct place place;          /* the directory that all paths are relative to */
    char *opened_as;             /* is_file: its name in `place`; not files[0].path when the reference is a link */
    uint64_t bytes;              /* the sum of the files' sizes */
    struct artifact_file *files; /* sorted by path */
    size_t n_files;
    struct artifact_skipped *skipped; /* sorted by path */
    size_t n_skipped;
    uint64_t listed_bytes; /* of the paths and digest files that were met on the way: about what the heap held of it */
    uint8_t key[32]; /* SHA-256 over reference, files, identities, expected digests, selection and verify policy */
};

struct artifact_digest {
    const char *path; /* "" = the file itself when the reference is a file */
    uint8_t sha256[32];
};

/* What whoever asks sees at the reference, links followed: in another mount namespace a path may mean another file. */
struct artifact_seen {
    bool valid; /* it sees something, and says what */
    uint64_t device, inode;
    uint64_t bytes; /* of a file */
};

/* Borrowed for the call. All may be empty. */
struct artifact_request {
    const char *ref;     /* an absolute path */
    const char *beneath; /* the directory of its source, with which it begins; NULL: none */
    struct artifact_seen seen;
    const char *const *include;
    size_t n_include;
    const char *const *exclude;
    size_t n_exclude;
    const struct artifact_digest *digests; /* beat those found beside the files */
    size_t n_digests;
    uint32_t policy;           /* anything that makes it another load (the verify policy); goes into the key */
    const atomic_bool *cancel; /* once it is true, resolving ends with CANCELLED; NULL: it cannot be called off */
};

#define ARTIFACT_FILES_MAX 100000u                /* entries met on the way, those left out and directories included */
#define ARTIFACT_PATHS_MAX (32u << 20)            /* bytes of their paths, the NULs included */
#define ARTIFACT_DEPTH_MAX 32u                    /* directories inside one another */
#define ARTIFACT_PATTERN_MAX 4096u                /* bytes of an include or exclude */
#define ARTIFACT_MATCHING_MAX (UINT64_C(1) << 31) /* steps of matching names to them: about a step a nanosecond */

/* Errors: NOT_FOUND, DENIED, INVALID (no files, too many, paths too long, patterns too costly, a digest for a file that
 * is not there), UNSAFE (a link that leads out, of the source or the artifact; a fifo, socket or device), MALFORMED (a
 * digest file that cannot be read as one), CHANGED (while it was read, or another than who asks sees), CANCELLED, IO.
 */
int artifact_resolve(const struct artifact_request *request, struct artifact **out, struct hearth_error *err);
/* Gives the memory of large ones back to the system. Returns NULL; NULL is allowed. */
struct artifact *artifact_free(struct artifact *a);

/* Gives the descriptors of its directory back: none of its files can be opened any more. May run twice. */
void artifact_close(struct artifact *a);

/* Bytes of memory that the lists above take, about. */
uint64_t artifact_list_bytes(const struct artifact *a);

/* Opens file i for reading with O_RDONLY|O_CLOEXEC|O_NOFOLLOW-safe lookups | extra_flags (O_DIRECT), and checks that it
 * still is who it was. Errors: CHANGED, NOT_FOUND, DENIED, IO; UNSUPPORTED when the file system has no O_DIRECT. */
int artifact_open(const struct artifact *a, size_t i, int extra_flags, int *fd, struct hearth_error *err);

/* The identity of an open file. 0 or -errno. */
int file_identity_of(int fd, struct file_identity *out);
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b);

/* "changed" as an error value, with what differs as expected and found. */
int artifact_changed(const struct artifact *a, size_t i, const struct file_identity *now, struct hearth_error *err);

/* The full path of file i for messages, in a buffer of the caller. Returns buffer. */
char *artifact_path(const struct artifact *a, size_t i, char *buffer, size_t size);
/* The same for any path inside the artifact; "" is the artifact itself. */
char *artifact_join(const struct artifact *a, const char *path, char *buffer, size_t size);
