/* cli/run.c: hearth run REF... -- CMD [ARG...]: an unmodified program on resident artifacts.
 *
 * hearth stays the program's parent and holds the descriptors that the links lead to (cli/links.h). Its exit status is
 * the program's own, as with env(1): 125 when hearth itself failed, 126 when the program cannot be executed, 127 when
 * it is not found.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/child.h"
#include "cli/cli.h"
#include "cli/links.h"
#include "cli/substitute.h"
#include "util/cleanup.h"
#include "util/error.h"

struct attached {
    struct hearth_artifact **items;
    size_t n;
};

static void cleanup_attached(struct attached *a) {
    for (size_t i = 0; i < a->n; i++)
        hearth_release(a->items[i]);
    free(a->items);
}

static void cleanup_strings(char ***list) {
    for (char **s = *list; s && *s; s++)
        free(*s);
    free(*list);
}

static int attach_all(struct cli *c, struct hearth **h, struct attached *out, struct hearth_error *err) {
    out->items = calloc(c->options.n_operands, sizeof(struct hearth_artifact *));
    if (!out->items)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < c->options.n_operands; i++) {
        int r = cli_open(c, c->options.operands[i], false, h, &out->items[i], err);
        if (r != 0)
            return r;
        out->n++;
    }
    return 0;
}

/* HEARTH_DIR and HEARTH_DIR_1, HEARTH_DIR_2, ... for programs that take no argument for it. 0 or -1. */
static int set_environment(const struct links *l) {
    for (size_t i = 0; i < l->n; i++) {
        char name[40];
        snprintf(name, sizeof(name), "HEARTH_DIR_%zu", i + 1);
        if (setenv(name, l->directories[i], 1) != 0 || (i == 0 && setenv("HEARTH_DIR", l->directories[i], 1) != 0))
            return -1;
    }
    return 0;
}

static char **substituted(const struct options *o, const struct links *l) {
    _cleanup_(cleanup_strings) char **argv = calloc(o->n_command + 1, sizeof(*argv));
    for (size_t i = 0; argv && i < o->n_command; i++) {
        argv[i] = substitute(o->command[i], (const char *const *)l->directories, l->n);
        if (!argv[i])
            return NULL;
    }
    return argv ? steal_ptr(&argv) : NULL;
}

static int run_linked(struct cli *c, struct child *child, struct links *l, const struct attached *attached,
                      uint64_t fd_limit, struct hearth_error *err) {
    for (size_t i = 0; i < attached->n; i++) {
        int r = links_add(l, attached->items[i], c->deadline, err);
        if (r != 0)
            return r;
    }
    _cleanup_(cleanup_strings) char **argv = substituted(&c->options, l);
    if (!argv || set_environment(l) != 0)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    struct child_program program = {.argv = argv, .trial = l->any, .fd_limit = fd_limit};
    return child_run(child, &program, &c->status, err);
}

static int run(struct cli *c, struct hearth_error *err) {
    if (c->options.n_command == 0) {
        error_set(err, HEARTH_E_INVALID, "hearth run needs a program behind --");
        error_hint(err, "hearth run REF -- CMD {}");
        return HEARTH_E_INVALID;
    }
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    _cleanup_(cleanup_attached) struct attached attached = {0};
    uint64_t fd_limit = raise_fd_limit();
    int r = attach_all(c, &h, &attached, err);
    if (r != 0)
        return r;
    _cleanup_(child_deinit) struct child child = CHILD_NULL;
    _cleanup_(links_remove) struct links links = {0};
    r = child_prepare(&child, err);
    if (r == 0)
        r = links_begin(&links, err);
    if (r == 0)
        r = run_linked(c, &child, &links, &attached, fd_limit, err);
    return r;
}

const struct verb verb_run = {
    .name = "run",
    .operands = "REF... -- CMD [ARG...]",
    .summary = "Run an unmodified program on artifacts in memory",
    .about =
        "The program gets a directory that looks like the artifact. {} anywhere in an argument is the first one's,\n"
        "{1}, {2}, ... are those of the first, second, ... REF; $HEARTH_DIR and $HEARTH_DIR_1, ... say the same.\n"
        "For an artifact that is one file it is a directory with this file in it.\n\n"
        "The directory is made of links into this process, which waits for the program and passes signals on.\n"
        "They work for the program and its children under the same user, until the program ends.\n\n"
        "Exit status: the program's own, or 128 + the signal that ended it; 125 hearth failed, 126 the program\n"
        "cannot be executed, 127 it is not found.",
    .examples = "  hearth run ./all-minilm -- sha256sum {}/model.safetensors\n"
                "  hearth run /models/llama -- vllm serve {}\n"
                "  hearth run ./base ./adapter -- python3 merge.py --base {1} --adapter {2}\n",
    .options = OPTIONS_LOAD,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .run = run,
};
