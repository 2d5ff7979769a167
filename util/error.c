/* util/error.c: see error.h. The texts of codes live here and nowhere else. */
#include "util/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[] = {
    [HEARTH_OK] = "ok",
    [HEARTH_E_SYSTEM] = "system",
    [HEARTH_E_IO] = "io",
    [HEARTH_E_NO_MEMORY] = "no_memory",
    [HEARTH_E_NO_FDS] = "no_fds",
    [HEARTH_E_INVALID] = "invalid",
    [HEARTH_E_NOT_FOUND] = "not_found",
    [HEARTH_E_DENIED] = "denied",
    [HEARTH_E_TOO_LARGE] = "too_large",
    [HEARTH_E_BUSY] = "busy",
    [HEARTH_E_CANCELLED] = "cancelled",
    [HEARTH_E_TIMEOUT] = "timeout",
    [HEARTH_E_NO_DAEMON] = "no_daemon",
    [HEARTH_E_DISCONNECTED] = "disconnected",
    [HEARTH_E_PROTOCOL] = "protocol",
    [HEARTH_E_UNSUPPORTED] = "unsupported",
    [HEARTH_E_MALFORMED] = "malformed",
    [HEARTH_E_UNSAFE] = "unsafe",
    [HEARTH_E_INTEGRITY] = "integrity",
    [HEARTH_E_CHANGED] = "changed",
    [HEARTH_E_PARSER] = "parser",
};

const char *hearth_code_name(enum hearth_code code) {
    if ((size_t)code >= sizeof(code_names) / sizeof(code_names[0]))
        return "unknown";
    return code_names[code];
}

enum hearth_code error_code_of_errno(int sys_errno) {
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
        return HEARTH_E_NOT_FOUND;
    case EACCES:
    case EPERM:
        return HEARTH_E_DENIED;
    case ENOMEM:
        return HEARTH_E_NO_MEMORY;
    case EMFILE:
    case ENFILE:
    case ETOOMANYREFS:
        return HEARTH_E_NO_FDS;
    case EIO:
    case ESTALE:
    case ENODEV:
    case ENXIO:
        return HEARTH_E_IO;
    case ETIMEDOUT:
        return HEARTH_E_TIMEOUT;
    case ECANCELED:
        return HEARTH_E_CANCELLED;
    case EPIPE:
    case ECONNRESET:
        return HEARTH_E_DISCONNECTED;
    case ELOOP:
    case ENAMETOOLONG:
        return HEARTH_E_INVALID;
    default:
        return HEARTH_E_SYSTEM;
    }
}

void error_clear(struct hearth_error *err) {
    if (!err)
        return;
    err->code = HEARTH_OK;
    err->sys_errno = 0;
    err->offset = HEARTH_NO_OFFSET;
    err->message[0] = err->file[0] = err->expected[0] = err->found[0] = err->hint[0] = '\0';
}

int error_set(struct hearth_error *err, enum hearth_code code, const char *format, ...) {
    if (!err)
        return (int)code;
    error_clear(err);
    err->code = code;
    va_list ap;
    va_start(ap, format);
    vsnprintf(err->message, sizeof(err->message), format, ap);
    va_end(ap);
    return (int)code;
}

int error_errno(struct hearth_error *err, int sys_errno, const char *format, ...) {
    enum hearth_code code = error_code_of_errno(sys_errno);
    if (!err)
        return (int)code;
    error_clear(err);
    err->code = code;
    err->sys_errno = sys_errno;
    va_list ap;
    va_start(ap, format);
    vsnprintf(err->message, sizeof(err->message), format, ap);
    va_end(ap);
    size_t used = strlen(err->message);
    char text[128];
    /* The GNU strerror_r: returns a string that need not be in the buffer. */
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", strerror_r(sys_errno, text, sizeof(text)));
    if (sys_errno == EMFILE || sys_errno == ENFILE)
        error_hint(err, "raise the %s, or free some",
                   sys_errno == EMFILE ? "limit on open files (ulimit -n, LimitNOFILE=)"
                                       : "system's limit, fs.file-max");
    return (int)code;
}

void error_at(struct hearth_error *err, const char *file, uint64_t offset) {
    if (!err)
        return;
    if (file)
        snprintf(err->file, sizeof(err->file), "%s", file);
    err->offset = offset;
}

#define DEFINE_FACT(name)                                                  \
    void error_##name(struct hearth_error *err, const char *format, ...) { \
        if (!err)                                                          \
            return;                                                        \
        va_list ap;                                                        \
        va_start(ap, format);                                              \
        vsnprintf(err->name, sizeof(err->name), format, ap);               \
        va_end(ap);                                                        \
    }
DEFINE_FACT(expected)
DEFINE_FACT(found)
DEFINE_FACT(hint)

int error_is_refusal(enum hearth_code code) {
    return code >= HEARTH_E_MALFORMED && code <= HEARTH_E_PARSER;
}
