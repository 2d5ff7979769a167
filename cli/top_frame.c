/* cli/top_frame.c: see top.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "cli/top.h"
#include "util/text.h"

#define BAR 30

static bool loads(const struct hearth_info *info) {
    return info->state == HEARTH_STATE_RESOLVING || info->state == HEARTH_STATE_QUEUED ||
           info->state == HEARTH_STATE_LOADING;
}

/* What happens comes before what is so, and that before what was. */
static int rank(const struct hearth_info *info) {
    switch (info->state) {
    case HEARTH_STATE_LOADING:
        return 0;
    case HEARTH_STATE_RESOLVING:
    case HEARTH_STATE_QUEUED:
        return 1;
    case HEARTH_STATE_RESIDENT:
        return 2;
    default:
        return 3;
    }
}

static int by_rank(const void *a, const void *b) {
    const struct hearth_info *x = a, *y = b;
    int order = rank(x) - rank(y);
    order = order ? order : strcmp(x->ref, y->ref);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* Bytes a second that an artifact loads with; 0 while that is not known. */
static double load_rate(const struct hearth_info *info, const struct top_sample *now, const struct top_sample *former) {
    for (size_t i = 0; i < former->n_artifacts; i++) {
        const struct hearth_info *f = &former->artifacts[i];
        if (f->id == info->id && loads(f) && info->bytes_done >= f->bytes_done && now->at_ns > former->at_ns)
            return (double)(info->bytes_done - f->bytes_done) * 1e9 / (double)(now->at_ns - former->at_ns);
    }
    return info->seconds_ns > 0 ? (double)info->bytes_done * 1e9 / (double)info->seconds_ns : 0;
}

/* "[####......]", `part` of `whole`. */
static void bar(uint64_t part, uint64_t whole, char out[BAR + 3]) {
    double share = whole > 0 ? (double)part / (double)whole : 0;
    size_t full = share >= 1 ? BAR : (size_t)(share * BAR);
    out[0] = '[';
    memset(out + 1, '#', full);
    memset(out + 1 + full, '.', BAR - full);
    out[BAR + 1] = ']';
    out[BAR + 2] = '\0';
}

static void heading(const struct top_sample *now, double rate, FILE *out) {
    const struct hearth_status *s = &now->status;
    char up[16], used[16], whole[16], pinned[16], held[16], gauge[BAR + 3];
    unsigned loading = 0;
    for (size_t i = 0; i < now->n_artifacts; i++)
        loading += loads(&now->artifacts[i]);
    struct table *t = table_new("ll");
    table_cell(t, "hearthd %s", s->version);
    table_cell(t, "pid %u, up %s, %s", s->pid, format_duration(s->uptime_ns, up, sizeof(up)), s->socket);
    bar(s->resident_bytes, s->budget_bytes, gauge);
    table_cell(t, "memory");
    table_cell(t, "%s %s of %s%s%s%s%s", gauge, format_size(s->resident_bytes, used, sizeof(used)),
               format_size(s->budget_bytes, whole, sizeof(whole)), s->pinned_bytes ? ", pinned " : "",
               s->pinned_bytes ? format_size(s->pinned_bytes, pinned, sizeof(pinned)) : "",
               s->held_bytes ? ", evicted but held by programs " : "",
               s->held_bytes ? format_size(s->held_bytes, held, sizeof(held)) : "");
    if (s->reserve_bytes > 0) {
        bar(s->reserve_held_bytes, s->reserve_bytes, gauge);
        table_cell(t, "reserve");
        table_cell(t, "%s %s of %s held", gauge, format_size(s->reserve_held_bytes, used, sizeof(used)),
                   format_size(s->reserve_bytes, whole, sizeof(whole)));
    }
    if (strstr(s->swap, "can be swapped out")) {
        table_cell(t, "swap");
        table_cell(t, "%s", s->swap);
    }
    table_cell(t, "clients");
    table_cell(t, "%u, with %u lease%s", s->clients, s->leases, s->leases == 1 ? "" : "s");
    table_cell(t, "loads");
    if (rate > 0)
        table_cell(t, "%u, at %.2f GB/s", loading, rate / 1e9);
    else
        table_cell(t, "%u", loading);
    table_print(t, 0, out);
    table_free(t);
}

static void row(struct table *t, const struct hearth_info *info, double rate) {
    char id[ID_TEXT_BYTES], done[32] = "", speed[32] = "";
    if (info->state == HEARTH_STATE_LOADING && info->bytes > 0) {
        snprintf(done, sizeof(done), "%3.0f%%", (double)info->bytes_done * 100 / (double)info->bytes);
        snprintf(speed, sizeof(speed), "%.2f", rate / 1e9);
    }
    table_cell(t, "%s", format_id(info->id, id));
    table_state(t, info);
    table_size(t, info->bytes);
    table_size(t, info->resident_bytes);
    table_cell(t, "%s", done);
    table_cell(t, "%s", speed);
    table_cell(t, "%u", info->leases);
    table_cell(t, "%s", info->ref);
}

/* The first `columns` characters of the lines in text, of which at most `rows`. */
static void cut(const char *text, unsigned columns, unsigned rows, FILE *out) {
    for (unsigned n = 0; *text && n < rows; n++) {
        unsigned width = 0;
        for (; *text && *text != '\n'; text++) {
            width += ((unsigned char)*text & 0xc0) != 0x80; /* not a continuation of UTF-8 */
            if (width <= columns)
                fputc(*text, out);
        }
        fputc('\n', out);
        text += *text == '\n';
    }
}

void top_frame(struct top_sample *now, const struct top_sample *former, unsigned columns, unsigned rows, FILE *out) {
    static const char *const names[] = {"ID", "STATE", "SIZE", "MEMORY", "DONE", "GB/S", "LEASES", "REF"};
    static const struct top_sample none;
    char *text = NULL;
    size_t size;
    double all = 0;
    former = former ? former : &none;
    if (now->n_artifacts > 0)
        qsort(now->artifacts, now->n_artifacts, sizeof(*now->artifacts), by_rank);
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    struct table *t = table_new("llrrrrrl");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        table_cell(t, "%s", names[i]);
    for (size_t i = 0; i < now->n_artifacts; i++) {
        const struct hearth_info *info = &now->artifacts[i];
        double rate = info->state == HEARTH_STATE_LOADING ? load_rate(info, now, former) : 0;
        all += rate;
        row(t, info, rate);
    }
    heading(now, all, f);
    fputc('\n', f);
    if (now->n_artifacts > 0)
        table_print(t, 0, f);
    else
        fputs("No artifacts.\n", f);
    table_free(t);
    fclose(f);
    cut(text, columns, rows, out);
    free(text);
}
