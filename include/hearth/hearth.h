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
 * err->code; below, codes stand without their HEARTH_E_. err may be NULL; other pointers may be where it is said. No
 * function aborts or prints; errno says nothing after a call. What a failed call should have filled in is not to be
 * used, but for the two handles, which are NULL then. An errno that has a code of its own comes as that (EACCES as
 * DENIED, ENOMEM as NO_MEMORY, ...), any other as SYSTEM; err->sys_errno is the errno.
 *
 * What is marked [asks] asks the daemon and may wait for it up to its deadline. Its errors, beside those listed:
 *     TIMEOUT       the deadline passed
 *     DISCONNECTED  the connection is dead; instead of it any error that the daemon gave as its reason to hang up
 *     PROTOCOL      the daemon sent what the protocol does not allow: the connection is dead
 *     BUSY          too many requests are under way: 64 of a connection, 4096 of a user
 *     NO_MEMORY     the daemon has none for the request
 *     UNSUPPORTED   the daemon is older than this request
 *     INVALID       this is a forked child of who connected
 *
 * TIME. A deadline is an absolute CLOCK_MONOTONIC time in nanoseconds; HEARTH_NO_DEADLINE waits for ever, 0 does not
 * wait. A call whose deadline passes returns TIMEOUT; its late reply is dropped when it comes, and the connection stays
 * usable. What it asked for is taken back: a load ends unless others wait for it, a lease that comes late is returned.
 * An eviction and a stop stand. A call without a deadline does not wait for the daemon, hearth_load_start aside.
 *
 * OWNERSHIP. A `struct hearth *` is one connection, owned by who connected. An artifact belongs to its
 * connection; release it before you close (close releases what is left). Pointers into an artifact (names, shapes,
 * data) live until it is released. Strings in struct hearth_info and struct hearth_status live in the struct. What is
 * passed to a call is borrowed for the call.
 *
 * THREADS. libhearth starts none and installs no signal handler. One connection, and the artifacts attached through
 * it, may be used by one thread at a time; different connections by different threads at once. What is marked
 * [mapped] only reads mapped memory and may be called by any number of threads at once, as long as none of them
 * releases the artifact; so may what is marked [any], which uses no connection.
 *
 * CALLBACKS run inside a call on their connection, in its thread. They may start requests, and wait for their answers.
 * They must not close the connection, nor release an artifact that a call around them uses.
 *
 * FORK. A child may go on using data pointers of an artifact that its parent attached: mappings and what they show
 * survive fork. It must not use the connection: every call on it returns HEARTH_E_INVALID in the child, and
 * hearth_release and hearth_close there free the child's memory without a word to the daemon. All descriptors are
 * close-on-exec.
 *
 * IF THE DAEMON DIES every call on the connection returns HEARTH_E_DISCONNECTED, or the error that the daemon gave as
 * its reason to hang up; artifacts stay mapped and valid. Of one that was still loading, what was there stays so.
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

/* Now plus `ms` milliseconds, as a deadline. Saturates. [any] */
HEARTH_API uint64_t hearth_deadline_in(uint64_t ms);

/* ---- connecting ---- */

/* Which socket would be tried, in order: `path` if not NULL, else $HEARTH_SOCKET, else the system's
 * (/run/hearth/hearth.sock), the user's ($XDG_RUNTIME_DIR/hearth/hearth.sock, else /tmp/hearth-UID/hearth.sock, whose
 * directory must be a real directory of this uid, mode 0700). The user's is tried where the system's is NO_DAEMON or
 * DENIED. A set-user-id program is not led by its environment.
 * Connects and says hello. *out is the caller's, for hearth_close. [any], while no thread changes the environment.
 * Errors:
 *     NO_DAEMON     nothing answers; err->file is the path tried last
 *     DENIED        by the socket's permissions, or by a daemon that serves its own user only; or its directory in /tmp
 *                   could be somebody else's
 *     INVALID       no path of a socket: empty, longer than 107 bytes, links in a circle
 *     TIMEOUT       not accepted, or hello not answered, before the deadline
 *     BUSY          the daemon, or this user there, has as many connections as it may
 *     NO_FDS, NO_MEMORY    here, or in the daemon
 *     UNSUPPORTED   no common version of the protocol
 *     DISCONNECTED, PROTOCOL    it hung up, or what it answered is no hello
 *     SYSTEM        the kernel refused the socket */
