/* daemon/options.c: the table of keys, and the command line. See options.h. */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/detach.h"
#include "daemon/metrics_listen.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

/* ---- values ---- */

static int set_socket(struct options *o, const char *value) {
    if (value[0] != '/' || strlen(value) >= sizeof(o->socket))
        return -EINVAL;
    strcpy(o->socket, value);
    return 0;
}

static int set_state_dir(struct options *o, const char *value) {
    if ((value[0] != '/' && strcmp(value, "none") != 0) || strlen(value) >= sizeof(o->state_dir))
        return -EINVAL;
    strcpy(o->state_dir, value);
    return 0;
}

static int set_budget(struct options *o, const char *value) {
    int r = parse_size(value, &o->budget);
    return r < 0 ? r : o->budget > 0 ? 0 : -EINVAL;
}

static int set_reserve(struct options *o, const char *value) {
    return parse_size(value, &o->reserve);
}

/* The place of value in a list of words, or -EINVAL. */
static int word(const char *value, const char *const *words, int n) {
    for (int i = 0; i < n; i++)
        if (words[i] && strcmp(words[i], value) == 0)
            return i;
    return -EINVAL;
}
#define WORD(value, words) word(value, words, (int)(sizeof(words) / sizeof((words)[0])))

static int set_verify(struct options *o, const char *value) {
    static const char *const words[] = {[HEARTH_VERIFY_NONE] = "none",
                                        [HEARTH_VERIFY_XXH3] = "xxh3",
                                        [HEARTH_VERIFY_REMEMBERED] = "remembered",
                                        [HEARTH_VERIFY_ALWAYS] = "always"};
    int i = WORD(value, words);
    if (i >= 0)
        o->verify = (enum hearth_verify)i;
    return i < 0 ? i : 0;
}

static int set_backing(struct options *o, const char *value) {
    static const char *const words[] = {
        [BACKING_AUTO] = "auto", [BACKING_SMALL] = "small", [BACKING_HUGETLB] = "hugetlb"};
    int i = WORD(value, words);
    if (i >= 0)
        o->backing = (enum backing_choice)i;
    return i < 0 ? i : 0;
}

static int set_reader(struct options *o, const char *value) {
    static const char *const words[] = {[READER_AUTO] = "auto", [READER_URING] = "io_uring", [READER_PREAD] = "pread"};
    int i = WORD(value, words);
    if (i >= 0)
        o->reader = (enum reader_choice)i;
    return i < 0 ? i : 0;
}

static int set_log_level(struct options *o, const char *value) {
    static const char *const words[] = {[LOG_ERROR] = "error",
                                        [LOG_WARNING] = "warning",
                                        [LOG_NOTICE] = "notice",
                                        [LOG_INFO] = "info",
                                        [LOG_DEBUG] = "debug"};
    int i = WORD(value, words);
    if (i >= 0)
        o->log_level = (enum log_level)i;
    return i < 0 ? i : 0;
}

static int parse_count(const char *value, unsigned most, unsigned *out) {
    char *end;
    if (value[0] < '0' || value[0] > '9')
        return -EINVAL;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (errno || *end || n < 1 || n > most)
        return -EINVAL;
    *out = (unsigned)n;
    return 0;
}

static int set_hash_workers(struct options *o, const char *value) {
    return parse_count(value, 1024, &o->hash_workers);
}

static int set_loads_at_once(struct options *o, const char *value) {
    return parse_count(value, 1024, &o->loads_at_once);
}

static int set_background_evicts(struct options *o, const char *value) {
    static const char *const words[] = {"no", "yes"};
    int i = WORD(value, words);
    if (i >= 0)
        o->background_evicts = i == 1;
    return i < 0 ? i : 0;
}

