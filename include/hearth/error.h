/* hearth/error.h: what an error is, everywhere in hearth.
 *
 * An error is a value: a code for programs, a sentence for people, and the facts (file, offset, what was
 * expected, what was found, what to do). The same five facts appear in C, on the wire, and as "error" in every
 * --json document. All strings are NUL-terminated and empty where there is nothing to say; the struct owns no
 * memory, so it can be copied, forked over and passed between threads like an integer.
 *
 * Functions that take a `struct hearth_error *err` return 0, or the positive hearth_code they have stored in
 * err->code. err may be NULL where the caller only wants the code.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Values and names are part of the wire format and of the JSON output: never renumber. */
enum hearth_code {
    HEARTH_OK = 0,
    HEARTH_E_SYSTEM = 1,        /* "system": the kernel refused something that should have worked */
    HEARTH_E_IO = 2,            /* "io": storage gave an error while reading */
    HEARTH_E_NO_MEMORY = 3,     /* "no_memory" */
    HEARTH_E_NO_FDS = 4,        /* "no_fds": a limit on open files was reached */
    HEARTH_E_INVALID = 5,       /* "invalid": the request itself makes no sense */
    HEARTH_E_NOT_FOUND = 6,     /* "not_found" */
    HEARTH_E_DENIED = 7,        /* "denied": permissions, or a grant that is lacking */
    HEARTH_E_TOO_LARGE = 8,     /* "too_large": it cannot fit the budget or a limit of memory */
    HEARTH_E_BUSY = 9,          /* "busy": it is held by leases, or a limit of requests under way */
    HEARTH_E_CANCELLED = 10,    /* "cancelled" */
    HEARTH_E_TIMEOUT = 11,      /* "timeout": the deadline passed first */
    HEARTH_E_NO_DAEMON = 12,    /* "no_daemon": nothing answers on the socket */
    HEARTH_E_DISCONNECTED = 13, /* "disconnected": the other side hung up */
    HEARTH_E_PROTOCOL = 14,     /* "protocol": the other side sent what the protocol does not allow */
    HEARTH_E_UNSUPPORTED = 15,  /* "unsupported" */
    HEARTH_E_MALFORMED = 16,    /* "malformed": a file breaks a rule of its format. Refused. */
    HEARTH_E_UNSAFE = 17,       /* "unsafe": a file may execute code, or leads out of the artifact. Refused. */
    HEARTH_E_INTEGRITY = 18,    /* "integrity": content differs from its expected digest. Refused. */
    HEARTH_E_CHANGED = 19,      /* "changed": a file changed while it was read. Refused. */
    HEARTH_E_PARSER = 20,       /* "parser": the parser helper died or ran over its limits. Refused. */
};

#define HEARTH_NO_OFFSET UINT64_MAX

struct hearth_error {
    enum hearth_code code;
    int sys_errno;      /* the errno behind it, or 0 */
    uint64_t offset;    /* bytes from the start of `file`, or HEARTH_NO_OFFSET */
    char message[1024]; /* one sentence, no full stop, no newline */
    char file[4096];    /* the path it is about */
    char expected[256];
    char found[256];
    char hint[512]; /* what to do about it */
};

/* The name used in JSON and logs ("not_found"); "unknown" for a code this build does not know. Static. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const char *
hearth_code_name(enum hearth_code code);

#ifdef __cplusplus
}
#endif
