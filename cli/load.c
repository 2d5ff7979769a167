/* cli/load.c: hearth load REF */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "cli/trace.h"
#include "util/cleanup.h"
#include "util/text.h"

static bool occurred(struct hearth_span s) {
    return s.end_ns != 0;
}

static void print_json(const struct hearth_info *info) {
    struct json j;
    document_begin(&j);
    document_load(&j, info);
    json_object_end(&j);
}

static void print_origins(struct table *t, const struct hearth_info *info) {
    const struct {
        const char *name;
        uint64_t bytes;
    } origins[] = {{"disk", info->from_disk}, {"page cache", info->from_page_cache}, {"memory", info->from_resident}};
    char text[128] = "";
    for (size_t i = 0; i < 3; i++) {
        char size[16];
        if (origins[i].bytes > 0)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s %s", text[0] ? ", " : "", origins[i].name,
                     format_size(origins[i].bytes, size, sizeof(size)));
    }
    table_cell(t, "from");
    table_cell(t, "%s", text[0] ? text : "nothing to read");
}

static void print_table(const struct hearth_info *info) {
    char id[ID_TEXT_BYTES], size[16], time[16], phase[16];
    format_size(info->bytes, size, sizeof(size));
    format_duration(info->seconds_ns, time, sizeof(time));
    _cleanup_table_ struct table *t = table_new("ll");
    table_cell(t, "id");
    table_cell(t, "%s", format_id(info->id, id));
    table_cell(t, "artifact");
    table_cell(t, "%s", info->ref);
    table_cell(t, "%s", hearth_state_name(info->state));
    if (info->state != HEARTH_STATE_RESIDENT) {
        table_cell(t, "%s, %u file%s, in the background", size, info->n_files, info->n_files == 1 ? "" : "s");
        table_print(t, 0, stdout);
        return;
    }
    if (load_rate(info) > 0)
        table_cell(t, "%s, %u file%s, in %s (%.2f GB/s)", size, info->n_files, info->n_files == 1 ? "" : "s", time,
                   load_rate(info));
    else
        table_cell(t, "%s, %u file%s, in %s", size, info->n_files, info->n_files == 1 ? "" : "s", time);
    print_origins(t, info);
    table_cell(t, "verified");
    table_cell(t, "%s", hearth_verified_name(info->verified));
    table_cell(t, "backing");
    table_cell(t, "%s", hearth_backing_name(info->backing));
    char phases[512] = "";
    for (unsigned i = 0; i < HEARTH_PHASES; i++)
        if (occurred(info->phases[i]))
            snprintf(phases + strlen(phases), sizeof(phases) - strlen(phases), "%s%s %s", phases[0] ? ", " : "",
                     hearth_phase_name((enum hearth_phase)i),
                     format_duration(info->phases[i].end_ns - info->phases[i].start_ns, phase, sizeof(phase)));
    if (phases[0]) {
        table_cell(t, "phases");
        table_cell(t, "%s", phases);
    }
    table_print(t, 0, stdout);
}

static int load(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct hearth_info info;
    uint64_t id;
    int r = cli_connect(c, !argument_is_id(c->options.operands[0], &id), &h, err); /* a new daemon knows no ids */
    if (r == 0)
        r = cli_load(c, &h, c->options.operands[0], &info, err);
    if (r != 0)
        return r;
    const struct trace_part whole = {"load", &info, 0, info.seconds_ns};
    if (c->options.trace && (r = trace_write(c->options.trace, info.ref, &whole, 1, err)))
        return r;
    if (c->options.json)
        print_json(&info);
    else
        print_table(&info);
    return 0;
}

const struct verb verb_load = {
    .name = "load",
    .operands = "REF",
    .summary = "Load an artifact into memory and wait until it is resident",
    .about =
        "An artifact that is resident already is rechecked and costs no disk I/O. Starts your own daemon when\n"
        "none answers. The load ends if this command is interrupted and nobody else waits for it. With --no-wait it\n"
        "goes on in the background, after what others wait for, and takes nothing's place; `hearth wait` waits for\n"
        "it.\n\n"
        "Digests are taken from SHA256SUMS and NAME.sha256 beside the files, and from --sha256. --verify none\n"
        "computes nothing, xxh3 records a fast checksum, remembered (the default) computes SHA-256 as well where\n"
        "a digest is expected, always computes it of every file. What was proven once is matched by its checksum\n"
        "from then on, as long as the file is the same by its inode, size and times.",
    .examples = "  hearth load ./all-minilm\n"
                "  hearth load --no-wait ./all-minilm && hearth wait ./all-minilm\n"
                "  hearth load --exclude '*.bin' /models/llama\n"
                "  hearth load --sha256 model.safetensors=$(cut -d' ' -f1 digest) ./model\n"
                "  hearth load --json /models/llama | jq .gb_per_s\n",
    .options = OPTIONS_LOAD | OPTION_TRACE | OPTION_NO_WAIT,
    .operands_min = 1,
    .operands_max = 1,
    .run = load,
};
