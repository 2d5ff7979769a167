/* cli/status.c: hearth status */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/text.h"

static void print_json(const struct hearth_status *s) {
    struct json j;
    document_begin(&j);
    document_number(&j, "pid", s->pid);
    document_text(&j, "version", s->version);
    json_path(&j, "socket", s->socket, strlen(s->socket));
    document_number(&j, "budget", s->budget_bytes);
    document_number(&j, "resident_bytes", s->resident_bytes);
    document_number(&j, "held_bytes", s->held_bytes);
    document_number(&j, "pinned_bytes", s->pinned_bytes);
    document_number(&j, "fds", s->fds_used);
    document_number(&j, "fd_budget", s->fds_limit);
    document_number(&j, "queued", s->queued);
    document_number(&j, "clients", s->clients);
    document_number(&j, "leases", s->leases);
    document_text(&j, "reader", s->reader);
    document_text(&j, "direct_io", s->direct_io);
    document_text(&j, "backing", s->backing);
    document_text(&j, "configuration", s->configuration);
    document_text(&j, "state", s->state);
    document_number(&j, "artifacts", s->artifacts);
    document_number(&j, "reserve_bytes", s->reserve_bytes);
    document_number(&j, "reserve_held_bytes", s->reserve_held_bytes);
    document_text(&j, "swap", s->swap);
    document_text(&j, "stalled", s->stalled);
    json_key(&j, "uptime_seconds");
    json_double(&j, (double)s->uptime_ns / 1e9);
    json_object_end(&j);
}

static void row(struct table *t, const char *name, const char *value) {
    table_cell(t, "%s", name);
    table_cell(t, "%s", value);
}

static void print_table(const struct hearth_status *s) {
    char used[16], budget[16], pinned[16], held[16], up[16];
    _cleanup_table_ struct table *t = table_new("ll");
    table_cell(t, "daemon");
    table_cell(t, "hearthd %s, pid %u, up %s", s->version, s->pid, format_duration(s->uptime_ns, up, sizeof(up)));
    row(t, "socket", s->socket);
    table_cell(t, "memory");
    table_cell(t, "%s of %s%s%s%s%s", format_size(s->resident_bytes, used, sizeof(used)),
               format_size(s->budget_bytes, budget, sizeof(budget)), s->pinned_bytes ? ", pinned " : "",
               s->pinned_bytes ? format_size(s->pinned_bytes, pinned, sizeof(pinned)) : "",
               s->held_bytes ? ", evicted but held by programs " : "",
               s->held_bytes ? format_size(s->held_bytes, held, sizeof(held)) : "");
    table_cell(t, "descriptors");
    table_cell(t, "%" PRIu64 " of %" PRIu64, s->fds_used, s->fds_limit);
    table_cell(t, "artifacts");
    table_cell(t, s->queued ? "%u, of which %u wait for their turn or for room" : "%u", s->artifacts, s->queued);
    table_cell(t, "clients");
    table_cell(t, "%u, with %u lease%s", s->clients, s->leases, s->leases == 1 ? "" : "s");
    row(t, "reader", s->reader);
    row(t, "direct I/O", s->direct_io);
    row(t, "backing", s->backing);
    if (s->reserve_bytes > 0) {
        table_cell(t, "reserve");
        table_cell(t, "%s of %s held", format_size(s->reserve_held_bytes, used, sizeof(used)),
                   format_size(s->reserve_bytes, budget, sizeof(budget)));
    }
    row(t, "swap", s->swap);
    row(t, "configuration", s->configuration);
    row(t, "state", s->state);
    if (s->stalled[0])
        row(t, "waits for", s->stalled);
    table_print(t, 0, stdout);
}

static int status(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct hearth_status s;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = hearth_get_status(h, c->deadline, &s, err);
    if (r != 0)
        return r;
    if (c->options.json)
        print_json(&s);
    else
        print_table(&s);
    return 0;
}

const struct verb verb_status = {
    .name = "status",
    .operands = "",
    .summary = "Show which daemon answers, its memory and how it reads",
    .examples = "  hearth status\n"
                "  hearth status --json | jq .resident_bytes\n",
    .options = OPTIONS_DAEMON,
    .timeout_ns = 30 * NS_PER_S,
    .run = status,
};
