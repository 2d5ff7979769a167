/* hearth/hearth.h: the client API of hearth, in libhearth.
 *
 * A program connects to hearthd, asks for an artifact to be loaded, attaches to it and uses its tensors in place:
 * they are read-only shared memory, one copy for all processes of the machine.
 *
 *     struct hearth *h = NULL;
 *     struct hearth_artifact *a = NULL;
 *     struct hearth_tensor t;
 *     struct hearth_error err;
 *     struct hearth_info info;
 *     if (hearth_connect(NULL, hearth_deadline_in(1000), &h, &err) ||
 *         hearth_load(h, "/models/llama", NULL, HEARTH_NO_DEADLINE, &info, &err) ||
 *         hearth_attach(h, info.id, HEARTH_NO_DEADLINE, &a, &err) ||
 *         hearth_find_tensor(a, NULL, "embed.weight", HEARTH_NO_DEADLINE, &t, &err))
 *         ... err.message, err.file, err.hint ...
 *     ... t.data, t.shape, t.dtype ...
 *     a = hearth_release(a);
 *     h = hearth_close(h);
 *
 * ERRORS. Functions that take `struct hearth_error *err` return 0, or the positive hearth_code that is also in
 * err->code. err may be NULL. No function aborts, prints, or touches errno's meaning for the caller.
 *
 * TIME. A deadline is an absolute CLOCK_MONOTONIC time in nanoseconds; HEARTH_NO_DEADLINE waits for ever. A call whose
 * deadline passes returns HEARTH_E_TIMEOUT; its late reply is dropped when it comes, and the connection stays usable.
 * What it asked for is taken back: a load ends unless others wait for it, a lease that comes late is returned.
 *
 * OWNERSHIP. A `struct hearth *` is one connection, owned by who connected. An artifact belongs to its
 * connection; release it before you close (close releases what is left). Pointers into an artifact (names, shapes,
 * data) live until it is released. Strings in struct hearth_info live in the struct.
 *
 * THREADS. libhearth starts none and installs no signal handler. One connection, and the artifacts attached through
 * it, may be used by one thread at a time; different connections by different threads at once. What is marked
 * [mapped] only reads mapped memory and may be called by any number of threads at once.
 *
 * FORK. A child may go on using data pointers of an artifact that its parent attached: mappings and what they show
 * survive fork. It must not use the connection: every call on it returns HEARTH_E_INVALID in the child, and
 * hearth_release and hearth_close there free the child's memory without a word to the daemon. All descriptors are
 * close-on-exec.
 *
 * IF THE DAEMON DIES every call on the connection returns HEARTH_E_DISCONNECTED, or the error that the daemon gave as
 * its reason to hang up; artifacts stay mapped and valid.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>
#include <hearth/protocol.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HEARTH_API __attribute__((visibility("default")))
#else
#define HEARTH_API
#endif

struct hearth;          /* a connection */
struct hearth_artifact; /* an attached artifact */

/* ---- time ---- */

#define HEARTH_NO_DEADLINE UINT64_MAX

/* Now plus `ms` milliseconds, as a deadline. Saturates. */
HEARTH_API uint64_t hearth_deadline_in(uint64_t ms);

/* ---- connecting ---- */

/* Which socket would be tried, in order: `path` if not NULL, else $HEARTH_SOCKET, else the system's
 * (/run/hearth/hearth.sock), the user's ($XDG_RUNTIME_DIR/hearth/hearth.sock, else /tmp/hearth-UID/hearth.sock, whose
 * directory must be a real directory of this uid, mode 0700).
 * Connects and says hello. Errors: HEARTH_E_NO_DAEMON (nothing answers; err->file is the last path tried),
 * HEARTH_E_DENIED, HEARTH_E_UNSUPPORTED (no common protocol version), HEARTH_E_TIMEOUT, HEARTH_E_SYSTEM. */
HEARTH_API int hearth_connect(const char *path, uint64_t deadline, struct hearth **out, struct hearth_error *err);

/* Releases what is attached, hangs up, frees. Requests under way are done with HEARTH_E_CANCELLED (not in a forked
 * child). NULL is allowed. Returns NULL. */
HEARTH_API struct hearth *hearth_close(struct hearth *h);

/* The path of the socket this connection uses. Owned by h. */
HEARTH_API const char *hearth_socket_path(const struct hearth *h);

/* The path of the calling user's own socket, whether or not a daemon listens there; `system_wide` gives the system's.
 * Writes at most `size` bytes with a NUL. Errors: HEARTH_E_INVALID when it does not fit. */
HEARTH_API int hearth_default_socket(bool system_wide, char *buffer, size_t size, struct hearth_error *err);

