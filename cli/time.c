/* cli/time.c: hearth time REF: a cold load and a warm one, taken apart.
 *
 * The order matters. The disk is measured first, past the page cache, so that its limit is of this moment and leaves
 * nothing behind; then the cache is emptied, and it is looked whether it is; then the artifact, if it is resident, is
 * evicted, unless somebody holds it, for this must cost nobody anything; then it is loaded, loaded again and mapped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/disk.h"
#include "cli/table.h"
#include "cli/timing.h"
#include "cli/trace.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

#define MEASURE_BYTES (UINT64_C(1) << 30)
#define MEASURE_NS (3 * NS_PER_S)
#define CHART_WIDTH 48

struct timed {
    struct hearth_info cold, warm;
    bool is_cold;     /* the artifact was not resident when it was loaded */
    uint32_t holders; /* leases that kept it from being evicted */
    struct disk_rate disk;
    uint64_t cached; /* bytes that the page cache kept of the files; UINT64_MAX: not known */
    uint64_t start_ns, cold_ns, warm_ns, attach_ns, map_ns, end_ns; /* the clock's, at the start of each step */
    struct verdict verdict;
};

DEFINE_CLEANUP(struct artifact *, cleanup_resolved, artifact_free)

static int prepare_storage(struct cli *c, const char *ref, struct timed *t, struct hearth_error *err) {
    _cleanup_(cleanup_resolved) struct artifact *a = NULL;
    const struct artifact_request request = {
        .ref = ref,
        .include = c->options.include,
        .n_include = c->options.n_include,
        .exclude = c->options.exclude,
        .n_exclude = c->options.n_exclude,
    };
    int r = artifact_resolve(&request, &a, err);
    if (r == 0)
        r = disk_measure(a, MEASURE_BYTES, MEASURE_NS, &t->disk, err);
    return r ? r : disk_drop_cache(a, &t->cached, err);
}

/* Evicts what is resident of it, if nobody holds it. */
static int make_room(struct cli *c, struct hearth *h, const char *ref, struct timed *t, struct hearth_error *err) {
    _cleanup_free_ struct hearth_info *all = NULL;
    size_t n;
    int r = cli_list(c, h, &all, &n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (strcmp(all[i].ref, ref) != 0 || all[i].state != HEARTH_STATE_RESIDENT)
            continue;
        t->holders += all[i].leases;
        if (all[i].leases == 0)
            r = hearth_evict(h, all[i].id, false, c->deadline, err);
        if (r == HEARTH_E_NOT_FOUND)
            r = 0;
        if (r == HEARTH_E_BUSY) { /* somebody was faster */
            t->holders++;
            r = 0;
        }
    }
    return r;
}

static int map_all(struct cli *c, struct hearth_artifact *a, struct hearth_error *err) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < hearth_file_count(a); i++) {
        const void *data;
        r = hearth_file_map(a, i, c->deadline, &data, err);
    }
    return r;
}

static int measure(struct cli *c, struct hearth **h, const char *ref, struct timed *t, struct hearth_error *err) {
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    t->cold_ns = clock_now();
    int r = cli_load(c, h, ref, &t->cold, err);
    if (r == 0) {
        t->is_cold = t->cold.from_resident == 0;
        t->warm_ns = clock_now();
        r = cli_load(c, h, ref, &t->warm, err);
    }
    t->attach_ns = clock_now();
    if (r == 0)
        r = hearth_attach(*h, t->warm.id, c->deadline, &a, err);
    t->map_ns = clock_now();
    if (r == 0)
        r = map_all(c, a, err);
    t->end_ns = clock_now();
    return r;
}

static double rate(uint64_t bytes, uint64_t ns) {
    return ns ? (double)bytes / (double)ns : 0;
}

static void json_seconds(struct json *j, const char *key, uint64_t ns) {
    json_key(j, key);
    json_double(j, (double)ns / 1e9);
}

static void print_json(const struct timed *t) {
    struct json j;
    document_begin(&j);
    document_id(&j, t->warm.id);
    json_path(&j, "ref", t->warm.ref, strlen(t->warm.ref));
    document_number(&j, "bytes", t->warm.bytes);
    json_key(&j, "disk");
    if (t->disk.ns) {
        json_object_begin(&j);
        document_number(&j, "bytes", t->disk.bytes);
        json_seconds(&j, "seconds", t->disk.ns);
        json_key(&j, "gb_per_s");
        json_double(&j, rate(t->disk.bytes, t->disk.ns));
        json_object_end(&j);
    } else {
        json_nil(&j);
    }
    json_key(&j, "cached_bytes");
    if (t->cached == UINT64_MAX)
        json_nil(&j);
    else
        json_u64(&j, t->cached);
    document_number(&j, "holders", t->holders);
    json_key(&j, "cold");
    if (t->is_cold) {
        json_object_begin(&j);
        document_load(&j, &t->cold);
        document_text(&j, "holdup", holdup_name(t->verdict.holdup));
        document_text(&j, "sentence", t->verdict.sentence);
        json_object_end(&j);
    } else {
        json_nil(&j);
    }
    json_key(&j, "warm");
    json_object_begin(&j);
    json_seconds(&j, "load", t->warm.seconds_ns);
    json_seconds(&j, "attach", t->map_ns - t->attach_ns);
    json_seconds(&j, "map", t->end_ns - t->map_ns);
    json_object_end(&j);
    json_object_end(&j);
}

