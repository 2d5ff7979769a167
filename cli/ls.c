/* cli/ls.c: hearth ls */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/text.h"

static void print_json(const struct hearth_info *all, size_t n) {
    struct json j;
    document_begin(&j);
    json_key(&j, "artifacts");
    json_array_begin(&j);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&j);
        document_id(&j, all[i].id);
        json_path(&j, "ref", all[i].ref, strlen(all[i].ref));
        document_text(&j, "state", hearth_state_name(all[i].state));
        document_number(&j, "bytes", all[i].bytes);
        document_number(&j, "resident_bytes", all[i].resident_bytes);
        document_text(&j, "verified", hearth_verified_name(all[i].verified));
        document_text(&j, "backing", hearth_backing_name(all[i].backing));
        document_number(&j, "leases", all[i].leases);
        json_key(&j, "stale");
        json_bool(&j, all[i].flags & HEARTH_INFO_STALE);
        json_key(&j, "pinned");
        json_bool(&j, all[i].flags & HEARTH_INFO_PINNED);
        json_key(&j, "background");
        json_bool(&j, all[i].flags & HEARTH_INFO_BACKGROUND);
        json_key(&j, "waits_for");
        if (all[i].waits_for)
            json_str(&j, hearth_wait_name(all[i].waits_for));
        else
            json_nil(&j);
        document_number(&j, "lacks", all[i].lacks);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void print_table(const struct hearth_info *all, size_t n) {
    static const char *const heading[] = {"ID", "STATE", "SIZE", "MEMORY", "VERIFIED", "BACKING", "LEASES", "REF"};
    _cleanup_table_ struct table *t = table_new("llrrllrl");
    for (size_t i = 0; i < sizeof(heading) / sizeof(heading[0]); i++)
        table_cell(t, "%s", heading[i]);
    for (size_t i = 0; i < n; i++) {
        char id[ID_TEXT_BYTES];
        table_cell(t, "%s", format_id(all[i].id, id));
        table_state(t, &all[i]);
        table_size(t, all[i].bytes);
        table_size(t, all[i].resident_bytes);
        table_cell(t, "%s", hearth_verified_name(all[i].verified));
        table_cell(t, "%s", hearth_backing_name(all[i].backing));
        table_cell(t, "%u", all[i].leases);
        table_cell(t, "%s", all[i].ref);
    }
    table_print(t, 0, stdout);
}

static int ls(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    _cleanup_free_ struct hearth_info *all = NULL;
    size_t n;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = cli_list(c, h, &all, &n, err);
    if (r != 0)
        return r;
    if (c->options.json)
        print_json(all, n);
    else if (n > 0)
        print_table(all, n);
    else
        puts("No artifacts.");
    return 0;
}

const struct verb verb_ls = {
    .name = "ls",
    .operands = "",
    .summary = "List the artifacts that the daemon has",
    .about =
        "An artifact becomes stale when a load of the same reference finds that its files have changed or gone: ls\n"
        "itself looks at no file. A stale one goes with its last lease. Why one has failed says `hearth attach ID`. A\n"
        "queued one waits for its turn, as others load from its storage, or for memory or descriptors of the budget "
        "that\n"
        "programs or other loads hold.",
    .examples = "  hearth ls\n"
                "  hearth ls --json | jq -r '.artifacts[] | select(.leases == 0) | .id'\n",
    .options = OPTIONS_DAEMON,
    .timeout_ns = 30 * NS_PER_S,
    .run = ls,
};