HEARTH_API int hearth_connect(const char *path, uint64_t deadline, struct hearth **out, struct hearth_error *err);

/* Releases what is attached (see hearth_release), hangs up, frees. Requests under way are done with CANCELLED, from
 * inside this call (not in a forked child). Does not wait for the daemon. NULL is allowed. Returns NULL. */
HEARTH_API struct hearth *hearth_close(struct hearth *h);

/* The path of the socket this connection uses. Owned by h. */
HEARTH_API const char *hearth_socket_path(const struct hearth *h);

/* The path of the calling user's own socket, whether or not a daemon listens there; `system_wide` gives the system's.
 * Writes at most `size` bytes with a NUL. Errors: INVALID when it does not fit. [any], while no thread changes the
 * environment. */
HEARTH_API int hearth_default_socket(bool system_wide, char *buffer, size_t size, struct hearth_error *err);

/* An argument that a person typed to a reference for the daemon: what exists as a path becomes absolute and tidy, so
 * that one place has one name; links in it stay, for "latest" may be one, but what stands before a ".." is resolved,
 * because behind a link ".." is not what it seems. hf/ORG/NAME[@REV] becomes the path of that snapshot in the caller's
 * Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub). Anything else is left alone. Writes at
 * most `size` bytes with a NUL. Asks the file system, so it may block on storage, without a deadline. Errors: INVALID
 * when it does not fit into `size` or HEARTH_REF_MAX; NOT_FOUND (it was removed; not in the cache), DENIED, INVALID
 * (too long), NO_MEMORY, SYSTEM when the current directory cannot be told. [any], while no thread changes the current
 * directory. */
HEARTH_API int hearth_ref_from_argument(const char *argument, char *buffer, size_t size, struct hearth_error *err);

/* ---- for a server's own event loop ---- */

/* A descriptor that polls readable (POLLIN, level-triggered) when hearth_dispatch has work. Owned by h; do not read
 * from it. The same number until hearth_close. */
HEARTH_API int hearth_fd(const struct hearth *h);

/* Handles what has arrived, without blocking, and calls the callbacks of finished requests from inside this call. A
 * blocking call on the same connection does this too while it waits. Errors: INVALID in a forked child; DISCONNECTED,
 * the daemon's reason to hang up, or PROTOCOL: the connection is dead, and requests that were under way have been done
 * with that error. */
HEARTH_API int hearth_dispatch(struct hearth *h, struct hearth_error *err);

/* ---- loading ---- */

#define HEARTH_REF_MAX 4096 /* bytes, NUL included */

/* What is known of an artifact. Units: bytes and nanoseconds (*_ns). See struct hearth_msg_info in protocol.h for each
 * field. */
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
    enum hearth_wait waits_for; /* while it is queued */
    uint64_t lacks;
    char ref[HEARTH_REF_MAX];
};

struct hearth_digest {
    const char *path; /* inside the artifact; "" for the file itself when the reference is a file */
    uint8_t sha256[32];
};

