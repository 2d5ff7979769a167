/* bench/bench.h: what the parts of every benchmark share. Each part is a function that measures some rows; main.c has
 * the table of them. */
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

#define BENCH_ROWS_MAX 24
struct bench_rows {
    size_t n;
    struct bench_row rows[BENCH_ROWS_MAX];
};
/* Adds a row and returns it, for what is not given here. */
struct bench_row *bench_row_add(struct bench_rows *r, const char *name, const char *unit, double required, double goal);

/* Writes an artifact of `shards` safetensors files, `bytes` in all, into a new folder; synced, out of the page cache. 0
 * or -1 with the reason printed. */
int make_artifact(const char *folder, uint64_t bytes, unsigned shards);
void remove_artifact(const char *folder);

/* Runs fio once over these files where it is installed, and prints its rate, or why there is none. */
void fio_beside(char paths[][4160], size_t n);

/* Loads and returns the id, or 0 with the reason printed. */
uint64_t load_artifact(struct hearth *h, const char *folder, int verify);
int bench_fail(const char *what, const char *why);
