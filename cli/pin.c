/* cli/pin.c: hearth pin REF, hearth unpin REF... */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/text.h"

static void print(const struct cli *c, const struct hearth_info *info) {
    char id[ID_TEXT_BYTES], ref[4 * HEARTH_REF_MAX + 8];
    if (c->options.json) {
        struct json j;
        document_begin(&j);
        document_id(&j, info->id);
        json_path(&j, "ref", info->ref, strlen(info->ref));
        document_text(&j, "state", hearth_state_name(info->state));
        document_number(&j, "bytes", info->bytes);
        json_key(&j, "pinned");
        json_bool(&j, true);
        json_object_end(&j);
    } else {
        printf("pinned %s  %s  %s\n", format_id(info->id, id), hearth_state_name(info->state),
               format_printable(info->ref, strlen(info->ref), ref, sizeof(ref)));
    }
}

static int pin(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct hearth_info info;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = cli_load(c, &h, c->options.operands[0], &info, err);
    if (r == 0)
        print(c, &info);
    return r;
}

const struct verb verb_pin = {
    .name = "pin",
    .operands = "REF",
    .summary = "Keep an artifact in memory",
    .about =
        "A pinned artifact is not evicted for others, and is loaded again when the daemon starts. One that is not\n"
        "resident is loaded in the background; --wait waits for it, and makes others wait instead. The pin is on\n"
        "the reference and the files chosen: when they change on disk, what is resident stays until what is new\n"
        "is there. `hearth ls` shows pins.",
    .examples = "  hearth pin /models/llama\n"
                "  hearth pin --wait /models/llama --exclude 'original/*'\n",
    .options = OPTIONS_LOAD | OPTION_WAIT,
    .operands_min = 1,
    .operands_max = 1,
    .run = pin,
};

static bool is_pinned(const struct hearth_info *a) {
    return a->flags & HEARTH_INFO_PINNED;
}

static int unpin_one(struct cli *c, struct hearth *h, struct hearth_info *a, struct hearth_error *err) {
    return hearth_unpin(h, a->id, c->deadline, err);
}

static int unpin(struct cli *c, struct hearth_error *err) {
    return cli_several(
        c,
        &(struct several){
            .done = "unpinned", .concerns = is_pinned, .concerns_none = "it is not pinned", .act = unpin_one},
        err);
}

const struct verb verb_unpin = {
    .name = "unpin",
    .operands = "REF...",
    .summary = "Let artifacts go when their memory is needed",
    .about =
        "REF is an id, a path, or what `hearth ls` shows as REF. They stay resident until others need their memory,\n"
        "or somebody evicts them.",
    .examples = "  hearth unpin /models/llama\n",
    .options = OPTIONS_DAEMON,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .run = unpin,
};