/* All fields may be zero. Nothing is kept after the call that takes it, but `progress` and `user`. */
struct hearth_load_options {
    enum hearth_verify verify; /* of what has no digest in `digests` */
    bool no_wait;              /* return once the load has begun; it then goes on although nobody waits for it */
    bool background;           /* in no hurry: what others wait for goes first, and no idle artifact has to go for it */
    bool pin;                  /* keep it in memory, now and after each start of the daemon: see hearth_pin */
    const char *const *include; /* globs against the path inside the artifact */
    size_t n_include;           /* at most HEARTH_LIST_MAX, as each n_ here */
    const char *const *exclude;
    size_t n_exclude;
    const struct hearth_digest *digests; /* always proven, whatever `verify` says */
    size_t n_digests;
    /* Called from inside hearth_load, or for hearth_load_start as `done` is, at most ten times a second. May be NULL.
     * `info` is valid during the call, and does not change in it, whatever the callback asks for. */
    void (*progress)(void *user, const struct hearth_info *info);
    void *user;
};

/* Makes the artifact resident, or with no_wait sees it on its way. `ref` is an absolute path, or an artifact's id in
 * hex. One that is resident and whose files are unchanged costs no disk I/O. `options` and `out` may be NULL. [asks]
 * Where this process has other mounts than the daemon (a container), the call looks at the path, so that the daemon can
 * tell whether both mean the same file by it; then storage that does not answer holds it up beyond the deadline.
 * Errors: all that loading can meet; err->file is the file at fault where there is one.
 *     INVALID       `ref` has not 1 to HEARTH_REF_MAX - 1 bytes; a glob or policy that is none; more than
 *                   HEARTH_LIST_MAX of a kind, or than fits one packet; no files, or too many; links in a circle; a
 *                   digest for a file that is not there
 *     NOT_FOUND, DENIED, IO    of the reference or a file, as the daemon sees it
 *     TOO_LARGE     for the daemon's budget, a limit of memory, or an index
 *     MALFORMED, UNSAFE, INTEGRITY, CHANGED, PARSER    the artifact is refused; CHANGED also where the daemon finds
 *                   another file at this path than this process
 *     UNSUPPORTED   a file is in a form of its format that this version does not read
 *     NO_MEMORY, NO_FDS    in the daemon
 *     BUSY          its storage does not answer, and too much waits for that already
 *     CANCELLED     it was evicted while it loaded, or the daemon is ending
 *     SYSTEM        the kernel refused the daemon something
 * With no_wait only those that come before reading: what fails later is told by hearth_watch and hearth_attach. */
HEARTH_API int hearth_load(struct hearth *h, const char *ref, const struct hearth_load_options *options,
                           uint64_t deadline, struct hearth_info *out, struct hearth_error *err);

/* The same without waiting for the load: `done` is called once with the result, from inside hearth_dispatch or another
 * call on this connection that waits or finds it dead, or hearth_close; on success err is NULL, else info is. Both are
 * valid during the call. The result's errors are those of hearth_load but TIMEOUT, for there is no deadline. When this
 * call itself fails, and in a forked child, `done` is never called. `options` may be NULL, `done` not.
 * Blocks only where the daemon has not read what it was asked before, about ten requests: for at most 100 ms then; and
 * where this process has other mounts than the daemon, while it looks at the path, as hearth_load does.
 * Errors: INVALID (as of hearth_load, or in a forked child), NO_MEMORY, BUSY (the daemon did not read its requests in
 * that time), DISCONNECTED, PROTOCOL or the daemon's reason to hang up. */
typedef void (*hearth_done)(void *user, const struct hearth_info *info, const struct hearth_error *err);
HEARTH_API int hearth_load_start(struct hearth *h, const char *ref, const struct hearth_load_options *options,
                                 hearth_done done, void *user, struct hearth_error *err);

/* Waits for a load that somebody started, up to its end, and hastens it if it is in the background; of one that is
 * resident it returns at once. `progress` and `out` may be NULL. [asks] Errors: NOT_FOUND (also when it has been
 * evicted), CANCELLED (evicted while it loaded, or the daemon is ending), and those of the load. */
HEARTH_API int hearth_watch(struct hearth *h, uint64_t id, void (*progress)(void *user, const struct hearth_info *info),
                            void *user, uint64_t deadline, struct hearth_info *out, struct hearth_error *err);

