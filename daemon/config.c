/* daemon/config.c: the configuration file, read with inih.
 *
 * The file is flat: `key = value`, comments from '#' or ';' on. inih leaves some things to its caller, and the reader
 * below does them on each line before inih sees it: it counts lines, so that every mistake can be named by its own; it
 * refuses a line longer than inih's buffer, which inih would cut in two; it refuses NULs, which would end a line early;
 * it refuses sections, which inih would not mention while they are empty; and it strips what may stand in front, blanks
 * and a byte order mark, so that inih never takes a line for the continuation of the one above.
 */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/options.h"
#include "util/cleanup.h"
#include "util/error.h"

struct reading {
    FILE *file;
    const char *path;
    struct options *options;
    config_report report;
    void *user;
    struct hearth_error *err; /* where the first mistake goes */
    char *line;               /* getline's */
    size_t capacity;
    unsigned line_number;
    unsigned refused_first;         /* the first line that take() refused: inih will name it, too */
    unsigned seen_at[OPTIONS_KEYS]; /* the line a key was set on */
    int result;
};

static void mistake(struct reading *r, unsigned line, struct hearth_error *e) {
    if (r->report)
        r->report(r->user, line, e);
    if (r->result)
        return;
    r->result = error_set(r->err, HEARTH_E_INVALID, "line %u: %s", line, e->message);
    error_at(r->err, r->path, HEARTH_NO_OFFSET);
    error_expected(r->err, "%s", e->expected);
    error_found(r->err, "%s", e->found);
    error_hint(r->err, "hearthd --check-config %s lists every mistake", r->path);
}

static void mistake_in_line(struct reading *r, unsigned line, const char *what, const char *expected) {
    struct hearth_error e = HEARTH_ERROR_INIT;
    error_set(&e, HEARTH_E_INVALID, "%s", what);
    error_expected(&e, "%s", expected);
    mistake(r, line, &e);
}

/* One line for inih, at most `size` bytes with its NUL. */
static char *read_line(char *buffer, int size, void *stream) {
    struct reading *r = stream;
    ssize_t n = getline(&r->line, &r->capacity, r->file);
    if (n < 0)
        return NULL;
    r->line_number++;
    buffer[0] = '\0';
    if (memchr(r->line, '\0', (size_t)n)) {
        mistake_in_line(r, r->line_number, "a NUL byte in a line", "text");
        return buffer;
    }
    const char *start = r->line;
    if (r->line_number == 1 && strncmp(start, "\xef\xbb\xbf", 3) == 0)
        start += 3;
    start += strspn(start, " \t");
    if (strlen(start) >= (size_t)size)
        mistake_in_line(r, r->line_number, "the line is too long", "at most 198 bytes");
    else if (start[0] == '[')
        mistake_in_line(r, r->line_number, "there are no sections", "key = value");
    else
        strcpy(buffer, start);
    return buffer;
}

static int take(void *user, const char *section, const char *name, const char *value) {
    struct reading *r = user;
    struct hearth_error e = HEARTH_ERROR_INIT;
    int key = options_key(name);
    (void)section; /* there is none: read_line() refused it */
    if (key >= 0 && r->seen_at[key]) {
        error_set(&e, HEARTH_E_INVALID, "%s was set before, on line %u", name, r->seen_at[key]);
        error_expected(&e, "each key once");
        error_found(&e, "%s", name);
    } else if (options_set(r->options, name, value, &e) == 0) {
        r->seen_at[key] = r->line_number;
        return 1;
    }
    if (!r->refused_first)
        r->refused_first = r->line_number;
    mistake(r, r->line_number, &e);
    return 0;
}

int config_read(const char *path, struct options *o, config_report report, void *user, struct hearth_error *err) {
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    if (!file) {
        int code = error_errno(err, errno, "the configuration file cannot be opened");
        error_at(err, path, HEARTH_NO_OFFSET);
        return code;
    }
    struct stat st; /* a device may have no end */
    if (fstat(fileno(file), &st) < 0 || !(S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISDIR(st.st_mode))) {
        error_set(err, HEARTH_E_SYSTEM, "the configuration file is no file");
        error_at(err, path, HEARTH_NO_OFFSET);
        return HEARTH_E_SYSTEM;
    }
    struct reading r = {.file = file, .path = path, .options = o, .report = report, .user = user, .err = err};
    int line = ini_parse_stream(read_line, &r, take, &r);
    if (ferror(file) || !feof(file)) { /* without an end or an error, memory has run out */
        r.result = error_errno(err, errno, "the configuration file cannot be read");
        error_at(err, path, HEARTH_NO_OFFSET);
    } else if (line > 0 && (unsigned)line != r.refused_first) { /* the first line that inih itself could not read */
        mistake_in_line(&r, (unsigned)line, "the line is not a setting", "key = value");
    } else if (line < 0 && !r.result) {
        r.result = error_set(err, HEARTH_E_NO_MEMORY, "no memory to read the configuration file");
    }
    free(r.line);
    return r.result;
}
