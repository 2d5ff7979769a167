/* cli/wait.c: hearth wait REF... */
#include "cli/cli.h"
#include "cli/progress.h"
#include "util/cleanup.h"

static bool will_be_there(const struct hearth_info *a) {
    return a->state != HEARTH_STATE_GONE && !(a->flags & HEARTH_INFO_STALE);
}

static void on_progress(void *user, const struct hearth_info *info) {
    progress_show(user, info);
}

static int wait_for_one(struct cli *c, struct hearth *h, struct hearth_info *a, struct hearth_error *err) {
    struct progress p;
    progress_init(&p, c->options.progress, c->options.quiet);
    int r = hearth_watch(h, a->id, p.shown ? on_progress : NULL, &p, c->deadline, a, err);
    progress_end(&p);
    return r;
}

static int wait_for_all(struct cli *c, struct hearth_error *err) {
    return cli_several(c,
                       &(struct several){.done = "resident",
                                         .concerns = will_be_there,
                                         .concerns_none = "it cannot become resident; load it",
                                         .act = wait_for_one},
                       err);
}

const struct verb verb_wait = {
    .name = "wait",
    .operands = "REF...",
    .summary = "Wait until artifacts that are being loaded are resident",
    .about =
        "For loads that somebody else started: `hearth load --no-wait`, `preload`, a pin. REF is an id, a path, or\n"
        "what `hearth ls` shows as REF. A load that is waited for goes before those that nobody waits for. The\n"
        "exit status of a load that fails is that of `hearth load`; one that the daemon does not know is an error.",
    .examples = "  hearth wait /models/llama\n"
                "  hearth wait --timeout 2m /models/llama /models/tokenizer\n",
    .options = OPTIONS_DAEMON | OPTION_QUIET | OPTION_PROGRESS,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .run = wait_for_all,
};