/* The same, but it hastens nothing. With id 0 it calls `progress` for each change of any artifact's state, until the
 * deadline, and returns TIMEOUT then; what this process does not read in time is left out. [asks] Errors: as of
 * hearth_watch. */
HEARTH_API int hearth_look_on(struct hearth *h, uint64_t id,
                              void (*progress)(void *user, const struct hearth_info *info), void *user,
                              uint64_t deadline, struct hearth_info *out, struct hearth_error *err);

/* ---- attaching ---- */

/* Takes a lease on a resident artifact and receives its index and all its files' descriptors, one each. Nothing is
 * mapped but the index. *out is the caller's, for hearth_release. [asks] After an error no lease is
 * left. Errors:
 *     NOT_FOUND     there is none of this id, or it has been evicted
 *     BUSY          it is not resident yet (see hearth_attach_stream); or other clients of this user have not read the
 * descriptors they asked for NO_FDS        this process's limit on open files, or the daemon's NO_MEMORY     here, or
 * in the daemon PROTOCOL      the index, or what should be one, cannot be trusted UNSUPPORTED   the index is of another
 * version SYSTEM        the index cannot be mapped and, of a load that failed, its error. */
HEARTH_API int hearth_attach(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_artifact **out,
                             struct hearth_error *err);

/* The same for some files only, by path inside the artifact. n == 0: the index alone, and `paths` may be NULL. A file
 * that was not asked for is fetched at its first use, which then may block up to `deadline` of the call that uses it.
 * [asks] Errors: those of hearth_attach; NOT_FOUND also for a path that is not in the artifact. */
HEARTH_API int hearth_attach_files(struct hearth *h, uint64_t id, const char *const *paths, size_t n, uint64_t deadline,
                                   struct hearth_artifact **out, struct hearth_error *err);

/* ---- streaming: attaching what is still loading ---- */

/* Attaches an artifact as soon as it is known what is in it: a load that is under way is waited for until then only
 * (hearth_load with no_wait begins one; while you stream it, it is not cancelled). One that is resident, or has small
 * files only, is attached as by hearth_attach. Until it is resident:
 *     hearth_find_tensor   waits for the tensor's bytes, and has them read before others
 *     hearth_tensor_at     gives data == NULL where the bytes are not there yet
 *     hearth_file_map, hearth_file_fd   wait for the whole file
 *     hearth_file_at       says how far what is there is verified, and has no sha256
 *     hearth_index         lacks what hearth_file_at lacks: `verified`, `sha256`
 * Bytes are given out when policy's state is reached: at once where no digest is expected or the bytes match a record
 * of what was proven before, at the file's end where only the whole file's digest is known. Descriptors of one file
 * have one offset, which all clients share: use pread or mmap. When it becomes resident all this is as for any other
 * artifact; nothing is attached again. IF THE LOAD FAILS each of these calls returns the load's error from then on, and
 * nothing of it may be used: release it.
 *
 * HEARTH_STREAM_SPECULATIVE: bytes are given out as soon as they are read, before they are proven. What was made of
 * them counts only after hearth_wait_resident has returned 0. If the load fails, this whole connection ends with the
 * load's error: every call on it returns that, and hearth_fd polls readable.
 *
 * [asks] Errors: those of hearth_attach, but BUSY (not resident); INVALID for flags that do not exist. */
#define HEARTH_STREAM_SPECULATIVE 1u
HEARTH_API int hearth_attach_stream(struct hearth *h, uint64_t id, unsigned flags, uint64_t deadline,
                                    struct hearth_artifact **out, struct hearth_error *err);

/* Waits until `length` bytes of a file from `offset` on may be used, has them read before others, and gives their
 * address. `out` may be NULL. Bytes that are there cost no call to the daemon. Of an artifact that is resident all are.
 * [asks] Errors: the load's own when it fails; INVALID (past the last file, or out of the file); those of
 * hearth_file_map. TIMEOUT leaves everything as it is: wait again. */
