/* cli/run.c: hearth run REF... -- CMD [ARG...]: an unmodified program on artifacts in memory, or on their way there.
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
#include "cli/streams.h"
#include "cli/substitute.h"
#include "util/cleanup.h"
#include "util/error.h"

struct attached {
    struct hearth_artifact **items;
    struct loading *loads; /* of each, where it had to be loaded */
    struct hearth *h;      /* closed first: the loads know the memory above */
    size_t n;
};

static void cleanup_attached(struct attached *a) {
    for (size_t i = 0; a->h && i < a->n; i++) /* else they went with the connection */
        hearth_release(a->items[i]);
    hearth_close(a->h);
    free(a->items);
    free(a->loads);
}

static void cleanup_strings(char ***list) {
    for (char **s = *list; s && *s; s++)
        free(*s);
    free(*list);
}

/* As soon as it is known what is in it. */
static int attach_stream(struct cli *c, const char *argument, struct attached *a, struct hearth_error *err) {
    struct loading *l = &a->loads[a->n];
    bool is_id = argument_is_id(argument, &l->id);
    int r = a->h ? 0 : cli_connect(c, !is_id, &a->h, err);
    if (r == 0 && !is_id)
        r = cli_load_begin(c, a->h, argument, l, err);
    if (r == 0)
        r = hearth_attach_stream(a->h, l->id, 0, c->deadline, &a->items[a->n], err);
    progress_end(&l->progress);
    return r;
}

static int attach_all(struct cli *c, struct attached *out, struct hearth_error *err) {
    out->items = calloc(c->options.n_operands, sizeof(*out->items));
    out->loads = calloc(c->options.n_operands, sizeof(*out->loads));
    if (!out->items || !out->loads)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < c->options.n_operands; i++) {
        const char *argument = c->options.operands[i];
        int r = c->options.wait ? cli_open(c, argument, false, &out->h, &out->items[i], err)
                                : attach_stream(c, argument, out, err);
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
                      struct streams *streams, uint64_t fd_limit, struct hearth_error *err) {
    for (size_t i = 0; i < attached->n; i++) {
        int r = links_add(l, attached->items[i], c->deadline, err);
        if (r != 0)
            return r;
    }
    _cleanup_(cleanup_strings) char **argv = substituted(&c->options, l);
    if (!argv || set_environment(l) != 0)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    struct child_program program = {.argv = argv,
                                    .trial = l->any,
                                    .fd_limit = fd_limit,
                                    .watch = streams->resident ? NULL : streams_watch,
                                    .user = streams};
    return child_run(child, &program, &c->status, err);
}

static int run(struct cli *c, struct hearth_error *err) {
    if (c->options.n_command == 0) {
        error_set(err, HEARTH_E_INVALID, "hearth run needs a program behind --");
        error_hint(err, "hearth run REF -- CMD {}");
        return HEARTH_E_INVALID;
    }
    _cleanup_(cleanup_attached) struct attached attached = {0};
    _cleanup_(streams_deinit) struct streams streams = {0};
    uint64_t fd_limit = raise_fd_limit();
    int r = attach_all(c, &attached, err);
    if (r == 0)
        r = streams_begin(&streams, attached.h, attached.items, attached.n, c->deadline, err);
    if (r == 0)
        r = streams_wait(&streams, c, err);
    for (size_t i = 0; i < attached.n; i++) { /* from here on the screen is the program's */
        progress_end(&attached.loads[i].progress);
        attached.loads[i].progress.shown = false;
    }
    if (r != 0)
        return r;
    _cleanup_(child_deinit) struct child child = CHILD_NULL;
    _cleanup_(links_remove) struct links links = {0};
    r = child_prepare(&child, err);
    if (r == 0)
        r = links_begin(&links, err);
    if (r == 0)
        r = run_linked(c, &child, &links, &attached, &streams, fd_limit, err);
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
        "The program starts while the artifact still loads, if the rest will not take long: opening a file then waits\n"
        "until it is complete and verified. If the load fails, stalls, or the daemon dies before its end, the program "
        "is\n"
        "ended (SIGTERM, then SIGKILL) and the status is 125. With --wait it starts when all is resident.\n\n"
        "Exit status: the program's own, or 128 + the signal that ended it; 125 hearth failed, 126 the program\n"
        "cannot be executed, 127 it is not found.",
    .examples = "  hearth run ./all-minilm -- sha256sum {}/model.safetensors\n"
                "  hearth run /models/llama -- vllm serve {}\n"
                "  hearth run ./base ./adapter -- python3 merge.py --base {1} --adapter {2}\n",
    .options = OPTIONS_LOAD | OPTION_WAIT,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .run = run,
};