/* An argument that a person typed to a reference for the daemon: what exists as a path becomes absolute and tidy, so
 * that one place has one name; links in it stay, for "latest" may be one, but what stands before a ".." is resolved,
 * because behind a link ".." is not what it seems. Anything else is left alone. Errors: HEARTH_E_INVALID when it does
 * not fit. */
HEARTH_API int hearth_ref_from_argument(const char *argument, char *buffer, size_t size, struct hearth_error *err);

/* ---- for a server's own event loop ---- */

/* A descriptor that polls readable (POLLIN, level-triggered) when hearth_dispatch has work. Owned by h; do not read
 * from it. */
HEARTH_API int hearth_fd(const struct hearth *h);

/* Handles what has arrived, without blocking, and calls the callbacks of finished requests from inside this call. A
 * blocking call on the same connection does this too while it waits. A callback may start requests but must not close
 * the connection. Errors: HEARTH_E_DISCONNECTED,
 * HEARTH_E_PROTOCOL: the connection is dead; callbacks under way have been called with that error. */
HEARTH_API int hearth_dispatch(struct hearth *h, struct hearth_error *err);

/* ---- loading ---- */

#define HEARTH_REF_MAX 4096 /* bytes, NUL included */

/* What is known of an artifact. Units: bytes and nanoseconds. See protocol.h for each field. */
struct hearth_info {
    uint64_t id;
    enum hearth_state state;
    enum hearth_verified verified;
    enum hearth_backing backing;
    uint32_t flags; /* HEARTH_INFO_* */
    uint64_t bytes, resident_bytes, huge_bytes, bytes_done;
    uint64_t from_disk, from_page_cache, from_resident;
    uint64_t seconds_ns;
    uint32_t n_files, leases;
    struct hearth_span phases[HEARTH_PHASES];
    char ref[HEARTH_REF_MAX];
};

struct hearth_digest {
    const char *path; /* inside the artifact; "" for the file itself when the reference is a file */
    uint8_t sha256[32];
};

/* All fields may be zero. Nothing is kept after the call that takes it. */
struct hearth_load_options {
    enum hearth_verify verify;
    bool no_wait;               /* return once the load has begun */
    const char *const *include; /* globs against the path inside the artifact */
    size_t n_include;
    const char *const *exclude;
    size_t n_exclude;
    const struct hearth_digest *digests;
    size_t n_digests;
    /* Called from inside hearth_load, or hearth_dispatch, at most ten times a second. May be NULL. `info` is valid
     * during the call, and does not change in it, whatever the callback asks for. */
    void (*progress)(void *user, const struct hearth_info *info);
    void *user;
};

/* Makes the artifact resident, or with no_wait sees it on its way. An artifact that is resident and whose files are
 * unchanged costs no disk I/O. `options` may be NULL.
 * Errors: all that loading can meet: NOT_FOUND, DENIED, IO, TOO_LARGE, MALFORMED, UNSAFE, INTEGRITY, CHANGED, PARSER,
 * NO_MEMORY, NO_FDS, CANCELLED; with TIMEOUT the load ends in the daemon, unless others wait for it. */
HEARTH_API int hearth_load(struct hearth *h, const char *ref, const struct hearth_load_options *options,
                           uint64_t deadline, struct hearth_info *out, struct hearth_error *err);

/* The same without waiting for the load: `done` is called once with the result, from inside hearth_dispatch or another
 * call on this connection that waits, or hearth_close; on success err is NULL, else info is. When this call itself
 * fails, `done` is never called. Errors: INVALID, NO_MEMORY, BUSY (the daemon does not read its requests),
 * DISCONNECTED. */
typedef void (*hearth_done)(void *user, const struct hearth_info *info, const struct hearth_error *err);
HEARTH_API int hearth_load_start(struct hearth *h, const char *ref, const struct hearth_load_options *options,
                                 hearth_done done, void *user, struct hearth_error *err);

/* Follows a load that somebody started, up to its end. `progress` may be NULL. Errors: NOT_FOUND (also when it has been
 * evicted), and the load's. */
HEARTH_API int hearth_watch(struct hearth *h, uint64_t id, void (*progress)(void *user, const struct hearth_info *info),
                            void *user, uint64_t deadline, struct hearth_info *out, struct hearth_error *err);

/* ---- attaching ---- */

/* Takes a lease on a resident artifact and receives its index and all its files' descriptors. Nothing is mapped
 * but the index. Errors: NOT_FOUND, DENIED, BUSY (not resident yet), NO_FDS (this process's limit). */
HEARTH_API int hearth_attach(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_artifact **out,
                             struct hearth_error *err);

/* The same for some files only, by path inside the artifact. n == 0: the index alone. A file that was not asked for
 * is fetched at its first use, which then may block up to `deadline` of the call that uses it. */
HEARTH_API int hearth_attach_files(struct hearth *h, uint64_t id, const char *const *paths, size_t n, uint64_t deadline,
                                   struct hearth_artifact **out, struct hearth_error *err);

