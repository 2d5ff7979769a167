/* cli/evict.c: hearth evict REF..., hearth cancel REF... */
#include "cli/cli.h"
#include "util/clock.h"

static int evict_one(struct cli *c, struct hearth *h, struct hearth_info *a, struct hearth_error *err) {
    return hearth_evict(h, a->id, c->options.force, c->deadline, err);
}

static int evict(struct cli *c, struct hearth_error *err) {
    return cli_several(c, &(struct several){.done = "evicted", .act = evict_one}, err);
}

const struct verb verb_evict = {
    .name = "evict",
    .operands = "REF...",
    .summary = "Drop artifacts from memory",
    .about = "REF is an id, a path, or what `hearth ls` shows as REF: then all its generations. An artifact that\n"
             "programs hold is refused with their names unless --force: then no program can attach it any more, and\n"
             "its memory goes with the last holder. One that is pinned is refused too; with --force it goes, and the\n"
             "pin with it. The first refusal ends the command, and what it evicted before stays so; a REF that the\n"
             "daemon does not have evicts nothing.",
    .examples = "  hearth evict /models/llama\n"
                "  hearth evict --force 3f62a1c09b7e\n",
    .options = OPTIONS_DAEMON | OPTION_FORCE,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .run = evict,
};

static bool is_under_way(const struct hearth_info *a) {
    return a->state < HEARTH_STATE_RESIDENT;
}

static int cancel_one(struct cli *c, struct hearth *h, struct hearth_info *a, struct hearth_error *err) {
    return hearth_cancel(h, a->id, c->deadline, err);
}

static int cancel(struct cli *c, struct hearth_error *err) {
    return cli_several(c,
                       &(struct several){.done = "cancelled",
                                         .concerns = is_under_way,
                                         .concerns_none = "there is no load of it under way",
                                         .act = cancel_one},
                       err);
}

const struct verb verb_cancel = {
    .name = "cancel",
    .operands = "REF...",
    .summary = "End loads that are under way",
    .about = "REF is an id, a path, or what `hearth ls` shows as REF. Whoever waits for the load is told that it was\n"
             "cancelled. What is resident stays; what is pinned has to be unpinned first.",
    .examples = "  hearth cancel /models/llama\n",
    .options = OPTIONS_DAEMON,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .run = cancel,
};
