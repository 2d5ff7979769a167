/* hearth/protocol.h: what goes over hearth's socket.
 *
 * Transport: a Unix socket of type SOCK_SEQPACKET. One message is one packet of at most HEARTH_PACKET_MAX bytes:
 *
 *     struct hearth_msg | fixed struct of the type | tail (arrays and strings)
 *
 * All integers are little endian. `fixed_bytes` is the size of the fixed struct the sender knows; a receiver takes
 * what both know and reads the rest as zeros, so that structs may grow at their end without a new version.
 * A `struct hearth_wire_str` points to bytes counted from the start of the packet; strings carry no NUL, neither
 * inside nor behind. A `struct hearth_wire_list` points to an array, 4-byte aligned, counted likewise.
 *
 * The client speaks first (HELLO). Every request carries a serial that the client chooses, not 0; each reply repeats
 * it. A request has exactly one final reply: the type named below, or ERROR. LOAD and WATCH may be answered by any
 * number of PROGRESS messages before. Replies to different requests may come in any order. DETACH and CANCEL, by which
 * a client gives something up, and WANT, a hint, have no reply and are never refused for a limit: there is nothing it
 * could do about it.
 *
 * File descriptors travel from daemon to client only. A client that sends any is disconnected, as is one that sends
 * what this file does not allow; the daemon says why in an ERROR first where it can. A client must read a reply
 * that carries descriptors before it asks for more: unread descriptors are bounded per connection and per user, and one
 * that reads nothing for some seconds, while others are refused theirs for that, is disconnected.
 *
 * A hang-up ends all leases of the connection. The peer's identity is SO_PEERCRED's, at connect.
 *
 * "since N" is the protocol version that introduced a message or a field.
 */
#pragma once

#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEARTH_PROTOCOL_MIN 1u
#define HEARTH_PROTOCOL_MAX 1u
#define HEARTH_PACKET_MAX 65536u   /* bytes, struct hearth_msg included */
#define HEARTH_PACKET_FDS_MAX 253u /* the kernel's SCM_MAX_FD; 254 is EINVAL */
#define HEARTH_LIST_MAX 1024u      /* entries of a list in a request */

struct hearth_msg {
    uint32_t bytes;       /* of the whole packet, this header included */
    uint16_t type;        /* enum hearth_msg_type */
    uint16_t fixed_bytes; /* of the fixed struct that follows */
    uint32_t serial;
    uint32_t reserved; /* 0 */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg) == 16, "message header layout");

struct hearth_wire_str {
    uint32_t offset; /* bytes from the start of the packet */
    uint32_t length; /* bytes */
};

struct hearth_wire_list {
    uint32_t offset; /* bytes from the start of the packet; a multiple of 4 */
    uint32_t count;  /* entries */
};

enum hearth_msg_type {
    /* requests */
    HEARTH_MSG_HELLO = 1,
    HEARTH_MSG_LOAD = 2,
    HEARTH_MSG_WATCH = 3,
    HEARTH_MSG_ATTACH = 4,
    HEARTH_MSG_FILES = 5,
    HEARTH_MSG_DETACH = 6,
    HEARTH_MSG_LIST = 7,
    HEARTH_MSG_STATUS = 8,
    HEARTH_MSG_EVICT = 9,
    HEARTH_MSG_STOP = 10,
    HEARTH_MSG_CANCEL = 11,
    HEARTH_MSG_PIN = 12,
    HEARTH_MSG_HISTORY = 13,
    HEARTH_MSG_WANT = 14,
    /* replies */
    HEARTH_MSG_ERROR = 128,
    HEARTH_MSG_WELCOME = 129,
    HEARTH_MSG_PROGRESS = 130,
    HEARTH_MSG_INFO = 131,
    HEARTH_MSG_ATTACHED = 132,
    HEARTH_MSG_FDS = 133,
    HEARTH_MSG_DONE = 134,
    HEARTH_MSG_STATUS_REPLY = 135,
    HEARTH_MSG_PAST = 136,
};

/* ---- the life of an artifact ---- */

enum hearth_state {
    HEARTH_STATE_RESOLVING = 1, /* "resolving" */
    HEARTH_STATE_QUEUED = 2,    /* "queued" */
    HEARTH_STATE_LOADING = 3,   /* "loading" */
    HEARTH_STATE_RESIDENT = 4,  /* "resident": loaded, verified as policy asks, sealed */
    HEARTH_STATE_FAILED = 5,    /* "failed" */
    HEARTH_STATE_GONE = 6,      /* "gone": evicted; clients that still hold it keep it */
};

