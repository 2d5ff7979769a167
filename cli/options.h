/* cli/options.h: the options of all verbs, in one table that the parser and --help share.
 *
 * Each verb names the set that it takes. Options and operands may be mixed; "--" ends the options. Values are checked
 * when they are parsed, so that a verb never meets a malformed one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth/hearth.h>

enum {
    OPTION_SOCKET = 1u << 0,
    OPTION_JSON = 1u << 1,
    OPTION_TIMEOUT = 1u << 2,
    OPTION_HELP = 1u << 3,
    OPTION_VERSION = 1u << 4,
    OPTION_QUIET = 1u << 5,
    OPTION_PROGRESS = 1u << 6,
    OPTION_INCLUDE = 1u << 7,
    OPTION_EXCLUDE = 1u << 8,
    OPTION_SHA256 = 1u << 9,
    OPTION_VERIFY = 1u << 10,
    OPTION_FORCE = 1u << 11,
    OPTION_TENSORS = 1u << 12,
    OPTION_INTERVAL = 1u << 13,
    OPTION_NO_WAIT = 1u << 14,
    OPTION_WAIT = 1u << 15,
    OPTION_LIVE = 1u << 16,
    OPTION_TRACE = 1u << 20,
    OPTION_LINES = 1u << 21,

    OPTIONS_ALL = OPTION_JSON | OPTION_HELP, /* every verb takes these */
    OPTIONS_DAEMON = OPTION_SOCKET | OPTION_TIMEOUT,
    OPTIONS_SELECTION = OPTION_INCLUDE | OPTION_EXCLUDE,
    OPTIONS_LOAD = OPTIONS_DAEMON | OPTION_QUIET | OPTION_PROGRESS | OPTIONS_SELECTION | OPTION_SHA256 | OPTION_VERIFY,
};

/* Borrows argv. All zero is a good start; options_free() releases the lists. */
struct options {
    const char *socket;
    bool json, help, version, quiet, progress, force, tensors, no_wait, wait, live;
    bool has_timeout;
    uint64_t timeout_ns;
    uint64_t interval_ns; /* 0: not said */
    unsigned lines;       /* 0: not said */
    const char *trace;    /* a file; NULL: none */
    enum hearth_verify verify;
    const char **include, **exclude;
    size_t n_include, n_exclude;
    struct hearth_digest *digests; /* their paths are owned */
    size_t n_digests;
    char **operands;
    size_t n_operands;
    char **command; /* what stands behind "--": NULL without one; ends with NULL, as argv does */
    size_t n_command;
};

/* Takes argv[1...] up to its end, or with *stopped up to the first operand, whose index goes there. `allowed` is a set
 * of OPTION_*. Errors: INVALID, a sentence for the user. */
int options_parse(struct options *o, unsigned allowed, int argc, char **argv, int *stopped, struct hearth_error *err);
/* Adds what stood behind "--" to the operands: every verb but `run` means that by it. */
void options_fold_command(struct options *o);
void options_free(struct options *o);

/* A line for each option of the set. */
void options_help(unsigned set, FILE *out);
