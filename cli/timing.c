/* cli/timing.c: see timing.h. */
#include "cli/timing.h"

#include <stdio.h>
#include <string.h>

#include "util/text.h"

/* A disk that is kept busy for so much of the time is what holds a load up. */
#define BUSY_SHARE 0.9
#define FASTER 1.1 /* beyond what two measurements of one disk differ by */

const char *holdup_name(enum holdup h) {
    static const char *const names[] = {"nothing", "page_cache", "disk",    "unknown", "opening",
                                        "memory",  "reading",    "hashing", "parsing", "sealing"};
    return (size_t)h < sizeof(names) / sizeof(names[0]) ? names[h] : "unknown";
}

static uint64_t beyond(uint64_t later, uint64_t earlier) {
    return later > earlier ? later - earlier : 0;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Pages were supplied for nearly as long as there were reads: these waited for them. */
static bool populate_kept_pace(const struct hearth_span *p) {
    const struct hearth_span *read = &p[HEARTH_PHASE_READ], *populate = &p[HEARTH_PHASE_POPULATE];
    uint64_t took = beyond(read->end_ns, read->start_ns);
    return populate->end_ns + took / 10 >= read->end_ns &&
           beyond(populate->end_ns, populate->start_ns) >= took - took / 5;
}

static void find_worst(const struct hearth_info *load, uint64_t disk_ns, struct verdict *v) {
    const struct hearth_span *p = load->phases;
    uint64_t read = p[HEARTH_PHASE_READ].end_ns;
    uint64_t hashed = larger(read, p[HEARTH_PHASE_HASH].end_ns), parsed = larger(hashed, p[HEARTH_PHASE_PARSE].end_ns);
    const struct {
        enum holdup holdup;
        uint64_t lost_ns;
    } candidates[] = {
        {HOLDUP_OPENING, p[HEARTH_PHASE_READ].start_ns},
        {populate_kept_pace(p) ? HOLDUP_MEMORY : HOLDUP_READING,
         beyond(beyond(read, p[HEARTH_PHASE_READ].start_ns), disk_ns)},
        {HOLDUP_HASHING, hashed - read},
        {HOLDUP_PARSING, parsed - hashed},
        {HOLDUP_SEALING, beyond(load->seconds_ns, parsed)},
    };
    v->lost_ns = 0;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++)
        if (candidates[i].lost_ns >= v->lost_ns) {
            v->holdup = candidates[i].holdup;
            v->lost_ns = candidates[i].lost_ns;
        }
}

void timing_judge(const struct hearth_info *load, const struct disk_rate *disk, struct verdict *v) {
    static const char *const what[] = {
        [HOLDUP_OPENING] = "what comes before the first read: finding and opening the files",
        [HOLDUP_MEMORY] = "memory: the reads waited for pages to read into",
        [HOLDUP_READING] = "the reads: the disk had others to serve, or this machine too little CPU time",
        [HOLDUP_HASHING] = "hashing, which went on when all was read",
        [HOLDUP_PARSING] = "parsing, which went on when all was read and hashed",
        [HOLDUP_SEALING] = "sealing and publishing",
    };
    char lost[16];
    *v = (struct verdict){.holdup = HOLDUP_NOTHING};
    if (load->from_disk == 0) {
        v->holdup = load->from_page_cache > 0 ? HOLDUP_CACHE : HOLDUP_NOTHING;
        snprintf(v->sentence, sizeof(v->sentence), "%s",
                 load->from_page_cache > 0 ? "The disk had no part in it: the page cache had all of it."
                                           : "Nothing was read.");
        return;
    }
    if (disk->ns == 0 || disk->bytes == 0 || load->seconds_ns == 0) {
        v->holdup = HOLDUP_UNKNOWN;
        snprintf(v->sentence, sizeof(v->sentence),
                 "What the disk could give is not known: its file system does not read past the page cache.");
        return;
    }
    uint64_t disk_ns = (uint64_t)((double)load->from_disk / (double)disk->bytes * (double)disk->ns);
    v->of_limit = (double)disk_ns / (double)load->seconds_ns;
    if (v->of_limit >= BUSY_SHARE) {
        v->holdup = HOLDUP_DISK;
        if (v->of_limit > FASTER)
            snprintf(v->sentence, sizeof(v->sentence),
                     "The disk holds it back, and was faster than a moment before: its rate varies, or something "
                     "behind it keeps what was read (a hypervisor, a controller).");
        else
            snprintf(v->sentence, sizeof(v->sentence),
                     "The disk holds it back: it ran at %.0f %% of what the disk gives.", v->of_limit * 100);
        return;
    }
    find_worst(load, disk_ns, v);
    snprintf(v->sentence, sizeof(v->sentence), "It ran at %.0f %% of what the disk gives; most is lost to %s (%s).",
             v->of_limit * 100, what[v->holdup], format_duration(v->lost_ns, lost, sizeof(lost)));
}

void timing_chart(const struct hearth_info *load, unsigned width, FILE *out) {
    double scale = load->seconds_ns ? (double)width / (double)load->seconds_ns : 0;
    for (unsigned i = 0; i < HEARTH_PHASES; i++) {
        const struct hearth_span *s = &load->phases[i];
        char took[16];
        if (s->end_ns == 0)
            continue;
        unsigned from = (unsigned)((double)s->start_ns * scale), to = (unsigned)((double)s->end_ns * scale + 0.5);
        from = from < width ? from : width - 1;
        to = to > from ? to < width ? to : width : from + 1;
        fprintf(out, "  %-10s %8s  |%*s", hearth_phase_name((enum hearth_phase)i),
                format_duration(s->end_ns - s->start_ns, took, sizeof(took)), (int)from, "");
        for (unsigned k = from; k < to; k++)
            fputc('=', out);
        fprintf(out, "%*s|\n", (int)(width - to), "");
    }
}