/* What a queued load waits for. */
enum hearth_wait {
    HEARTH_WAIT_NOTHING = 0, /* it starts at once, when what is remembered of its files has been looked up */
    HEARTH_WAIT_TURN = 1,    /* "turn": others load from its storage */
    HEARTH_WAIT_MEMORY = 2,  /* "memory": room in the budget, which clients, other loads or what is going away hold */
    HEARTH_WAIT_FDS = 3,     /* "descriptors": likewise */
};

/* What holds the bytes. What was got is reported, not what was asked for. */
enum hearth_backing {
    HEARTH_BACKING_NONE = 0,       /* "none": no bytes */
    HEARTH_BACKING_SHMEM = 1,      /* "shmem": small pages */
    HEARTH_BACKING_SHMEM_HUGE = 2, /* "shmem-huge": most bytes on huge pages of shared memory */
    HEARTH_BACKING_HUGETLB = 3,    /* "hugetlb": most bytes from the hugetlb pool */
};

/* How content is to be verified while it is read. A digest that the LOAD itself gives is proven whatever this says; it
 * is about the digests that lie beside the files, and the files without one. "remembered" proves a digest once and
 * compares XXH3 from then on, as long as the file's identity (device, inode, size, mtime, ctime) stays as it was; what
 * has no digest is compared to what it was when it was last read. "xxh3" compares likewise and looks at no digest. */
enum hearth_verify {
    HEARTH_VERIFY_DEFAULT = 0,    /* what the daemon's configuration says */
    HEARTH_VERIFY_NONE = 1,       /* "none": nothing is computed */
    HEARTH_VERIFY_XXH3 = 2,       /* "xxh3": XXH3 a chunk, no SHA-256 */
    HEARTH_VERIFY_REMEMBERED = 3, /* "remembered": the same, and SHA-256 where a digest is expected */
    HEARTH_VERIFY_ALWAYS = 4,     /* "always": SHA-256 of every file, at each load */
};

/* The phases of a load, in nanoseconds since the daemon took up the request. start == end == 0: it did not occur.
 * Phases overlap: populate, read and hash run side by side. */
enum hearth_phase {
    HEARTH_PHASE_RESOLVE = 0,    /* the reference to a list of files with identities and digests */
    HEARTH_PHASE_OPEN = 1,       /* opening the files and making the blobs */
    HEARTH_PHASE_FIRST_BYTE = 2, /* the first submit to the first read that landed */
    HEARTH_PHASE_READ = 3,       /* the first submit to the last read that landed */
    HEARTH_PHASE_POPULATE = 4,   /* faulting pages in */
    HEARTH_PHASE_HASH = 5,       /* the first chunk taken up to the last one done */
    HEARTH_PHASE_PARSE = 6,      /* the helper's start to its checked index */
    HEARTH_PHASE_SEAL = 7,       /* unmapping, sealing */
    HEARTH_PHASE_PUBLISH = 8,    /* the sealed blobs to the reply */
    HEARTH_PHASES = 9,
};

struct hearth_span {
    uint64_t start_ns;
    uint64_t end_ns;
};

#define HEARTH_INFO_STALE 1u       /* a file on disk is no longer what was loaded */
#define HEARTH_INFO_DIRECT_IO 2u   /* the read was O_DIRECT */
#define HEARTH_INFO_SHARED 4u      /* this request found it resident, or joined a load under way */
#define HEARTH_INFO_PINNED 8u      /* it is not evicted for others, and is loaded again at the next start */
#define HEARTH_INFO_BACKGROUND 16u /* it loads in the background: what others wait for goes first */
#define HEARTH_INFO_HELD 32u       /* it was evicted, and clients still hold memory of it: resident_bytes */
#define HEARTH_INFO_STREAMS 64u    /* it loads, and what is there already can be used: ATTACH with STREAM */
#define HEARTH_INFO_PRELOAD 128u   /* nobody asked for it but the configuration, or a pin of an earlier run */

