/* bench/core.h: `hearth-bench core`: loading, attaching and holding, against the machine's own limits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/harness.h"
#include "bench/machine.h"

struct bench_options {
    const char *bin_dir; /* where hearthd and hearth-worker are */
    const char *place;   /* a folder on the disk to measure */
    const char *json;    /* NULL: none */
    uint64_t bytes;      /* of the artifact that is loaded cold */
    unsigned rounds_max;
};

#define CORE_ROWS_MAX 24
struct core_rows {
    size_t n;
    struct bench_row rows[CORE_ROWS_MAX];
};
/* Adds a row and returns it, for what is not given here. */
struct bench_row *core_row(struct core_rows *r, const char *name, const char *unit, double required, double goal);

/* Each measures some rows and prints what it sees on the way. 0, or -1 with the reason printed. */
int core_load(const struct bench_options *o, struct core_rows *rows);
int core_attach(const struct bench_options *o, struct core_rows *rows);
int core_memory(const struct bench_options *o, struct core_rows *rows);

/* Writes an artifact of `shards` safetensors files, `bytes` in all, into a new folder; synced, out of the page cache. 0
 * or -1 with the reason printed. */
int make_artifact(const char *folder, uint64_t bytes, unsigned shards);
void remove_artifact(const char *folder);

/* Runs fio once over these files where it is installed, and prints its rate, or why there is none. */
void fio_beside(char paths[][4160], size_t n);

/* Loads and returns the id, or 0 with the reason printed. */
struct hearth;
uint64_t load_artifact(struct hearth *h, const char *folder, int verify);
int bench_fail(const char *what, const char *why);
