/* cli/history.c: hearth history [REF] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

#define LINES_DEFAULT 20u

/* They come newest first, and are shown newest last. */
struct pasts {
    struct hearth_past *items;
    size_t n;
    bool no_memory;
};

static void collect(void *user, const struct hearth_past *past) {
    struct pasts *l = user;
    if ((l->n & (l->n - 1)) == 0) { /* twice as many each time */
        struct hearth_past *more = reallocarray(l->items, l->n ? 2 * l->n : 1, sizeof(*more));
        if (!more) {
            l->no_memory = true;
            return;
        }
        l->items = more;
    }
    l->items[l->n++] = *past;
}

/* "2026-11-27T21:34:23Z" */
static const char *format_time(int64_t ns, char *buffer, size_t size) {
    time_t seconds = (time_t)(ns / (int64_t)NS_PER_S);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || strftime(buffer, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(buffer, size, "?");
    return buffer;
}

static void print_json(const struct pasts *l) {
    struct json j;
    document_begin(&j);
    json_key(&j, "loads");
    json_array_begin(&j);
    for (size_t i = l->n; i-- > 0;) {
        const struct hearth_past *p = &l->items[i];
        char when[32];
        json_object_begin(&j);
        document_text(&j, "ended", format_time(p->ended_ns, when, sizeof(when)));
        document_load(&j, &p->info);
        if (p->error.code)
            json_error(&j, &p->error);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void print_table(const struct pasts *l) {
    static const char *const heading[] = {"ENDED", "ID", "SIZE", "TIME", "GB/S", "FROM", "VERIFIED", "BACKING", "REF"};
    _cleanup_table_ struct table *t = table_new("llrrrllll");
    for (size_t i = 0; i < sizeof(heading) / sizeof(heading[0]); i++)
        table_cell(t, "%s", heading[i]);
    for (size_t i = l->n; i-- > 0;) {
        const struct hearth_past *p = &l->items[i];
        char when[32], id[ID_TEXT_BYTES], took[16];
        uint64_t read = p->info.from_disk + p->info.from_page_cache;
        table_cell(t, "%s", format_time(p->ended_ns, when, sizeof(when)));
        table_cell(t, "%s", format_id(p->info.id, id));
        table_size(t, p->info.bytes);
        table_cell(t, "%s", format_duration(p->info.seconds_ns, took, sizeof(took)));
        if (p->error.code) {
            table_cell(t, "-");
            table_cell(t, "-");
            table_cell(t, "failed");
            table_cell(t, "%s", hearth_code_name(p->error.code));
        } else {
            table_cell(t, "%.2f", p->info.seconds_ns ? (double)read / (double)p->info.seconds_ns : 0);
            table_cell(t, "%s", p->info.from_disk >= p->info.from_page_cache ? "disk" : "page cache");
            table_cell(t, "%s", hearth_verified_name(p->info.verified));
            table_cell(t, "%s", hearth_backing_name(p->info.backing));
        }
        table_cell(t, "%s", p->info.ref);
    }
    table_print(t, 0, stdout);
}

static int history(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    char ref[HEARTH_REF_MAX] = "";
    struct pasts l = {0};
    int r = cli_connect(c, false, &h, err);
    if (r == 0 && c->options.n_operands)
        r = hearth_ref_from_argument(c->options.operands[0], ref, sizeof(ref), err);
    if (r == 0)
        r = hearth_history(h, ref, c->options.lines ? c->options.lines : LINES_DEFAULT, collect, &l, c->deadline, err);
    if (r == 0 && l.no_memory)
        r = error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    if (r == 0 && c->options.json)
        print_json(&l);
    else if (r == 0 && l.n > 0)
        print_table(&l);
    else if (r == 0)
        puts("No loads.");
    free(l.items);
    return r;
}

const struct verb verb_history = {
    .name = "history",
    .operands = "[REF]",
    .summary = "Show the loads that have ended, newest last",
    .about =
        "Kept over restarts of the daemon, where it has a state directory: the last 10,000. A load that found its\n"
        "artifact resident is none, and neither is a reference that could not be resolved.",
    .examples = "  hearth history\n"
                "  hearth history -n 100 /models/llama\n"
                "  hearth history --json | jq '.loads[] | select(.error)'\n",
    .options = OPTIONS_DAEMON | OPTION_LINES,
    .operands_max = 1,
    .timeout_ns = 30 * NS_PER_S,
    .run = history,
};
