/* cli/cli.h: what the verbs of `hearth` share.
 *
 * A verb is one file with one `struct verb`: its help and a function. The function returns 0, or the positive code of
 * the error it stored; main.c alone turns that into text or JSON and into an exit status, so that every verb fails
 * alike. What a verb prints goes to stdout through stdio; main.c flushes it and reports what could not be written.
 *
 * The program is single-threaded and blocks where it waits.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

#include "cli/options.h"
#include "cli/progress.h"
#include "util/json.h"

/* Exit statuses; `run` has its own (cli/run.c). */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_DAEMON = 3,
    EXIT_REFUSED = 4,
};

struct cli;

struct verb {
    const char *name;
    const char *operands; /* as the usage line shows them */
    const char *summary;  /* one line */
    const char *about;    /* paragraphs of --help, may be NULL */
    const char *examples; /* lines of --help */
    unsigned options;     /* OPTION_* that it takes, beside OPTIONS_ALL */
    size_t operands_min, operands_max;
    uint64_t timeout_ns; /* without --timeout; 0: waits for ever */
    int (*run)(struct cli *c, struct hearth_error *err);
};

extern const struct verb verb_load, verb_ls, verb_status, verb_inspect, verb_attach, verb_cat, verb_evict, verb_stop,
    verb_run, verb_doctor, verb_top, verb_history, verb_time, verb_wait, verb_cancel, verb_watch, verb_pin, verb_unpin,
    verb_health;

struct cli {
    const struct verb *verb;
    struct options options;
    uint64_t deadline;    /* of the whole command, by --timeout or the verb's own */
    int status;           /* exit status of success; `run` sets the program's */
    bool error_in_output; /* the verb's own document already carries the error */
    bool output_taken;    /* stdout carries something that no document may follow: errors go to stderr */
    int interrupted;      /* the signal that ended a wait, or 0 */
};

/* ---- help.c ---- */
const struct verb *verb_find(const char *name); /* NULL when there is none */
void help_program(FILE *out);
void help_verb(const struct verb *v, FILE *out);

/* ---- report.c ---- */

/* Starts a document: `{"schema": 1`, indented where a person reads it. End it with json_object_end(). */
void document_begin(struct json *j);
/* "key": value. */
void document_text(struct json *j, const char *key, const char *value);
void document_number(struct json *j, const char *key, uint64_t value);
void document_id(struct json *j, uint64_t id);
/* 10^9 bytes that were read for this request, a second: 0 for what was resident already. */
double load_rate(const struct hearth_info *info);
/* All that is said of a load, in an object that is open. */
void document_load(struct json *j, const struct hearth_info *info);
/* Says on stderr what failed, and with --json as a document on stdout where the verb has not done so. */
void report_error(const struct cli *c, const struct hearth_error *err);
/* The exit status that an error stands for, `run` included. */
int exit_status_of(const struct cli *c, const struct hearth_error *err);
/* Flushes and closes stdout. 0, or an error; HEARTH_E_DISCONNECTED when its reader has gone, which is no news. */
int output_finish(struct hearth_error *err);
/* One line for a person on stderr, unless --quiet. */
void note(const struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- connect.c ---- */

/* Connects to the daemon that the options and the environment name. With may_start, starts the user's own when none
 * answers, and says so. Errors: those of hearth_connect(), and of starting it. */
int cli_connect(struct cli *c, bool may_start, struct hearth **out, struct hearth_error *err);

/* Locals that hang up and release by themselves. Declare the connection first: locals go in reverse order. */
static inline void cleanup_connection(struct hearth **h) {
    hearth_close(*h);
}
static inline void cleanup_artifact(struct hearth_artifact **a) {
    hearth_release(*a);
}

/* ---- autostart.c ---- */

/* Starts hearthd for this user on that socket and returns when it answers. Errors: NOT_FOUND (no hearthd), SYSTEM,
 * TIMEOUT; the daemon's own words are the message. */
int autostart(const char *socket, uint64_t deadline, struct hearth_error *err);

/* ---- loading.c ---- */

/* Loads an artifact by the options, showing progress, until it is resident. SIGINT, SIGTERM and SIGHUP end the wait
 * with CANCELLED (c->interrupted says which), and the load with it: then, and at the deadline, *h is hung up and NULL.
 * `argument` is a reference or an id. */
int cli_load(struct cli *c, struct hearth **h, const char *argument, struct hearth_info *out, struct hearth_error *err);

/* A load under way: to be kept until its connection has been closed. */
struct loading {
    struct progress progress;
    uint64_t id;              /* 0: not known yet */
    struct hearth_info *info; /* what it was, in the end; may be NULL */
    struct hearth_error *err; /* why it failed; may be NULL */
    bool done;
    int result;
};
/* Begins one, and returns when it has its id. It goes on as long as the connection; its progress is shown meanwhile, in
 * whatever asks or dispatches. `loading` is all zero. Errors: those of cli_load(). */
int cli_load_begin(struct cli *c, struct hearth *h, const char *argument, struct loading *loading,
                   struct hearth_error *err);

/* What a signalfd of catch_interrupts() reads, as an error; 0 when there was nothing. */
int cli_interrupted(struct cli *c, int signals, struct hearth_error *err);
/* Blocks SIGINT, SIGTERM and SIGHUP and returns a signalfd that reads them, or -1 with err set. *former is the mask
 * before; may be NULL. */
int catch_interrupts(sigset_t *former, struct hearth_error *err);

/* ---- open.c ---- */

/* Connects and attaches what the argument names, for programs of this process to use: a path is loaded first, an id is
 * taken as it is. With `index_only` files are fetched when they are first used. Both *h and *out are the caller's, also
 * after an error; *h may be a connection that is already there. */
int cli_open(struct cli *c, const char *argument, bool index_only, struct hearth **h, struct hearth_artifact **out,
             struct hearth_error *err);

/* Allows this process as many open files as the hard limit does: an artifact may have thousands. Returns the former
 * soft limit, for a child that should not inherit ours. */
uint64_t raise_fd_limit(void);

/* ---- lookup.c ---- */

/* Every artifact the daemon knows, in the order of references. *out is malloc'd. */
int cli_list(struct cli *c, struct hearth *h, struct hearth_info **out, size_t *n, struct hearth_error *err);

/* The artifacts that an argument names: an id, a path, or a ref as `ls` shows it (all its generations). *out is
 * malloc'd. Errors: NOT_FOUND. */
int cli_lookup(struct cli *c, struct hearth *h, const char *argument, struct hearth_info **out, size_t *n,
               struct hearth_error *err);

/* ---- several.c ---- */

/* What a verb does to each of several artifacts. */
struct several {
    const char *done; /* "evicted": begins each line, and is the key of the document's list */
    bool (*concerns)(const struct hearth_info *a); /* NULL: all that an argument names */
    const char *concerns_none;                     /* what is wrong where it concerns none of those */
    int (*act)(struct cli *c, struct hearth *h, struct hearth_info *a, struct hearth_error *err);
};
/* Looks all operands up, then does it to each; prints what was done. */
int cli_several(struct cli *c, const struct several *verb, struct hearth_error *err);

/* ---- reference.c ---- */

/* True when the argument is not a path that exists but an id. */
bool argument_is_id(const char *argument, uint64_t *id);
/* The argument as an absolute path, whether or not it exists. */
int absolute_path(const char *argument, char *out, size_t size, struct hearth_error *err);
