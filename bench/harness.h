/* bench/harness.h: how hearth measures, for every benchmark.
 *
 * Machines are shared and noisy, so nothing is quoted from one run. Contenders run in interleaved rounds; a ratio is
 * the median of the ratios inside each round (pairs that met the same weather). Beside each ratio stands an A/A
 * control: the same thing measured against itself in the same rounds. The standard error of the control's median, by
 * bootstrap, is the spread: what a ratio of exactly 1 would wander by. Rounds go on until the spread is at most half
 * the margin (|required - 1|; 20 % of the requirement for absolute units), or to the most allowed; a row whose spread
 * is still larger is "inconclusive" and says so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUNDS_MIN 15
#define ROUNDS_MIN_SLOW 7 /* when one round takes over 10 s */
#define ROUNDS_MAX 60

enum bench_verdict { BENCH_PASSED, BENCH_FAILED, BENCH_INCONCLUSIVE, BENCH_DOES_NOT_APPLY };

struct bench_row {
    const char *name, *unit; /* unit "" for a ratio */
    double value, required, goal;
    double spread; /* in the row's unit */
    bool at_least; /* required is a lower bound, else an upper one */
    bool applies;
    char note[160]; /* why it does not apply, what else is worth knowing */
};

/* The samples of one quantity, one a round. */
struct samples {
    size_t n;
    double at[ROUNDS_MAX];
};

double samples_median(const struct samples *s);
/* Median of a[i] / b[i]. */
double ratio_median(const struct samples *a, const struct samples *b);
/* Bootstrap standard error (2000 resamples, fixed seed) of the median of a[i] / b[i]. */
double ratio_spread(const struct samples *a, const struct samples *b);
/* The q-quantile (0 to 1) of n values; sorts them. */
double quantile(double *values, size_t n, double q);

/* True when the spread is small enough for a verdict on this requirement. `unit` as in bench_row. */
bool spread_decides(double spread, double required, const char *unit);
enum bench_verdict bench_row_verdict(const struct bench_row *row);

/* The rounds of a benchmark: `for (struct rounds r = {.most = MOST}; next_round(&r);)`, which sets `decided` at the end
 * of each when all rows are. */
struct rounds {
    size_t n;      /* the one that runs, from 0 on; at the end, how many there were */
    unsigned most; /* never more than so many */
    bool decided;
    uint64_t begin_ns, slowest_ns; /* next_round()'s own */
};
bool next_round(struct rounds *r);

/* The table for people on stdout, and with `json` not NULL {rows: [...]} in that file. Returns 0 when no row failed or
 * stayed inconclusive, else 1. */
int bench_report(const struct bench_row *rows, size_t n, const char *json);