HEARTH_API int hearth_wait_range(struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length,
                                 uint64_t deadline, const void **out, struct hearth_error *err);

/* Waits until it is resident: all of it is there, as verified as policy asks, and will never change. [asks] Errors: the
 * load's own when it fails; PROTOCOL when it turns out not to be sealed. */
HEARTH_API int hearth_wait_resident(struct hearth_artifact *a, uint64_t deadline, struct hearth_error *err);

/* Bytes of all files. */
struct hearth_stream {
    uint64_t bytes;   /* in all */
    uint64_t landed;  /* read */
    uint64_t exposed; /* that may be used */
    bool resident;
};
/* How far it is, without waiting. [mapped] Errors: the load's own when it has failed; PROTOCOL as above. */
HEARTH_API int hearth_stream_progress(struct hearth_artifact *a, struct hearth_stream *out, struct hearth_error *err);

/* Whether a file is complete, and as verified as policy asks; for a number past the last false. [mapped] */
HEARTH_API bool hearth_file_settled(const struct hearth_artifact *a, size_t file);

/* A file's descriptor although it may still be loading: not to be read, but to be named to programs that open files by
 * paths, as /proc/PID/fd/N of a process that keeps it open. Such an open(2) waits until the file is settled: the daemon
 * holds a write lease (fcntl F_SETLEASE) that everybody shares who has this descriptor. After fs.lease-break-time
 * seconds the kernel lets it through, ready or not: whoever opened must be gone by then. F_GETLEASE says F_WRLCK while
 * nobody waits; where it says F_UNLCK from the start, opening does not wait. Owned by the artifact. -1 on failure.
 * Errors: those of hearth_file_fd, and the load's own when it has failed. [asks] if it has to be fetched. */
HEARTH_API int hearth_leased_fd(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err);

/* Unmaps, closes, gives the lease back without waiting for the daemon. Where nobody else holds the memory any more (the
 * artifact was evicted by force, or the daemon is gone) the kernel frees it in this call, which takes a while for many
 * gigabytes. NULL is allowed. Returns NULL. */
HEARTH_API struct hearth_artifact *hearth_release(struct hearth_artifact *a);

/* The mapped index: immutable, never NULL, the artifact's. Its tables lie inside of it; what their entries say is to be
 * checked by who follows it. [mapped] */
HEARTH_API const struct hearth_index_header *hearth_index(const struct hearth_artifact *a);
/* A string of the index, with its NUL; the artifact's. Never NULL: "" for one that lies outside of the index's strings
 * or has no NUL behind it. [mapped] */
HEARTH_API const char *hearth_index_string(const struct hearth_artifact *a, struct hearth_str s);

/* Its pointers are the artifact's. */
struct hearth_file {
    const char *path, *format; /* path: inside the artifact. Never NULL; format is "" when not known */
    enum hearth_role role;
    enum hearth_verified verified;
    uint64_t bytes;        /* the file's size */
    const uint8_t *sha256; /* 32 bytes, or NULL when not computed */
};

/* How many files it has: they are numbered from 0, in the order of the index. [mapped] */
HEARTH_API size_t hearth_file_count(const struct hearth_artifact *a);
/* File number `file`. Errors: INVALID past the last. [mapped] */
HEARTH_API int hearth_file_at(const struct hearth_artifact *a, size_t file, struct hearth_file *out,
                              struct hearth_error *err);
/* The number of the file with this path inside the artifact. Errors: NOT_FOUND. [mapped] */
HEARTH_API int hearth_file_find(const struct hearth_artifact *a, const char *path, size_t *out,
                                struct hearth_error *err);