static int set_preload(struct options *o, const char *value) {
    if (!value[0] || strlen(value) >= PATH_MAX)
        return -EINVAL;
    char **more = reallocarray(o->preload, o->n_preload + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    o->preload = more;
    if (!(more[o->n_preload] = strdup(value)))
        return -ENOMEM;
    o->n_preload++;
    return 0;
}

static int set_bytes_in_flight(struct options *o, const char *value) {
    uint64_t bytes;
    int r = parse_size(value, &bytes);
    if (r < 0 || bytes < UINT64_C(1) << 20 || bytes > UINT64_C(1) << 32)
        return -EINVAL;
    o->bytes_in_flight = bytes;
    return 0;
}

#define IDLE_EXIT_MOST (UINT64_C(100) * 366 * 24 * 3600 * NS_PER_S) /* sums with the clock do not wrap */

static int set_idle_exit(struct options *o, const char *value) {
    int r = parse_duration(value, &o->idle_exit_ns);
    return r < 0 ? r : o->idle_exit_ns > 0 && o->idle_exit_ns <= IDLE_EXIT_MOST ? 0 : -EINVAL;
}

static int set_metrics(struct options *o, const char *value) {
    if (!metrics_address_is_valid(value) || strlen(value) >= sizeof(o->metrics))
        return -EINVAL;
    strcpy(o->metrics, value);
    return 0;
}

static const struct key {
    const char *name;
    int (*set)(struct options *, const char *value); /* 0 or -errno */
    const char *argument, *expected, *help;
} keys[OPTIONS_KEYS] = {
    {"socket", set_socket, "PATH", "an absolute path of at most 107 bytes", "listen here"},
    {"budget", set_budget, "SIZE", "a size above 0, as 8GiB", "memory that artifacts may hold (80 % of what is free)"},
    {"reserve", set_reserve, "SIZE", "a size, as 4GiB, or 0", "memory held ready for loads while idle (0)"},
    {"verify", set_verify, "POLICY", "none, xxh3, remembered or always", "how content is verified (remembered)"},
    {"backing", set_backing, "KIND", "auto, small or hugetlb", "what memory is made of (auto: huge pages)"},
    {"reader", set_reader, "KIND", "auto, io_uring or pread", "what reads files (auto: io_uring, else threads)"},
    {"hash-workers", set_hash_workers, "N", "a number from 1 to 1024", "hashing threads (one a core)"},
    {"bytes-in-flight", set_bytes_in_flight, "SIZE", "a size from 1MiB to 4GiB", "reads under way at once (64MiB)"},
    {"loads-at-once", set_loads_at_once, "N", "a number from 1 to 1024", "artifacts loading side by side (8)"},
    {"preload", set_preload, "REF", "an absolute path, or SOURCE/PATH", "load this at the start; may be repeated"},
    {"background-evicts", set_background_evicts, "YES|NO", "yes or no",
     "background loads may evict what nobody uses (no)"},
    {"idle-exit", set_idle_exit, "TIME", "a time above 0, as 30m, of 100 years at most",
     "end after so long without lease and load (never)"},
    {"state-dir", set_state_dir, "PATH", "an absolute path of at most 1023 bytes, or none",
     "what is to outlast a restart (~/.local/state/hearth)"},
    {"log-level", set_log_level, "LEVEL", "error, warning, notice, info or debug", "what is logged (info)"},
    {"metrics", set_metrics, "WHERE", "the absolute path of a socket, 127.0.0.1:PORT or [::1]:PORT",
     "serve figures for Prometheus (nowhere)"},
};

bool options_repeats(const char *key) {
    return strcmp(key, "preload") == 0;
}

int options_key(const char *key) {
    for (int i = 0; i < OPTIONS_KEYS; i++)
        if (strcmp(keys[i].name, key) == 0)
            return i;
    return -1;
}

int options_set(struct options *o, const char *key, const char *value, struct hearth_error *err) {
    int i = options_key(key);
    if (i < 0) {
        char names[sizeof(err->expected)] = "one of ";
        for (int k = 0; k < OPTIONS_KEYS; k++) {
            strncat(names, keys[k].name, sizeof(names) - strlen(names) - 1);
            strncat(names, k + 1 < OPTIONS_KEYS ? ", " : "", sizeof(names) - strlen(names) - 1);
        }
        error_set(err, HEARTH_E_NOT_FOUND, "there is no key '%.64s'", key);
        error_expected(err, "%s", names);
        error_found(err, "%s", key);
        return HEARTH_E_NOT_FOUND;
    }
    if (keys[i].set(o, value) < 0) {
        error_set(err, HEARTH_E_INVALID, "%s does not take '%.128s'", key, value);
        error_expected(err, "%s", keys[i].expected);
        error_found(err, "%s", value);
        return HEARTH_E_INVALID;
    }
    return 0;
}

void options_disown(struct options *o) {
    o->sources = NULL;
    o->preload = NULL;
    o->n_preload = 0;
}

void options_deinit(struct options *o) {
    for (size_t i = 0; i < o->n_preload; i++)
        free(o->preload[i]);
    free(o->preload);
    sources_free(o->sources);
    options_disown(o);
}

/* ---- the command line ---- */

enum { OPT_KEY = 0x100, OPT_CONFIG = 0x200, OPT_CHECK, OPT_SYSTEM, OPT_DETACH, OPT_HELP, OPT_VERSION };

static void usage(FILE *to) {
    fprintf(to, "usage: hearthd [OPTION...]\n"
                "Keeps AI model artifacts in verified, shared memory and hands them to processes.\n\n"
                "  --config FILE          read this file, not the default one\n"
                "  --check-config [FILE]  say what is wrong with it, and end\n"
                "  --system               be the machine's daemon, not the user's\n"
                "  --detach               go to the background once clients can connect\n"
                "  --help, --version\n\n"
                "Each key of the configuration file is a flag too, and beats the file:\n");
    for (int i = 0; i < OPTIONS_KEYS; i++) {
        char flag[32];
        snprintf(flag, sizeof(flag), "--%s %s", keys[i].name, keys[i].argument);
        fprintf(to, "  %-22s %s\n", flag, keys[i].help);
    }
}

static void print_mistake(void *user, unsigned line, const struct hearth_error *err) {
    char message[2 * sizeof(err->message)];
    format_printable(err->message, strlen(err->message), message, sizeof(message));
    fprintf(stderr, "%s:%u: %s; expected %s\n", (const char *)user, line, message, err->expected);
}

/* The file that applies when none is named: /etc/hearth/hearthd.conf, or the user's. "": nowhere. */
static void default_config(bool system, char *path, size_t size) {
    const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;
    if (system)
        n = snprintf(path, size, "%s/hearth/hearthd.conf", HEARTH_SYSCONFDIR);
    else if (base && base[0] == '/')
        n = snprintf(path, size, "%s/hearth/hearthd.conf", base);
    else if (home && home[0] == '/')
        n = snprintf(path, size, "%s/.config/hearth/hearthd.conf", home);
    if (n < 0 || (size_t)n >= size)
        path[0] = '\0';
}

static bool applies(const struct command_line *c) {
    return c->config_named || (c->config[0] && (access(c->config, F_OK) == 0 || errno != ENOENT));
}

int options_read(const struct command_line *c, struct options *out, struct hearth_error *err) {
    *out = (struct options)OPTIONS_DEFAULT;
    out->from_file = applies(c);
    int r = out->from_file ? config_read(c->config, out, NULL, NULL, err) : 0;
    for (int i = 0; i < OPTIONS_KEYS && r == 0; i++)
        r = c->flags[i] && !options_repeats(keys[i].name) ? options_set(out, keys[i].name, c->flags[i], err) : 0;
    for (size_t i = c->n_preload ? 0 : out->n_preload; i < out->n_preload; i++) /* flags beat the file */
        free(out->preload[i]);
    out->n_preload = c->n_preload ? 0 : out->n_preload;
    for (size_t i = 0; i < c->n_preload && r == 0; i++)
        r = options_set(out, "preload", c->preload[i], err);
    return r;
}

static int check_config(const char *path) {
    struct options o = OPTIONS_DEFAULT;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (!path[0]) {
        fprintf(stderr, "hearthd: there is no configuration file; the defaults apply\n");
        return 0;
    }
    int r = config_read(path, &o, print_mistake, (void *)(uintptr_t)path, &err);
    options_deinit(&o);
    if (r == 0)
        printf("%s: ok\n", path);
    else if (r != HEARTH_E_INVALID)
        print_failure(&err);
    return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

static bool add_preload(struct command_line *c, const char *ref) {
    const char **more = reallocarray(c->preload, c->n_preload + 1, sizeof(*more));
    if (!more) {
        fprintf(stderr, "hearthd: out of memory\n");
        return false;
    }
    c->preload = more;
    more[c->n_preload++] = ref;
    return true;
}

int command_line_parse(int argc, char *argv[], struct command_line *out) {
    struct option table[OPTIONS_KEYS + 7] = {
        {"config", required_argument, NULL, OPT_CONFIG}, {"check-config", optional_argument, NULL, OPT_CHECK},
        {"system", no_argument, NULL, OPT_SYSTEM},       {"detach", no_argument, NULL, OPT_DETACH},
        {"help", no_argument, NULL, OPT_HELP},           {"version", no_argument, NULL, OPT_VERSION},
    };
    for (int i = 0; i < OPTIONS_KEYS; i++)
        table[6 + i] = (struct option){keys[i].name, required_argument, NULL, OPT_KEY + i};
    const char *config = NULL;
    bool check = false;
    opterr = 0; /* getopt's words begin with the whole path of the program */
    *out = (struct command_line){.options = OPTIONS_DEFAULT};
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case OPT_CONFIG:
            config = optarg;
            break;
        case OPT_CHECK:
            check = true;
            config = optarg ? optarg : config;
            break;
        case OPT_SYSTEM:
            out->system = true;
            break;
        case OPT_DETACH:
            out->detach = true;
            break;
        case 'h':
        case OPT_HELP:
            usage(stdout);
            return EXIT_SUCCESS;
        case OPT_VERSION:
            printf("hearthd %s\n", HEARTH_VERSION);
            return EXIT_SUCCESS;
        case '?':
            fprintf(stderr, "hearthd: '%s' is no option, or lacks its value; try --help\n", argv[optind - 1]);
            return 2;
        default:
            out->flags[c - OPT_KEY] = optarg;
            if (options_repeats(keys[c - OPT_KEY].name) && !add_preload(out, optarg))
                return EXIT_FAILURE;
        }
    }
    if (check && optind < argc) /* --check-config FILE: an optional argument of getopt's needs '=' */
        config = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "hearthd: '%s' is not an option; try --help\n", argv[optind]);
        return 2;
    }
    if (config && strlen(config) >= sizeof(out->config)) {
        fprintf(stderr, "hearthd: the path of the configuration file is longer than %zu bytes\n",
                sizeof(out->config) - 1);
        return 2;
    }
    out->config_named = config;
    if (config)
        strcpy(out->config, config);
    else
        default_config(out->system, out->config, sizeof(out->config));
    if (check)
        return check_config(applies(out) ? out->config : "");
    struct hearth_error err = HEARTH_ERROR_INIT;
    int r = options_read(out, &out->options, &err);
    if (r)
        print_failure(&err);
    return r == 0 ? -1 : err.file[0] ? EXIT_FAILURE : 2;
}
