/* cli/options.c: see options.h. */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

static const struct option_row {
    unsigned bit;
    char letter;
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;
} rows[] = {
    {OPTION_INCLUDE, 0, "include", "GLOB", "take only files whose path matches; may be repeated"},
    {OPTION_EXCLUDE, 0, "exclude", "GLOB", "leave out files whose path matches; may be repeated"},
    {OPTION_SHA256, 0, "sha256", "FILE=HEX", "what a file must hash to; may be repeated"},
    {OPTION_VERIFY, 0, "verify", "HOW", "none, xxh3, remembered or always"},
    {OPTION_FORCE, 0, "force", NULL, "even if programs hold it: they keep what they have"},
    {OPTION_TENSORS, 0, "tensors", NULL, "list every tensor"},
    {OPTION_INTERVAL, 0, "interval", "DURATION", "draw anew so often; default: 1s"},
    {OPTION_TRACE, 0, "trace", "FILE", "write the phases as trace events, for ui.perfetto.dev"},
    {OPTION_LINES, 'n', "lines", "N", "show so many (20)"},
    {OPTION_NO_WAIT, 0, "no-wait", NULL, "return once the load is under way; it goes on in the background"},
    {OPTION_WAIT, 0, "wait", NULL, "wait until it is resident"},
    {OPTION_LIVE, 0, "live", NULL, "ask only whether the daemon answers"},
    {OPTION_PROGRESS, 0, "progress", NULL, "show progress even if stderr is not a terminal"},
    {OPTION_QUIET, 'q', "quiet", NULL, "show neither progress nor notes"},
    {OPTION_SOCKET, 0, "socket", "PATH", "the daemon's socket; default: $HEARTH_SOCKET, the system's, yours"},
    {OPTION_TIMEOUT, 0, "timeout", "DURATION", "give up after 30s, 500ms, 2m, ..."},
    {OPTION_JSON, 0, "json", NULL, "print one JSON document"},
    {OPTION_HELP, 'h', "help", NULL, "show this help"},
    {OPTION_VERSION, 'V', "version", NULL, "show the version"},
};
#define LINES_MAX 1000000u
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* Appends one element of `size` bytes to a list that is as long as *n; NULL when there is no memory. */
static void *append(void *list, size_t *n, size_t size) {
    void **p = list;
    void *grown = reallocarray(*p, *n + 1, size);
    if (!grown)
        return NULL;
    *p = grown;
    char *entry = (char *)grown + *n * size;
    memset(entry, 0, size);
    (*n)++;
    return entry;
}

static int append_text(const char ***list, size_t *n, const char *value, struct hearth_error *err) {
    const char **entry = append(list, n, sizeof(*entry));
    if (!entry)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    *entry = value;
    return 0;
}

/* FILE=HEX, or HEX alone for a reference that is one file. FILE may have '=' in it, HEX cannot. */
static int add_digest(struct options *o, const char *value, struct hearth_error *err) {
    const char *equals = strrchr(value, '=');
    const char *hex = equals ? equals + 1 : value;
    uint8_t sha256[32];
    if (!parse_hex(hex, strlen(hex), sha256, sizeof(sha256))) {
        error_set(err, HEARTH_E_INVALID, "--sha256 needs FILE=HEX with 64 hex digits");
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    _cleanup_free_ char *path = strndup(value, equals ? (size_t)(equals - value) : 0);
    struct hearth_digest *digest = path ? append(&o->digests, &o->n_digests, sizeof(*digest)) : NULL;
    if (!digest)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    digest->path = steal_ptr(&path);
    memcpy(digest->sha256, sha256, sizeof(sha256));
    return 0;
}

static int set_verify(struct options *o, const char *value, struct hearth_error *err) {
    static const char *const names[] = {NULL, "none", "xxh3", "remembered", "always"}; /* by enum hearth_verify */
    for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value, names[i]) == 0) {
            o->verify = (enum hearth_verify)i;
            return 0;
        }
    }
    error_set(err, HEARTH_E_INVALID, "--verify needs none, xxh3, remembered or always");
    error_found(err, "%s", value);
    return HEARTH_E_INVALID;
}

