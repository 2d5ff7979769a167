/* util/log.h: what the daemon tells people and journald.
 *
 * On a terminal or a pipe: one line a message on stderr, "time level message (field=value ...)". Under systemd, when
 * stderr is the journal ($JOURNAL_STREAM names its device and inode): the same sentence, with the fields beside it as
 * journal fields (HEARTH_ARTIFACT=, HEARTH_FILE=, ...), by sd_journal_sendv where libsystemd is built in.
 *
 * Thread rule: any thread. Values that come from outside are made printable first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <hearth/error.h>

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 }; /* syslog's numbers */

/* Nothing here blocks, for the event loop logs: what stderr has no room for at the moment (a pipe that nobody reads, a
 * terminal that is stopped) is left out, and how much that was is said as soon as there is room. */

/* Call once, before threads. `program` is borrowed. */
void log_init(const char *program, enum log_level most);

/* Any thread. */
void log_set_level(enum log_level most);

/* stderr is a file of the log's own: it is emptied whenever it has grown by so many bytes. */
void log_bound(uint64_t bytes);

/* For what others can have logged as often as they like: a few lines a second go out, and how many more there were is
 * said with the next. All zeros to begin with. Thread rule: one thread. */
struct log_limit {
    uint64_t second;
    unsigned count;
};
/* True: log it. */
bool log_may(struct log_limit *limit);

struct log_field {
    const char *name;  /* "ARTIFACT": upper case, without HEARTH_ */
    const char *value; /* NULL: left out */
};

/* `fields` ends with a NULL name; may be NULL. */
void log_fields(enum log_level level, const struct log_field *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define log_error(...) log_fields(LOG_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_fields(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_fields(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_fields(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_fields(LOG_DEBUG, NULL, __VA_ARGS__)

/* An error value as one message: "CONTEXT: message" with all its facts as fields. */
void log_failure(enum log_level level, const char *context, const struct hearth_error *err);
