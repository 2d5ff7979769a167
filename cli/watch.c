/* cli/watch.c: hearth watch [REF]
 *
 * With a REF the progress of its load, up to its end; without, a line for each change of an artifact's state, until it
 * is interrupted. With --json each line is a document. Watching changes nothing: the load is not hastened by it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

struct watching {
    const struct cli *c;
    uint64_t printed_ns;
    enum hearth_state state; /* of the last line */
};

static void print_json(const struct hearth_info *info) {
    struct json j;
    json_init(&j, stdout, false);
    json_object_begin(&j);
    document_number(&j, "schema", 1);
    document_id(&j, info->id);
    json_path(&j, "ref", info->ref, strlen(info->ref));
    document_text(&j, "state", hearth_state_name(info->state));
    document_number(&j, "bytes", info->bytes);
    document_number(&j, "bytes_done", info->bytes_done);
    json_object_end(&j);
}

static void print_text(const struct hearth_info *info) {
    char now[16], id[ID_TEXT_BYTES], size[16], ref[4 * HEARTH_REF_MAX + 8], done[32] = "";
    time_t t = time(NULL);
    struct tm local;
    strftime(now, sizeof(now), "%H:%M:%S", localtime_r(&t, &local));
    if (info->state == HEARTH_STATE_LOADING && info->bytes > 0)
        snprintf(done, sizeof(done), " %3u%% of", (unsigned)((double)info->bytes_done * 100 / (double)info->bytes));
    printf("%s  %s  %s%s  %s  %s\n", now, format_id(info->id, id), hearth_state_name(info->state), done,
           format_size(info->bytes, size, sizeof(size)),
           format_printable(info->ref, strlen(info->ref), ref, sizeof(ref)));
}

static void print_line(const struct watching *w, const struct hearth_info *info) {
    if (w->c->options.json)
        print_json(info);
    else
        print_text(info);
    fflush(stdout);
}

static void on_change(void *user, const struct hearth_info *info) {
    print_line(user, info);
}

/* A line a second, and one for each state. */
static void on_progress(void *user, const struct hearth_info *info) {
    struct watching *w = user;
    uint64_t now = clock_now();
    if (info->state == w->state && now - w->printed_ns < NS_PER_S)
        return;
    w->state = info->state;
    w->printed_ns = now;
    print_line(w, info);
}

/* The one that is under way, if any, of those that the argument names. */
static int find(struct cli *c, struct hearth *h, uint64_t *id, struct hearth_error *err) {
    _cleanup_free_ struct hearth_info *found = NULL;
    size_t n = 0, best = 0;
    int r = cli_lookup(c, h, c->options.operands[0], &found, &n, err);
    if (r != 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (found[i].state < found[best].state)
            best = i;
    *id = found[best].id;
    return 0;
}

static int watch(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct watching w = {.c = c};
    struct hearth_info info;
    uint64_t id;
    int r = cli_connect(c, false, &h, err);
    if (r == 0 && c->options.n_operands == 0)
        return hearth_look_on(h, 0, on_change, &w, c->deadline, NULL, err);
    if (r == 0)
        r = find(c, h, &id, err);
    if (r == 0)
        r = hearth_look_on(h, id, on_progress, &w, c->deadline, &info, err);
    if (r == 0)
        print_line(&w, &info);
    return r;
}

const struct verb verb_watch = {
    .name = "watch",
    .operands = "[REF]",
    .summary = "Show how loads go on, a line at a time",
    .about =
        "With a REF (an id, a path, or what `hearth ls` shows as REF) it follows one load up to its end; the exit\n"
        "status is that of the load. Without, it prints a line whenever an artifact's state changes, until it is\n"
        "interrupted. With --json each line is a document. Watching does not hasten a load; `hearth wait` does.",
    .examples = "  hearth watch\n"
                "  hearth watch --json | jq -r 'select(.state == \"failed\") | .ref'\n"
                "  hearth watch /models/llama\n",
    .options = OPTIONS_DAEMON,
    .operands_max = 1,
    .run = watch,
};