/* A read-only descriptor of a file's bytes, with an offset that is this artifact's. Owned by the artifact, the same at
 * each call. Made of pages of the hugetlb pool it is longer than the file: hearth_file_at has the size. On failure -1,
 * with err set. Fetches it from the daemon if need be, waiting up to `deadline`: [asks] then.
 * Errors:
 *     INVALID       past the last file
 *     PROTOCOL      it could still change, or is not as long as the index says; the connection lives on
 *     SYSTEM        it cannot be examined
 * and, where it has to be fetched:
 *     NO_FDS        this process's limit on open files, or the daemon's
 *     BUSY          other clients of this user have not read the descriptors they asked for
 *     NO_MEMORY     in the daemon */
HEARTH_API int hearth_file_fd(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err);

/* A file's bytes, mapped shared and read-only at first use at an address that lets huge pages be mapped whole. *out is
 * never NULL, and the artifact's; hearth_file_at has the size. An empty file gives a pointer that must not be read.
 * Fetches the descriptor if need be, waiting up to `deadline`: [asks] then. Errors: those of hearth_file_fd; NO_MEMORY
 * (no address space, or too many mappings), TOO_LARGE (for this process's addresses), SYSTEM when it cannot be
 * mapped. */
HEARTH_API int hearth_file_map(struct hearth_artifact *a, size_t file, uint64_t deadline, const void **out,
                               struct hearth_error *err);

/* Its pointers are the artifact's. */
struct hearth_tensor {
    const char *name, *dtype; /* dtype: the format's own spelling, "BF16" */
    const void *data;         /* read-only; aligned as the file aligned it */
    uint64_t bytes;           /* of data */
    const uint64_t *shape;    /* n_dims sizes, in elements, outermost first */
    uint32_t n_dims;          /* 0 for a scalar */
    size_t file;              /* its number */
    uint64_t offset;          /* of the tensor in its file, in bytes */
};

/* How many tensors it has, of all its files. [mapped] */
HEARTH_API size_t hearth_tensor_count(const struct hearth_artifact *a);

/* Tensor number i, in the order of names. Maps its file if need be, without waiting for the daemon: a file that was not
 * attached gives data == NULL. Errors: INVALID (past the last); PROTOCOL (an entry that leads out of the index or its
 * file, or a descriptor that cannot be trusted; the connection lives on); NO_MEMORY, TOO_LARGE, SYSTEM as of
 * hearth_file_map. */
HEARTH_API int hearth_tensor_at(struct hearth_artifact *a, size_t i, struct hearth_tensor *out,
                                struct hearth_error *err);

/* The tensor of this name, in O(log n); `file` (a path inside the artifact) says which when several files have one of
 * that name, else NULL. Maps its file at first use; a file that was not attached is fetched, waiting up to `deadline`:
 * [asks] then. Errors: NOT_FOUND, INVALID (several files have it: name one), PROTOCOL (as of hearth_tensor_at), and
 * those of hearth_file_map. */
HEARTH_API int hearth_find_tensor(struct hearth_artifact *a, const char *file, const char *name, uint64_t deadline,
                                  struct hearth_tensor *out, struct hearth_error *err);

/* ---- looking after a daemon ---- */

/* Calls `each`, which may not be NULL, for every artifact the daemon knows, oldest first; the info is valid during the
 * call. [asks] Errors: no others. After one, `each` has been called for some. */
HEARTH_API int hearth_list(struct hearth *h, void (*each)(void *user, const struct hearth_info *info), void *user,
                           uint64_t deadline, struct hearth_error *err);

/* The same for those of one reference: SOURCE/PATH, or an absolute path as `ref` of an info has it. [asks] Errors:
 * NOT_FOUND (no source of this name; nothing listed is no error), INVALID. */
HEARTH_API int hearth_list_of(struct hearth *h, const char *ref,
                              void (*each)(void *user, const struct hearth_info *info), void *user, uint64_t deadline,
                              struct hearth_error *err);

