/* util/log.c: see log.h. */
#include "util/log.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>
#endif

#include "util/clock.h"
#include "util/text.h"

#define FIELDS_MAX 12
#define VALUE_BYTES 4200
#define LIMIT_A_SECOND 10u

static const char *log_program = "hearth";
static atomic_int log_most = LOG_INFO;
static bool to_journal;
static uint64_t file_most, file_bytes;
static atomic_uint left_out;

void log_bound(uint64_t bytes) {
    file_most = bytes;
}

/* True when stderr is the stream that systemd connected to the journal. */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}

void log_set_level(enum log_level most) {
    atomic_store_explicit(&log_most, (int)most, memory_order_relaxed);
}

bool log_may(struct log_limit *limit) {
    uint64_t second = clock_now() / NS_PER_S;
    if (second != limit->second) {
        unsigned more = limit->count > LIMIT_A_SECOND ? limit->count - LIMIT_A_SECOND : 0;
        *limit = (struct log_limit){.second = second};
        if (more)
            log_notice("%u more of these were not logged", more);
    }
    return limit->count++ < LIMIT_A_SECOND;
}

void log_init(const char *program, enum log_level most) {
    log_program = program;
    log_set_level(most);
    to_journal = stderr_is_journal();
}

#ifdef HAVE_SYSTEMD
static bool send_to_journal(enum log_level level, const char *message, const struct log_field *fields) {
    char texts[FIELDS_MAX][VALUE_BYTES];
    struct iovec iov[FIELDS_MAX];
    int n = 0;
    snprintf(texts[n++], VALUE_BYTES, "MESSAGE=%s", message);
    snprintf(texts[n++], VALUE_BYTES, "PRIORITY=%d", (int)level);
    snprintf(texts[n++], VALUE_BYTES, "SYSLOG_IDENTIFIER=%s", log_program);
    for (; fields && fields->name && n < FIELDS_MAX; fields++)
        if (fields->value)
            snprintf(texts[n++], VALUE_BYTES, "HEARTH_%s=%s", fields->name, fields->value);
    for (int i = 0; i < n; i++)
        iov[i] = (struct iovec){texts[i], strlen(texts[i])};
    return sd_journal_sendv(iov, n) >= 0;
}
#else
static bool send_to_journal(enum log_level level, const char *message, const struct log_field *fields) {
    (void)level, (void)message, (void)fields;
    return false;
}
#endif

/* Appends to a line of fixed size; what does not fit is cut. */
static void append(char *line, size_t size, const char *format, ...) {
    size_t used = strlen(line);
    va_list ap;
    va_start(ap, format);
    vsnprintf(line + used, size - used, format, ap);
    va_end(ap);
}

/* One write, so that lines of several threads do not mix, and no more than a pipe with room for anything takes at once.
 * There is nobody to tell when it fails. */
static bool print_some(const char *text, size_t length) {
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 0)
        return false;
    ssize_t ignored = write(STDERR_FILENO, text, length);
    (void)ignored;
    return true;
}

static void print_line(const char *line) {
    char lost[64];
    unsigned n = atomic_exchange(&left_out, 0);
    if (n > 0) {
        snprintf(lost, sizeof(lost), "%s: %u lines of the log were left out\n", log_program, n);
        if (!print_some(lost, strlen(lost))) {
            atomic_fetch_add(&left_out, n + 1);
            return;
        }
    }
    size_t length = strlen(line);
    for (size_t done = 0; done < length;) {
        size_t piece = length - done < PIPE_BUF ? length - done : PIPE_BUF;
        if (!print_some(line + done, piece)) {
            atomic_fetch_add(&left_out, 1);
            return;
        }
        done += piece;
    }
    if (file_most > 0 && (file_bytes += length) > file_most) {
        file_bytes = 0;
        (void)!ftruncate(STDERR_FILENO, 0);
    }
}

static void send_to_stderr(enum log_level level, const char *message, const struct log_field *fields) {
    static const char *const words[] = {[LOG_ERROR] = "error",
                                        [LOG_WARNING] = "warning",
                                        [LOG_NOTICE] = "notice",
                                        [LOG_INFO] = "info",
                                        [LOG_DEBUG] = "debug"};
    char line[8192];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(line, sizeof(line), "%H:%M:%S", &tm);
    append(line, sizeof(line) - 1, ".%03ld %s: %s: %s", now.tv_nsec / 1000000, log_program, words[level], message);
    const char *mark = " (";
    for (; fields && fields->name; fields++) {
        if (!fields->value)
            continue;
        char value[1024], name[32];
        size_t n = 0;
        for (; fields->name[n] && n + 1 < sizeof(name); n++) /* field names are ASCII capitals */
            name[n] = (char)(fields->name[n] | (fields->name[n] >= 'A' && fields->name[n] <= 'Z' ? 0x20 : 0));
        name[n] = '\0';
        format_printable(fields->value, strlen(fields->value), value, sizeof(value));
        append(line, sizeof(line) - 1, "%s%s=%s", mark, name, value);
        mark = ", ";
    }
    append(line, sizeof(line) - 1, "%s", mark[0] == ',' ? ")" : "");
    append(line, sizeof(line), "\n");
    print_line(line);
}

void log_fields(enum log_level level, const struct log_field *fields, const char *format, ...) {
    if ((int)level > atomic_load_explicit(&log_most, memory_order_relaxed))
        return;
    char raw[2048], message[4096];
    va_list ap;
    va_start(ap, format);
    vsnprintf(raw, sizeof(raw), format, ap);
    va_end(ap);
    format_printable(raw, strlen(raw), message, sizeof(message));
    if (!to_journal || !send_to_journal(level, message, fields))
        send_to_stderr(level, message, fields);
}

void log_failure(enum log_level level, const char *context, const struct hearth_error *err) {
    char offset[24];
    snprintf(offset, sizeof(offset), "%" PRIu64, err->offset);
    const struct log_field fields[] = {
        {"CODE", hearth_code_name(err->code)},
        {"FILE", err->file[0] ? err->file : NULL},
        {"OFFSET", err->offset != HEARTH_NO_OFFSET ? offset : NULL},
        {"EXPECTED", err->expected[0] ? err->expected : NULL},
        {"FOUND", err->found[0] ? err->found : NULL},
        {"HINT", err->hint[0] ? err->hint : NULL},
        {NULL, NULL},
    };
    log_fields(level, fields, "%s: %s", context, err->message);
}