/* What is known of one artifact: fixed struct of PROGRESS and INFO. since 1 */
struct hearth_msg_info {
    uint64_t id;
    uint32_t state;                                     /* enum hearth_state */
    uint32_t verified;                                  /* enum hearth_verified */
    uint32_t backing;                                   /* enum hearth_backing */
    uint32_t flags;                                     /* HEARTH_INFO_* */
    uint64_t bytes;                                     /* the sum of the files' sizes */
    uint64_t resident_bytes;                            /* memory held, pages rounded up, index included */
    uint64_t huge_bytes;                                /* of those, on huge pages */
    uint64_t bytes_done;                                /* read so far */
    uint64_t from_disk, from_page_cache, from_resident; /* bytes, for the request that is answered */
    uint64_t seconds_ns;                                /* request to resident; so far, while it loads */
    uint32_t n_files;
    uint32_t leases;
    struct hearth_wire_str ref;
    struct hearth_span phases[HEARTH_PHASES];
    uint32_t waits_for; /* enum hearth_wait, while it is queued */
    uint32_t reserved;
    uint64_t lacks; /* what others hold of the memory (bytes) or the descriptors (their number) that it waits for */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg_info) == 264, "info layout");

/* ERROR: the final reply to a request that failed; serial 0 before a disconnect. since 1 */
struct hearth_msg_error {
    uint32_t code; /* enum hearth_code */
    int32_t sys_errno;
    uint64_t offset; /* HEARTH_NO_OFFSET where none */
    struct hearth_wire_str message, file, expected, found, hint;
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg_error) == 56, "error layout");

/* HELLO -> WELCOME, once, first, and at once: a connection without it is ended after a while, or when another client
 * needs its place. The daemon picks the highest version both know, else ERROR unsupported. since 1 */
struct hearth_msg_hello {
    uint32_t version_min, version_max;
    struct hearth_wire_str client; /* for logs: "hearth 0.1.0", a program's name */
};

struct hearth_msg_welcome {
    uint32_t version;
    uint32_t pid;
    struct hearth_wire_str server; /* "hearthd 0.1.0" */
    /* Where its paths lead: its mount namespace (the inode of /proc/self/ns/mnt) and its root directory. Whoever has
     * the same finds the same file at each path. 0: it does not tell. */
    uint64_t mounts, root_device, root_inode;
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg_welcome) == 40, "welcome layout");

/* LOAD -> PROGRESS*, INFO. Makes an artifact resident. Rechecks the files of one that is: if they changed, a new
 * generation loads beside the old. Several LOADs of the same files share one load. With NO_WAIT the INFO comes
 * once the reference is resolved and the load has its id; else when it is resident. PROGRESS comes at most ten
 * times a second, and only with PROGRESS asked for; the first carries the id. A LOAD ends with CANCEL and with the
 * connection, and with it the load itself when nobody else waits for it. With BACKGROUND it is in no hurry: what others
 * wait for goes before it, and it takes no resident's place; as soon as somebody else waits for the same, it is
 * hastened. With PIN it is pinned as soon as its files are known, for which the right to pin is needed: see PIN.
 *
 * Where mounts are not the daemon's, a path may mean another file. So a client that does not know better from WELCOME
 * says which one it sees there, links followed; when the daemon finds another one the answer is ERROR changed. A client
 * that sees none, or says nothing, is served what the daemon sees. since 1 */
#define HEARTH_LOAD_NO_WAIT 1u
#define HEARTH_LOAD_PROGRESS 2u
#define HEARTH_LOAD_BACKGROUND 4u
#define HEARTH_LOAD_PIN 8u
#define HEARTH_SEEN_VALID 1u
struct hearth_msg_load {
    uint32_t flags;                   /* HEARTH_LOAD_* */
    uint32_t verify;                  /* enum hearth_verify */
    struct hearth_wire_str ref;       /* an absolute path, SOURCE/PATH, or an id in hex */
    struct hearth_wire_list include;  /* struct hearth_wire_str: globs */
    struct hearth_wire_list exclude;  /* struct hearth_wire_str: globs */
    struct hearth_wire_list digests;  /* struct hearth_wire_digest: always proven, whatever `verify` says */
    uint64_t seen_device, seen_inode; /* st_dev and st_ino of what the client sees at the path */
    uint64_t seen_size;               /* of a file, bytes */
    uint32_t seen;                    /* HEARTH_SEEN_VALID: the three above say something */
    uint32_t reserved;
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg_load) == 72, "load layout");

struct hearth_wire_digest {
    struct hearth_wire_str path; /* inside the artifact */
    uint8_t sha256[32];          /* what its content must hash to */
};

