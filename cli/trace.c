/* cli/trace.c: see trace.h.
 *
 * The Trace Event Format: each phase is a complete event ("X") with its start and duration in microseconds, on a thread
 * of its own, for they overlap; metadata events ("M") name the threads.
 */
#include "cli/trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/error.h"
#include "util/json.h"
#include "util/text.h"

static void text(struct json *j, const char *key, const char *value) {
    json_key(j, key);
    json_str(j, value);
}

static void number(struct json *j, const char *key, double value) {
    json_key(j, key);
    json_double(j, value);
}

static void begin_event(struct json *j, const char *kind, const char *name, unsigned lane) {
    json_object_begin(j);
    text(j, "ph", kind);
    text(j, "name", name);
    number(j, "pid", 1);
    number(j, "tid", lane);
}

static void name_lane(struct json *j, const char *kind, const char *name, unsigned lane) {
    begin_event(j, "M", kind, lane);
    json_key(j, "args");
    json_object_begin(j);
    text(j, "name", name);
    json_object_end(j);
    json_object_end(j);
}

static void span(struct json *j, const char *name, unsigned lane, uint64_t start_ns, uint64_t end_ns,
                 const struct hearth_info *info) {
    char id[ID_TEXT_BYTES];
    begin_event(j, "X", name, lane);
    text(j, "cat", "hearth");
    number(j, "ts", (double)start_ns / 1e3);
    number(j, "dur", (double)(end_ns > start_ns ? end_ns - start_ns : 0) / 1e3);
    if (info) {
        json_key(j, "args");
        json_object_begin(j);
        text(j, "id", format_id(info->id, id));
        json_path(j, "ref", info->ref, strlen(info->ref));
        number(j, "bytes", (double)info->bytes);
        number(j, "from_disk", (double)info->from_disk);
        number(j, "from_page_cache", (double)info->from_page_cache);
        text(j, "verified", hearth_verified_name(info->verified));
        json_object_end(j);
    }
    json_object_end(j);
}

static void write_part(struct json *j, const struct trace_part *part, unsigned *lane) {
    char name[128];
    name_lane(j, "thread_name", part->name, ++*lane);
    span(j, part->name, *lane, part->start_ns, part->end_ns, part->info);
    for (unsigned i = 0; part->info && i < HEARTH_PHASES; i++) {
        const struct hearth_span *s = &part->info->phases[i];
        const char *phase = hearth_phase_name((enum hearth_phase)i);
        if (s->end_ns == 0)
            continue;
        snprintf(name, sizeof(name), "%s: %s", part->name, phase);
        name_lane(j, "thread_name", name, ++*lane);
        span(j, phase, *lane, part->start_ns + s->start_ns, part->start_ns + s->end_ns, NULL);
    }
}

int trace_write(const char *path, const char *ref, const struct trace_part *parts, size_t n, struct hearth_error *err) {
    FILE *out = fopen(path, "we");
    struct json j;
    unsigned lane = 0;
    if (out) {
        json_init(&j, out, false);
        json_object_begin(&j);
        text(&j, "displayTimeUnit", "ms");
        json_key(&j, "traceEvents");
        json_array_begin(&j);
        name_lane(&j, "process_name", ref, 0);
        for (size_t i = 0; i < n; i++)
            write_part(&j, &parts[i], &lane);
        json_array_end(&j);
        json_object_end(&j);
    }
    int failed = !out || ferror(out), e = failed ? errno : 0;
    if (out && fclose(out) != 0)
        e = errno;
    if (!e)
        return 0;
    int r = error_errno(err, e, "cannot write the trace");
    error_at(err, path, HEARTH_NO_OFFSET);
    return r;
}
