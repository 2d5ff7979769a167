/* cli/main.c: the hearth command. Finds the verb, parses its options, runs it, and says how it went. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/standard_fds.h"

/* With --json a usage error is a document too, wherever the option stands. */
static bool wants_json(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

static int usage(struct cli *c, struct hearth_error *err, int argc, char **argv) {
    c->options.json = wants_json(argc, argv);
    if (!err->hint[0])
        error_hint(err, "hearth %s%s--help", c->verb ? c->verb->name : "", c->verb ? " " : "");
    report_error(c, err);
    return c->verb == &verb_run ? 125 : EXIT_USAGE;
}

static int check_operands(const struct cli *c, struct hearth_error *err) {
    size_t n = c->options.n_operands;
    if (n < c->verb->operands_min)
        return error_set(err, HEARTH_E_INVALID, "hearth %s needs %s", c->verb->name, c->verb->operands);
    if (n > c->verb->operands_max) {
        error_set(err, HEARTH_E_INVALID, "hearth %s takes %s", c->verb->name,
                  c->verb->operands[0] ? c->verb->operands : "no arguments");
        error_found(err, "%s", c->options.operands[c->verb->operands_max]);
        return HEARTH_E_INVALID;
    }
    return 0;
}

/* The verb and its options into c. `hearth help VERB` is `hearth VERB --help`. */
static int parse(struct cli *c, int argc, char **argv, struct hearth_error *err) {
    int at;
    int r = options_parse(&c->options, OPTIONS_DAEMON | OPTIONS_ALL | OPTION_VERSION, argc, argv, &at, err);
    if (r != 0 || at == argc)
        return r;
    const char *name = argv[at];
    if (strcmp(name, "help") == 0) {
        c->options.help = true;
        if (at + 1 == argc)
            return 0;
        name = argv[at + 1];
    }
    c->verb = verb_find(name);
    if (!c->verb)
        return error_set(err, HEARTH_E_INVALID, "there is no verb '%s'", name);
    if (c->options.help)
        return 0;
    r = options_parse(&c->options, c->verb->options | OPTIONS_ALL, argc - at, argv + at, NULL, err);
    if (r != 0 || c->options.help)
        return r;
    if (c->verb != &verb_run)
        options_fold_command(&c->options);
    return check_operands(c, err);
}

static int run_verb(struct cli *c, struct hearth_error *err) {
    uint64_t timeout = c->options.has_timeout ? c->options.timeout_ns : c->verb->timeout_ns;
    c->deadline = timeout || c->options.has_timeout ? hearth_deadline_in(timeout / NS_PER_MS) : HEARTH_NO_DEADLINE;
    if (c->verb->run(c, err) == 0)
        return c->status;
    int status = exit_status_of(c, err);
    report_error(c, err);
    return status;
}

int main(int argc, char **argv) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct cli c = {0};
    int status = EXIT_DONE;
    standard_fds_fill();
    if (parse(&c, argc, argv, &err) != 0)
        status = usage(&c, &err, argc, argv);
    else if (c.options.help && c.verb)
        help_verb(c.verb, stdout);
    else if (c.options.help)
        help_program(stdout);
    else if (c.options.version)
        printf("hearth %s\n", HEARTH_VERSION);
    else if (c.verb)
        status = run_verb(&c, &err);
    else if (!c.options.json)
        help_program(stderr), status = EXIT_USAGE;
    else
        error_set(&err, HEARTH_E_INVALID, "a verb is missing"), status = usage(&c, &err, argc, argv);
    options_free(&c.options);

    struct hearth_error output = HEARTH_ERROR_INIT;
    int failed = output_finish(&output);
    if (failed == 0)
        return status;
    if (failed != HEARTH_E_DISCONNECTED) {
        c.output_taken = true; /* there is no stdout to put a document on */
        report_error(&c, &output);
    }
    return status ? status : EXIT_FAILED;
}
