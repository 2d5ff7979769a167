/* daemon/config.c: the configuration file, read with inih.
 *
 * `key = value`, comments from '#' or ';' on; below the daemon's own keys, one section a source (daemon/sources.h).
 * inih leaves some things to its caller, and the reader below does them on each line before inih sees it: it counts
 * lines, so that every mistake can be named by its own; it refuses a line longer than inih's buffer, which inih would
 * cut in two; it refuses NULs, which would end a line early; it takes the lines that begin a section itself, as inih
 * would cut long names, not mention sections that are empty, and not look at what stands behind the ']'; and it strips
 * what may stand in front, blanks and a byte order mark, so that inih never takes a line for the continuation of the
 * one above.
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
    unsigned section_line;          /* where the section begins; 0: none has */
    bool section_is_good;           /* else nothing in it can be */
    unsigned section_seen_at[SOURCE_KEYS];
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

/* The source that the section is about. */
static struct source *section_source(const struct reading *r) {
    return &r->options->sources->list[r->options->sources->n - 1];
}

static void end_section(struct reading *r) {
    struct hearth_error e = HEARTH_ERROR_INIT;
    if (!r->section_is_good || r->section_seen_at[source_key("path")])
        return;
    error_set(&e, HEARTH_E_INVALID, "source %s has no path", section_source(r)->name);
    error_expected(&e, "path = DIRECTORY below [source %s]", section_source(r)->name);
    mistake(r, r->section_line, &e);
}

/* "[source NAME]", whose '[' is there. */
static void begin_section(struct reading *r, const char *line) {
    char text[128], nothing[1] = "", *end, *next = text, *kind, *name;
    struct source *source;
    struct hearth_error e = HEARTH_ERROR_INIT;
    end_section(r);
    r->section_line = r->line_number;
    r->section_is_good = false;
    memset(r->section_seen_at, 0, sizeof(r->section_seen_at));
    snprintf(text, sizeof(text), "%s", line + 1);
    end = strchr(text, ']');
    const char *behind = end ? end + 1 + strspn(end + 1, " \t\r\n") : "";
    if (!end || (*behind && *behind != ';' && *behind != '#')) {
        mistake_in_line(r, r->line_number, "the line is no section", "[source NAME]");
        return;
    }
    *end = '\0';
    do
        kind = strsep(&next, " \t");
    while (kind && !*kind);
    name = next ? next + strspn(next, " \t") : nothing;
    for (size_t n = strlen(name); n > 0 && strchr(" \t", name[n - 1]); n--)
        name[n - 1] = '\0';
    if (!kind || strcmp(kind, "source") != 0) {
        error_set(&e, HEARTH_E_INVALID, "there is no section [%.64s]", kind ? kind : "");
        error_expected(&e, "[source NAME]");
        error_found(&e, "%s", line);
    } else {
        sources_add(&r->options->sources, name, &source, &e);
    }
    r->section_is_good = e.code == 0;
    if (e.code)
        mistake(r, r->line_number, &e);
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
        begin_section(r, start);
    else
        strcpy(buffer, start);
    return buffer;
}

/* Keys of the section that the line is in, or of the daemon. */
static int set(struct reading *r, const char *name, const char *value, struct hearth_error *e) {
    bool section = r->section_line > 0;
    int key = section ? source_key(name) : options_key(name);
    unsigned *seen_at = key < 0 ? NULL : section ? &r->section_seen_at[key] : &r->seen_at[key];
    if (seen_at && *seen_at && (section || !options_repeats(name))) {
        error_set(e, HEARTH_E_INVALID, "%s was set before, on line %u", name, *seen_at);
        error_expected(e, "each key once");
        error_found(e, "%s", name);
        return HEARTH_E_INVALID;
    }
    if (seen_at)
        *seen_at = r->line_number;
    return section ? source_set(r->options->sources, section_source(r), name, value, e)
                   : options_set(r->options, name, value, e);
}

static int take(void *user, const char *no_section, const char *name, const char *value) {
    struct reading *r = user;
    struct hearth_error e = HEARTH_ERROR_INIT;
    (void)no_section; /* read_line() takes them */
    if ((r->section_line && !r->section_is_good) || set(r, name, value, &e) == 0)
        return 1;
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
    end_section(&r);
    free(r.line);
    return r.result;
}