static void print_text(const struct timed *t) {
    char size[16], took[16], attach[16], map[16];
    format_size(t->warm.bytes, size, sizeof(size));
    if (t->is_cold) {
        printf("cold  %s in %s, %.2f GB/s", size, format_duration(t->cold.seconds_ns, took, sizeof(took)),
               rate(t->cold.bytes, t->cold.seconds_ns));
        if (t->disk.ns)
            printf("; the disk gives %.2f GB/s at this moment", rate(t->disk.bytes, t->disk.ns));
        putchar('\n');
        timing_chart(&t->cold, CHART_WIDTH, stdout);
        printf("%s\n", t->verdict.sentence);
    } else {
        printf("cold  not measured: it is resident, and %u lease%s held it; end %s first\n", t->holders,
               t->holders == 1 ? "" : "s", t->holders == 1 ? "its holder" : "its holders");
    }
    if (t->is_cold && t->cached == UINT64_MAX)
        puts("Whether the page cache had some of it cannot be told here.");
    else if (t->is_cold && t->cached)
        printf("The page cache kept %s of it: somebody has it mapped, or it was being written.\n",
               format_size(t->cached, took, sizeof(took)));
    printf("warm  found resident in %s, attached in %s, mapped in %s\n",
           format_duration(t->warm.seconds_ns, took, sizeof(took)),
           format_duration(t->map_ns - t->attach_ns, attach, sizeof(attach)),
           format_duration(t->end_ns - t->map_ns, map, sizeof(map)));
}

static int write_trace(const char *path, const char *ref, const struct timed *t, struct hearth_error *err) {
    const uint64_t zero = t->start_ns;
    const struct trace_part parts[] = {
        {"measuring the disk, emptying the cache", NULL, 0, t->cold_ns - zero},
        {t->is_cold ? "cold load" : "load", &t->cold, t->cold_ns - zero, t->cold_ns - zero + t->cold.seconds_ns},
        {"warm load", &t->warm, t->warm_ns - zero, t->warm_ns - zero + t->warm.seconds_ns},
        {"attach", NULL, t->attach_ns - zero, t->map_ns - zero},
        {"map", NULL, t->map_ns - zero, t->end_ns - zero},
    };
    return trace_write(path, ref, parts, sizeof(parts) / sizeof(parts[0]), err);
}

/* Its path: what storage gives is measured here, and so an id or a source's name has to be one that the daemon knows.
 */
static int find_path(struct cli *c, struct hearth *h, char ref[HEARTH_REF_MAX], struct hearth_error *err) {
    _cleanup_free_ struct hearth_info *found = NULL;
    size_t n;
    if (ref[0] == '/')
        return 0;
    int r = cli_lookup(c, h, c->options.operands[0], &found, &n, err);
    if (r == 0)
        memcpy(ref, found[0].ref, sizeof(found[0].ref));
    else if (r == HEARTH_E_NOT_FOUND)
        error_hint(err, "name it by its path, or load it first");
    return r;
}

static int time_load(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    char ref[HEARTH_REF_MAX];
    struct timed t = {.start_ns = clock_now()};
    int r = hearth_ref_from_argument(c->options.operands[0], ref, sizeof(ref), err);
    if (r == 0)
        r = cli_connect(c, true, &h, err);
    if (r == 0)
        r = find_path(c, h, ref, err);
    if (r == 0)
        r = make_room(c, h, ref, &t, err);
    if (r == 0)
        r = prepare_storage(c, ref, &t, err);
    if (r == 0)
        r = measure(c, &h, ref, &t, err);
    if (r == 0 && c->options.trace)
        r = write_trace(c->options.trace, ref, &t, err);
    if (r != 0)
        return r;
    timing_judge(&t.cold, &t.disk, &t.verdict);
    if (c->options.json)
        print_json(&t);
    else
        print_text(&t);
    return 0;
}

const struct verb verb_time = {
    .name = "time",
    .operands = "REF",
    .summary = "Measure a cold and a warm load, phase by phase, beside the disk's limit",
    .about =
        "Reads up to 1 GiB of the files past the page cache, for at most some seconds, to see what the disk gives;\n"
        "empties the page cache of them; evicts the artifact unless somebody holds it; then loads it, finds it\n"
        "again, attaches and maps it. Says in one sentence what holds the load back. The artifact stays resident.",
    .examples = "  hearth time /models/llama\n"
                "  hearth time --trace load.json ./model    # for ui.perfetto.dev\n"
                "  hearth time --json ./model | jq -r .cold.holdup\n",
    .options = OPTIONS_LOAD | OPTION_TRACE,
    .operands_min = 1,
    .operands_max = 1,
    .run = time_load,
};