/* Unmaps, closes, gives the lease back without waiting for an answer. NULL is allowed. Returns NULL. */
HEARTH_API struct hearth_artifact *hearth_release(struct hearth_artifact *a);

/* The mapped index: immutable. Strings through hearth_index_string. [mapped] */
HEARTH_API const struct hearth_index_header *hearth_index(const struct hearth_artifact *a);
HEARTH_API const char *hearth_index_string(const struct hearth_artifact *a, struct hearth_str s);

struct hearth_file {
    const char *path, *format;
    enum hearth_role role;
    enum hearth_verified verified;
    uint64_t bytes;
    const uint8_t *sha256; /* 32 bytes, or NULL when not computed */
};

/* [mapped] */
HEARTH_API size_t hearth_file_count(const struct hearth_artifact *a);
/* File number `file`. Errors: HEARTH_E_INVALID past the last. [mapped] */
HEARTH_API int hearth_file_at(const struct hearth_artifact *a, size_t file, struct hearth_file *out,
                              struct hearth_error *err);
/* The number of the file with this path. Errors: HEARTH_E_NOT_FOUND. [mapped] */
HEARTH_API int hearth_file_find(const struct hearth_artifact *a, const char *path, size_t *out,
                                struct hearth_error *err);

/* A read-only descriptor of a file's bytes with a file offset of its own. Owned by the artifact. On failure -1, with
 * err set. Fetches it from the daemon if need be, waiting up to `deadline`. */
HEARTH_API int hearth_file_fd(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err);

/* A file's bytes, mapped shared and read-only at first use at an address that lets huge pages be mapped whole. An
 * empty file gives a pointer that must not be read. */
HEARTH_API int hearth_file_map(struct hearth_artifact *a, size_t file, uint64_t deadline, const void **out,
                               struct hearth_error *err);

struct hearth_tensor {
    const char *name, *dtype; /* dtype: the format's own spelling, "BF16" */
    const void *data;         /* read-only; aligned as the file aligned it */
    uint64_t bytes;
    const uint64_t *shape; /* n_dims sizes, outermost first */
    uint32_t n_dims;
    size_t file;
    uint64_t offset; /* of the tensor in its file */
};

/* [mapped] */
HEARTH_API size_t hearth_tensor_count(const struct hearth_artifact *a);

/* Tensor number i, in the order of names. Maps its file if need be, without waiting for the daemon: a file that was not
 * attached gives data == NULL. */
HEARTH_API int hearth_tensor_at(struct hearth_artifact *a, size_t i, struct hearth_tensor *out,
                                struct hearth_error *err);

/* The tensor of this name, in O(log n); `file` (a path inside the artifact) says which when several files have one of
 * that name, else NULL. Maps its file at first use; a file that was not attached is fetched, waiting up to `deadline`.
 * Errors: HEARTH_E_NOT_FOUND, HEARTH_E_INVALID (several files have it: name one). */
HEARTH_API int hearth_find_tensor(struct hearth_artifact *a, const char *file, const char *name, uint64_t deadline,
                                  struct hearth_tensor *out, struct hearth_error *err);

/* ---- looking after a daemon ---- */

/* Calls `each` for every artifact the daemon knows; the info is valid during the call. */
HEARTH_API int hearth_list(struct hearth *h, void (*each)(void *user, const struct hearth_info *info), void *user,
                           uint64_t deadline, struct hearth_error *err);

struct hearth_status {
    uint32_t pid, clients, artifacts, leases;
    uint64_t budget_bytes, resident_bytes, uptime_ns;
    char version[64], socket[256], reader[256], direct_io[64], backing[256];
};
HEARTH_API int hearth_get_status(struct hearth *h, uint64_t deadline, struct hearth_status *out,
                                 struct hearth_error *err);

/* Drops an artifact. Errors: BUSY (leased, and not force; the message names the holders), NOT_FOUND, DENIED. */
HEARTH_API int hearth_evict(struct hearth *h, uint64_t id, bool force, uint64_t deadline, struct hearth_error *err);

/* Asks the daemon to end. Returns when it has said it will. Errors: DENIED. */
HEARTH_API int hearth_stop(struct hearth *h, uint64_t deadline, struct hearth_error *err);

/* ---- names of values, as --json has them. Static strings; "unknown" for others. [mapped] ---- */
HEARTH_API const char *hearth_role_name(enum hearth_role v);
HEARTH_API const char *hearth_verified_name(enum hearth_verified v);
HEARTH_API const char *hearth_state_name(enum hearth_state v);
HEARTH_API const char *hearth_backing_name(enum hearth_backing v);
HEARTH_API const char *hearth_phase_name(enum hearth_phase v);

/* The version of the library, "0.1.0". Static. */
HEARTH_API const char *hearth_version(void);

#ifdef __cplusplus
}
#endif