static int set_lines(struct options *o, const char *value, struct hearth_error *err) {
    char *end;
    unsigned long n = value[0] >= '0' && value[0] <= '9' ? strtoul(value, &end, 10) : 0;
    if (n < 1 || n > LINES_MAX || *end) {
        error_set(err, HEARTH_E_INVALID, "--lines needs a number from 1 to %u", LINES_MAX);
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    o->lines = (unsigned)n;
    return 0;
}

static int set_timeout(struct options *o, const char *value, struct hearth_error *err) {
    if (parse_duration(value, &o->timeout_ns) != 0) {
        error_set(err, HEARTH_E_INVALID, "--timeout needs a duration such as 30s, 500ms or 2m");
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    o->has_timeout = true;
    return 0;
}

#define INTERVAL_LEAST (50 * NS_PER_MS)
#define INTERVAL_MOST (24 * 3600 * NS_PER_S)

static int set_interval(struct options *o, const char *value, struct hearth_error *err) {
    if (parse_duration(value, &o->interval_ns) != 0 || o->interval_ns < INTERVAL_LEAST ||
        o->interval_ns > INTERVAL_MOST) {
        error_set(err, HEARTH_E_INVALID, "--interval needs a duration from 50ms to 24h");
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    return 0;
}

static int apply(struct options *o, unsigned bit, const char *value, struct hearth_error *err) {
    switch (bit) {
    case OPTION_SOCKET:
        if (!value[0])
            return error_set(err, HEARTH_E_INVALID, "--socket needs a path");
        o->socket = value;
        return 0;
    case OPTION_TIMEOUT:
        return set_timeout(o, value, err);
    case OPTION_INTERVAL:
        return set_interval(o, value, err);
    case OPTION_TRACE:
        if (!value[0])
            return error_set(err, HEARTH_E_INVALID, "--trace needs a file");
        o->trace = value;
        return 0;
    case OPTION_LINES:
        return set_lines(o, value, err);
    case OPTION_VERIFY:
        return set_verify(o, value, err);
    case OPTION_SHA256:
        return add_digest(o, value, err);
    case OPTION_INCLUDE:
        return append_text(&o->include, &o->n_include, value, err);
    case OPTION_EXCLUDE:
        return append_text(&o->exclude, &o->n_exclude, value, err);
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_HELP:
        o->help = true;
        return 0;
    case OPTION_VERSION:
        o->version = true;
        return 0;
    case OPTION_QUIET:
        o->quiet = true;
        return 0;
    case OPTION_PROGRESS:
        o->progress = true;
        return 0;
    case OPTION_NO_WAIT:
        o->no_wait = true;
        return 0;
    case OPTION_WAIT:
        o->wait = true;
        return 0;
    case OPTION_LIVE:
        o->live = true;
        return 0;
    case OPTION_FORCE:
        o->force = true;
        return 0;
    default:
        o->tensors = true;
        return 0;
    }
}

static const struct option_row *find(unsigned allowed, const char *argument, size_t length) {
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!(rows[i].bit & allowed))
            continue;
        if (argument[1] == '-'
                ? strlen(rows[i].name) == length - 2 && memcmp(rows[i].name, argument + 2, length - 2) == 0
                : length == 2 && rows[i].letter && rows[i].letter == argument[1])
            return &rows[i];
    }
    return NULL;
}

/* The option at argv[*i] with its value; moves *i to the last argument it used. */
static int take_option(struct options *o, unsigned allowed, int argc, char **argv, int *i, struct hearth_error *err) {
    const char *argument = argv[*i];
    const char *value = argument[1] == '-' ? strchr(argument, '=') : NULL;
    size_t length = value ? (size_t)(value - argument) : strlen(argument);
    const struct option_row *row = find(allowed, argument, length);
    if (!row)
        return error_set(err, HEARTH_E_INVALID, "there is no option %.*s here", (int)length, argument);
    if (!row->value && value)
        return error_set(err, HEARTH_E_INVALID, "--%s takes no value", row->name);
    if (row->value && !value && *i + 1 >= argc)
        return error_set(err, HEARTH_E_INVALID, "--%s needs a value: %s", row->name, row->value);
    if (row->value)
        value = value ? value + 1 : argv[++*i];
    return apply(o, row->bit, value, err);
}

int options_parse(struct options *o, unsigned allowed, int argc, char **argv, int *stopped, struct hearth_error *err) {
    if (!stopped && !o->operands) {
        o->operands = calloc((size_t)argc + 1, sizeof(*o->operands));
        if (!o->operands)
            return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    }
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            if (stopped) {
                *stopped = i;
                return 0;
            }
            o->operands[o->n_operands++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0 && !stopped) {
            o->command = argv + i + 1;
            o->n_command = (size_t)(argc - i - 1);
            return 0;
        } else {
            int r = take_option(o, allowed, argc, argv, &i, err);
            if (r != 0)
                return r;
        }
    }
    if (stopped)
        *stopped = argc;
    return 0;
}

void options_fold_command(struct options *o) {
    for (size_t i = 0; i < o->n_command; i++)
        o->operands[o->n_operands++] = o->command[i];
    o->command = NULL;
    o->n_command = 0;
}

void options_free(struct options *o) {
    for (size_t i = 0; i < o->n_digests; i++)
        free((char *)o->digests[i].path);
    free(o->digests);
    free(o->include);
    free(o->exclude);
    free(o->operands);
    *o = (struct options){0};
}

void options_help(unsigned set, FILE *out) {
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!(rows[i].bit & set))
            continue;
        char left[40];
        snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].value ? " " : "",
                 rows[i].value ? rows[i].value : "");
        if (rows[i].letter)
            fprintf(out, "  -%c, %-20s %s\n", rows[i].letter, left, rows[i].help);
        else
            fprintf(out, "      %-20s %s\n", left, rows[i].help);
    }
}