/* See struct hearth_msg_status_reply in protocol.h for each field. */
struct hearth_status {
    uint32_t pid, clients, artifacts, leases; /* how many, but for pid; clients: connections, this one included */
    uint64_t budget_bytes, resident_bytes;    /* bytes */
    uint64_t uptime_ns;                       /* nanoseconds */
    uint64_t held_bytes, pinned_bytes;        /* bytes, of resident_bytes */
    uint64_t fds_used, fds_limit;             /* descriptors */
    uint32_t queued;                          /* loads */
    uint32_t flags;                           /* HEARTH_STATUS_* */
    char version[64], socket[256], reader[256], direct_io[128], backing[256]; /* cut where longer; "" where not told */
    char configuration[1024];                                                 /* likewise */
    uint64_t reserve_bytes, reserve_held_bytes;                               /* bytes */
    char swap[128], state[512];                                               /* as the texts above */
    char stalled[1024];                                                       /* likewise */
};
/* [asks] Errors: no others. */
HEARTH_API int hearth_get_status(struct hearth *h, uint64_t deadline, struct hearth_status *out,
                                 struct hearth_error *err);

/* A load that has ended, as of then. */
struct hearth_past {
    int64_t ended_ns;          /* nanoseconds since 1970 */
    struct hearth_info info;   /* state: RESIDENT or FAILED */
    struct hearth_error error; /* code HEARTH_OK: it ended well */
};
/* Calls `each`, which may not be NULL, for the last loads that have ended, at most `limit` of them (at least 1), newest
 * first; of one reference or id only, unless `ref` is NULL or "". The past is valid during the call. [asks] Errors:
 * INVALID (no limit, or a reference that is too long), DENIED (for root and the daemon's own user only). */
HEARTH_API int hearth_history(struct hearth *h, const char *ref, uint32_t limit,
                              void (*each)(void *user, const struct hearth_past *past), void *user, uint64_t deadline,
                              struct hearth_error *err);

/* Drops an artifact, or cancels its load. Returns when the memory of what nobody else holds has come back. With `force`
 * it goes although it is leased: nobody can attach it any more, and its memory goes with its last holder, for whom this
 * does not wait. Nor does it for a load that it cancels, whose memory goes when its reads have ended. [asks] Errors:
 * BUSY (leased, and not force; err->found names the holders; or pinned, and not force), NOT_FOUND. */
HEARTH_API int hearth_evict(struct hearth *h, uint64_t id, bool force, uint64_t deadline, struct hearth_error *err);

/* Cancels a load, whoever waits for it. [asks] Errors: BUSY (it is not under way any more, or it is pinned),
 * NOT_FOUND. */
HEARTH_API int hearth_cancel(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err);

/* Keeps an artifact in memory, now and after each start of the daemon: its reference and the files chosen. It is not
 * evicted for others, and when its files change on disk it stays until what is new is resident. [asks] Errors:
 * NOT_FOUND, DENIED (a grant is lacking). */
HEARTH_API int hearth_pin(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err);
/* Ends that. It stays resident until others need its memory. [asks] Errors: as of hearth_pin. */
HEARTH_API int hearth_unpin(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err);

/* Asks the daemon to end. Returns when it has said it will. [asks] Errors: DENIED (for root and the daemon's own user
 * only). */
HEARTH_API int hearth_stop(struct hearth *h, uint64_t deadline, struct hearth_error *err);

/* ---- names of values, as --json has them. Static strings; "unknown" for others. [any] ---- */
HEARTH_API const char *hearth_role_name(enum hearth_role v);
HEARTH_API const char *hearth_verified_name(enum hearth_verified v);
HEARTH_API const char *hearth_state_name(enum hearth_state v);
HEARTH_API const char *hearth_backing_name(enum hearth_backing v);
HEARTH_API const char *hearth_wait_name(enum hearth_wait v);
HEARTH_API const char *hearth_phase_name(enum hearth_phase v);

/* The version of the library, "0.1.0". Static. [any] */
HEARTH_API const char *hearth_version(void);

#ifdef __cplusplus
}
#endif
