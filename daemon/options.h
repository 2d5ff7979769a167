/* daemon/options.h: what hearthd can be told, by flags and by its configuration file.
 *
 * One table of keys serves both (sources are the file's alone): `budget = 8GiB` in the file is `--budget 8GiB` on the
 * command line. Flags beat the file, the file beats the defaults. A key that is not known, given twice in the file, or
 * has a value that it does not take is an error, never a warning: a misspelt limit is not a limit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "daemon/sources.h"
#include "loader/loader.h"
#include "util/log.h"

/* Zero, or an empty string, is "not said": the default is chosen where the key is used. */
struct options {
    char socket[108];     /* as large as sun_path */
    char state_dir[1024]; /* an absolute path, or "none" */
    uint64_t budget;
    uint64_t reserve;
    enum hearth_verify verify; /* never DEFAULT */
    enum backing_choice backing;
    enum reader_choice reader;
    unsigned hash_workers;
    uint64_t bytes_in_flight;
    unsigned loads_at_once;
    bool background_evicts;
    char **preload; /* references, in order; owned */
    size_t n_preload;
    uint64_t idle_exit_ns;
    enum log_level log_level;
    char metrics[108];       /* where figures are served; "": nowhere */
    bool from_file;          /* a configuration file was read */
    struct sources *sources; /* of the file's sections; owned */
};
/* Frees what they own. May run twice. */
void options_deinit(struct options *o);
/* A copy of them owns it now. */
void options_disown(struct options *o);

#define OPTIONS_DEFAULT \
    { .verify = HEARTH_VERIFY_REMEMBERED, .loads_at_once = 8, .log_level = LOG_INFO }

/* Sets one key. Errors: NOT_FOUND (no such key), INVALID, with what was expected and found. */
int options_set(struct options *o, const char *key, const char *value, struct hearth_error *err);

/* It may be set more than once: each time adds to it. */
bool options_repeats(const char *key);

/* The number of a key in the table (0 .. OPTIONS_KEYS - 1), or -1. */
#define OPTIONS_KEYS 15
int options_key(const char *key);

/* Told of each mistake in a configuration file. */
typedef void (*config_report)(void *user, unsigned line, const struct hearth_error *err);

/* Reads a configuration file (daemon/config.c); users and groups are looked up, which may block. All mistakes go to
 * `report` (NULL: nobody); the first is returned. Errors: INVALID with the line; NOT_FOUND, DENIED, IO when the file
 * cannot be read. */
int config_read(const char *path, struct options *o, config_report report, void *user, struct hearth_error *err);

/* What the command line asks for. */
struct command_line {
    struct options options;
    const char *flags[OPTIONS_KEYS]; /* values of the command line's own; NULL where it says nothing */
    const char **preload;            /* of all flags of this name, which may be repeated; never freed */
    size_t n_preload;
    bool system;       /* the machine's daemon, not the user's */
    bool detach;       /* go to the background once clients can connect */
    char config[4096]; /* the configuration file that applies, whether it is there or not; "": none can be */
    bool config_named; /* on the command line: it must be there */
};

/* What applies now: the defaults, the configuration file, the flags. *out is the caller's, also on failure. Errors: as
 * of config_read() and options_set(). Any thread. */
int options_read(const struct command_line *c, struct options *out, struct hearth_error *err);

/* Reads the command line, and the configuration file that applies. Returns -1 to go on, else the exit status: --help,
 * --version and --check-config are done here, and so is the message about a mistake. */
int command_line_parse(int argc, char *argv[], struct command_line *out);