/* WATCH -> PROGRESS*, INFO: follows a load that somebody started, which is hastened by that as by a LOAD; with ONLY it
 * is not. With ONLY and the id 0 it follows all artifacts: one PROGRESS for each change of a state (the state gone: it
 * is listed no more, or only as held), until it is cancelled. Those that the client does not read in time are left out.
 * since 1 */
#define HEARTH_WATCH_ONLY 1u
struct hearth_msg_watch {
    uint64_t id;
    uint32_t flags; /* HEARTH_WATCH_* */
    uint32_t reserved;
};

/* ATTACH -> ATTACHED. Takes a lease on a resident artifact; touches no storage. The reply carries the index's
 * descriptor, and behind it, with ALL, those of the files 0, 1, 2, ... as far as one packet holds. Leases are
 * counted per (connection, artifact). since 1 */
#define HEARTH_ATTACH_ALL 1u
/* With STREAM one that is still on its way can be attached too: the reply comes as soon as its index is known and says
 * STREAMING, and with the lease goes a progress page, which tells what of the files may be used (hearth/progress.h).
 * Where streaming has come too late or does not pay (an artifact of small files only), and for one that is resident, it
 * is the ordinary reply. The load is not cancelled while the lease lasts. When it fails the lease stays until DETACH,
 * and nothing of the artifact may be used. Until it is answered it can be ended by CANCEL, as a LOAD.
 *
 * SPECULATIVE, with STREAM: the client means to use bytes that have landed and are not proven. If the load fails then,
 * the daemon sends ERROR with serial 0, the load's error, and hangs up: it cannot be missed. */
#define HEARTH_ATTACH_STREAM 2u
#define HEARTH_ATTACH_SPECULATIVE 4u
struct hearth_msg_attach {
    uint64_t id;
    uint32_t flags; /* HEARTH_ATTACH_* */
    uint32_t reserved;
};

struct hearth_msg_attached {
    uint64_t id;
    uint32_t n_files; /* in the artifact */
    uint32_t n_fds;   /* file descriptors in this packet behind the index's: files 0 .. n_fds - 1 */
    uint32_t flags;   /* HEARTH_ATTACHED_* */
    uint32_t reserved;
};
/* It is still loading. The progress page's descriptor comes between the index's and the files'. The index lacks what is
 * known at the end only: `verified` and digests, which appear in it before the page says RESIDENT. Descriptors of files
 * that are not settled share one description, offset included, and opening such a file by a path waits. */
#define HEARTH_ATTACHED_STREAMING 1u

/* FILES -> FDS. Descriptors of some files of an artifact that this connection has a lease on, in the order asked for.
 * Each one is a fresh O_RDONLY description of a sealed memfd, unless the file is still loading (STREAMING). since 1 */
struct hearth_msg_files {
    uint64_t id;
    struct hearth_wire_list files; /* uint32_t: numbers in the index's files table; at most HEARTH_PACKET_FDS_MAX */
};

struct hearth_msg_fds {
    uint64_t id;
    uint32_t n_fds; /* all that were asked for */
    uint32_t reserved;
};

/* DETACH, no reply. Gives one lease back; without a lease it does nothing. since 1 */
struct hearth_msg_detach {
    uint64_t id;
};

/* LIST -> INFO*, DONE: one INFO an artifact, oldest first, all with the request's serial. They are sent as the client
 * reads: what comes or goes meanwhile may be missing. since 1 */
struct hearth_msg_list {
    uint32_t flags; /* 0 */
    uint32_t reserved;
    struct hearth_wire_str ref; /* only those of this reference, an absolute path or SOURCE/PATH; empty: all */
};
HEARTH_STATIC_ASSERT(sizeof(struct hearth_msg_list) == 16, "list layout");

struct hearth_msg_done {
    uint64_t count; /* LIST: artifacts listed. EVICT: artifacts evicted. Else 0. */
};

/* STATUS -> STATUS_REPLY. since 1 */
struct hearth_msg_status {
    uint32_t flags; /* 0 */
    uint32_t reserved;
};

