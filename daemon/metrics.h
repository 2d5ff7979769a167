/* daemon/metrics.h: figures for Prometheus: what is counted, and how it is written.
 *
 * The event loop counts; nothing here blocks or allocates. What changes by the moment (memory, leases) is filled in
 * when somebody asks. metrics_http.c serves it on a thread of its own, which gets a copy.
 *
 * Names follow Prometheus' conventions: seconds and bytes, _total for what only grows. Labels have few values, none of
 * which comes from a client or a file.
 *
 * Thread rule: none of its own; whoever has the struct.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth/error.h>
#include <hearth/protocol.h>

#include "loader/loader.h"

#define HISTOGRAM_BUCKETS_MAX 16u
/* Buckets are not cumulative here; the text's are. The last is for what is above all bounds. */
struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS_MAX + 1];
    uint64_t sum_ns;
};

#define METRICS_CODES (HEARTH_E_PARSER + 1)
#define METRICS_STATES (HEARTH_STATE_GONE + 1)

struct metrics {
    struct histogram load, phases[HEARTH_PHASES], attach;
    uint64_t read_disk, read_page_cache; /* bytes */
    uint64_t evictions;
    uint64_t failures[METRICS_CODES]; /* loads that failed */
    /* As it is at the moment. */
    uint64_t refusals[METRICS_CODES]; /* likewise counted, by ipc/ */
    uint64_t artifacts[METRICS_STATES];
    uint64_t resident_bytes, budget_bytes, budget_used_bytes, budget_fds, budget_used_fds, leases, clients;
    uint64_t reserve_bytes, reserve_held_bytes;
    uint64_t uptime_ns;
};

/* A load that ended well. */
void metrics_load(struct metrics *m, const struct resident *r, uint64_t ns);
/* The daemon's work on one attach. */
void metrics_attach(struct metrics *m, uint64_t ns);

/* The text exposition format, version 0.0.4. */
void metrics_write(const struct metrics *m, FILE *to);
