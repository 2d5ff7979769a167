/* cli/timing.h: what a load's phases say of it. Asks nobody anything. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth/hearth.h>

#include "cli/disk.h"

/* What takes most of the time that a load takes beyond what its disk needs. */
enum holdup {
    HOLDUP_NOTHING, /* "nothing": it read no file */
    HOLDUP_CACHE,   /* "page_cache": it came from memory, and the disk had no part in it */
    HOLDUP_DISK,    /* "disk" */
    HOLDUP_UNKNOWN, /* "unknown": the disk's limit could not be measured */
    HOLDUP_OPENING, /* "opening": what comes before the first read */
    HOLDUP_MEMORY,  /* "memory": supplying pages to read into */
    HOLDUP_READING, /* "reading": the reads took longer than the disk's limit, for no reason that shows here */
    HOLDUP_HASHING, /* "hashing": what is left to hash when all is read */
    HOLDUP_PARSING, /* "parsing": likewise, to parse */
    HOLDUP_SEALING, /* "sealing": likewise, to seal and publish */
};
const char *holdup_name(enum holdup h);

struct verdict {
    enum holdup holdup;
    double of_limit;  /* the disk's own time for what came from it, over the load's; 0: not known */
    uint64_t lost_ns; /* to what holds it up, DISK aside */
    char sentence[320];
};
void timing_judge(const struct hearth_info *load, const struct disk_rate *disk, struct verdict *out);

/* A line for each phase: its name, how long it took, and a bar of `width` characters that is the whole load. */
void timing_chart(const struct hearth_info *load, unsigned width, FILE *out);
