/* cli/health.c: hearth health, for readiness and liveness probes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

/* Wanted from the start on, or pinned, and not there: neither it nor another generation of it. */
static bool is_missing(const struct hearth_info *all, size_t n, const struct hearth_info *a) {
    if (!(a->flags & (HEARTH_INFO_PINNED | HEARTH_INFO_PRELOAD)) || a->state == HEARTH_STATE_RESIDENT ||
        a->state == HEARTH_STATE_GONE)
        return false;
    for (size_t i = 0; i < n; i++)
        if (all[i].state == HEARTH_STATE_RESIDENT && strcmp(all[i].ref, a->ref) == 0)
            return false;
    return true;
}

static void print_json(const struct hearth_info *missing, size_t n, bool ready) {
    struct json j;
    document_begin(&j);
    json_key(&j, "live");
    json_bool(&j, true);
    json_key(&j, "ready");
    json_bool(&j, ready);
    json_key(&j, "missing");
    json_array_begin(&j);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&j);
        document_id(&j, missing[i].id);
        json_path(&j, "ref", missing[i].ref, strlen(missing[i].ref));
        document_text(&j, "state", hearth_state_name(missing[i].state));
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void print_text(const struct cli *c, const struct hearth_info *missing, size_t n, bool ready) {
    if (!ready && n == 0)
        puts("starting: what is pinned is not known yet");
    if (ready)
        puts(c->options.live ? "live" : "ready");
    for (size_t i = 0; i < n; i++) {
        char id[ID_TEXT_BYTES], ref[4 * HEARTH_REF_MAX + 8];
        printf("missing: %s  %s  %s\n", format_id(missing[i].id, id), hearth_state_name(missing[i].state),
               format_printable(missing[i].ref, strlen(missing[i].ref), ref, sizeof(ref)));
    }
}

static int health(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    _cleanup_free_ struct hearth_info *all = NULL;
    _cleanup_free_ struct hearth_info *missing = NULL;
    struct hearth_status s;
    size_t n = 0, n_missing = 0;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = hearth_get_status(h, c->deadline, &s, err);
    if (r == 0 && !c->options.live)
        r = cli_list(c, h, &all, &n, err);
    if (r != 0)
        return r;
    missing = calloc(n + 1, sizeof(*missing));
    if (!missing)
        return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (is_missing(all, n, &all[i]))
            missing[n_missing++] = all[i];
    bool ready = c->options.live || (n_missing == 0 && !(s.flags & HEARTH_STATUS_STARTING));
    if (c->options.json)
        print_json(missing, n_missing, ready);
    else
        print_text(c, missing, n_missing, ready);
    c->status = ready ? EXIT_DONE : EXIT_FAILED;
    return 0;
}

const struct verb verb_health = {
    .name = "health",
    .operands = "",
    .summary = "Say whether the daemon answers and has what it shall have",
    .about = "For probes: the exit status is 0 when the daemon answers and everything that its configuration preloads\n"
             "and everything pinned is resident; 1 while something is missing (it loads, or it failed), which is\n"
             "listed; 3 when no daemon answers. --live asks only whether it answers. A preloaded artifact that was\n"
             "resident and has been evicted since is not missed; a pinned one cannot be evicted.",
    .examples = "  hearth health\n"
                "  hearth health --live --timeout 1s\n"
                "  hearth health --json | jq -r '.missing[].ref'\n",
    .options = OPTIONS_DAEMON | OPTION_LIVE,
    .timeout_ns = 5 * NS_PER_S,
    .run = health,
};