#define HEARTH_STATUS_STARTING 1u /* what is pinned is not known yet: the state directory is being read */
struct hearth_msg_status_reply {
    uint32_t pid;
    uint32_t clients;   /* connections */
    uint32_t artifacts; /* resident or on their way */
    uint32_t leases;
    uint64_t budget_bytes; /* what residents may use */
    uint64_t resident_bytes;
    uint64_t uptime_ns;
    struct hearth_wire_str version; /* "0.1.0" */
    struct hearth_wire_str socket;
    struct hearth_wire_str reader;        /* "io_uring", ... and why */
    struct hearth_wire_str direct_io;     /* of the loads so far: "yes", "no: ..." or "partly: ..."; else "unknown" */
    struct hearth_wire_str backing;       /* what blobs are made of here, and why */
    struct hearth_wire_str configuration; /* the file that applies, "none"; and what was wrong when it was read again */
    uint64_t reserve_bytes;               /* memory to be held ready for loads, as configured; 0: none */
    uint64_t reserve_held_bytes;          /* what is held of it now */
    struct hearth_wire_str swap;          /* "off", or whether what is resident can be swapped out, and what keeps it */
    uint64_t held_bytes;                  /* of resident_bytes, those evicted that clients still hold */
    uint64_t pinned_bytes;                /* of resident_bytes, those of pinned artifacts */
    uint64_t fds_used, fds_limit;         /* descriptors: the budget's, and what of it artifacts use */
    uint32_t queued;                      /* loads that wait for their turn, or for memory or descriptors */
    uint32_t flags;                       /* HEARTH_STATUS_* */
    struct hearth_wire_str state;         /* where records, history and pins are kept, and how that is */
    struct hearth_wire_str stalled;       /* a file that storage has not answered about for seconds; else "" */
};

/* EVICT -> DONE. Drops an artifact by id (a reference is looked up with LIST first: it needs no storage). One with
 * leases is refused as busy, its holders named, unless FORCE: then it can be attached no more, and its memory goes with
 * its last holder. So is one that is pinned; by FORCE the pin goes with it. With CANCEL nothing but a load under way is
 * dropped: what is resident is refused. A load under way is cancelled, and its memory goes when its reads have ended.
 * DONE comes when the memory that nobody else holds has come back: at once where there is a lease or the load was under
 * way. since 1 */
#define HEARTH_EVICT_FORCE 1u
#define HEARTH_EVICT_CANCEL 2u
struct hearth_msg_evict {
    uint64_t id;
    uint32_t flags; /* HEARTH_EVICT_* */
    uint32_t reserved;
};

/* CANCEL, no reply. Ends a LOAD or WATCH of this connection, which gets ERROR cancelled as its final reply. Does
 * nothing when that has had its final reply already. since 1 */
struct hearth_msg_cancel {
    uint32_t serial; /* of the LOAD or WATCH */
    uint32_t reserved;
};

/* WANT, no reply. The client waits for these bytes of an artifact that it streams: they are read before everything else
 * of the load. Only the last few WANTs of a load count; without a lease, and for a range that does not exist, it does
 * nothing. since 1 */
struct hearth_msg_want {
    uint64_t id;
    uint64_t offset, length; /* bytes */
    uint32_t file;           /* its number in the index's files table */
    uint32_t reserved;
};

/* HISTORY -> PAST*, DONE: loads that have ended, well or not, newest first, all with the request's serial; over
 * restarts of the daemon where it has a state directory. What found its artifact resident was no load. They are sent as
 * the client reads. For the daemon's own uid and root: it tells of all users' loads. since 1 */
struct hearth_msg_history {
    uint32_t limit; /* how many at most; not 0 */
    uint32_t reserved;
    struct hearth_wire_str ref; /* only loads of this reference or id; empty: all */
};

struct hearth_msg_past {
    int64_t ended_ns;              /* CLOCK_REALTIME */
    struct hearth_msg_error error; /* code 0: it ended well */
    struct hearth_msg_info info;   /* state: RESIDENT or FAILED, as it was then. Last, for it may grow. */
};

/* PIN -> DONE. Keeps an artifact from being evicted, and has it loaded at every start, until it is unpinned: its
 * reference and the files chosen, not this state of them. When they change on disk, what is resident stays until what
 * is new is resident. since 1 */
#define HEARTH_PIN_UNPIN 1u
struct hearth_msg_pin {
    uint64_t id;
    uint32_t flags; /* HEARTH_PIN_* */
    uint32_t reserved;
};

/* STOP -> DONE: the daemon answers, then ends as on SIGTERM. For its own uid and root. since 1 */
struct hearth_msg_stop {
    uint32_t flags; /* 0 */
    uint32_t reserved;
};

#ifdef __cplusplus
}
#endif
