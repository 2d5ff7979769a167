/* bench/harness.c: see harness.h. */
#include "bench/harness.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/json.h"

#define RESAMPLES 2000

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, size_t n, double q) {
    if (n == 0)
        return NAN;
    qsort(values, n, sizeof(*values), ascending);
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;
    size_t high = low + 1 < n ? low + 1 : low;
    return values[low] + (values[high] - values[low]) * (at - (double)low);
}

double samples_median(const struct samples *s) {
    double copy[ROUNDS_MAX];
    memcpy(copy, s->at, s->n * sizeof(double));
    return quantile(copy, s->n, 0.5);
}

static size_t ratios(const struct samples *a, const struct samples *b, double out[ROUNDS_MAX]) {
    size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < n; i++)
        out[i] = a->at[i] / b->at[i];
    return n;
}

double ratio_median(const struct samples *a, const struct samples *b) {
    double r[ROUNDS_MAX];
    size_t n = ratios(a, b, r);
    return quantile(r, n, 0.5);
}

double ratio_spread(const struct samples *a, const struct samples *b) {
    double r[ROUNDS_MAX], draw[ROUNDS_MAX];
    size_t n = ratios(a, b, r);
    if (n < 2)
        return INFINITY;
    uint64_t x = UINT64_C(0x9e3779b97f4a7c15); /* xorshift64: the same draws every time */
    double sum = 0, squares = 0;
    for (int k = 0; k < RESAMPLES; k++) {
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            draw[i] = r[x % n];
        }
        double m = quantile(draw, n, 0.5);
        sum += m;
        squares += m * m;
    }
    double mean = sum / RESAMPLES;
    return sqrt(fmax(0, squares / RESAMPLES - mean * mean));
}

bool spread_decides(double spread, double required, const char *unit) {
    double margin = unit[0] ? 0.2 * fabs(required) : fabs(required - 1);
    return spread <= margin / 2;
}

enum bench_verdict bench_row_verdict(const struct bench_row *row) {
    if (!row->applies)
        return BENCH_DOES_NOT_APPLY;
    if (!isfinite(row->value) || !spread_decides(row->spread, row->required, row->unit))
        return BENCH_INCONCLUSIVE;
    bool met = row->at_least ? row->value >= row->required : row->value <= row->required;
    return met ? BENCH_PASSED : BENCH_FAILED;
}

bool next_round(struct rounds *r) {
    uint64_t now = clock_now();
    if (r->begin_ns) {
        uint64_t took = now - r->begin_ns;
        r->slowest_ns = took > r->slowest_ns ? took : r->slowest_ns;
        r->n++;
    }
    r->begin_ns = now;
    size_t least = r->slowest_ns > 10 * NS_PER_S ? ROUNDS_MIN_SLOW : ROUNDS_MIN;
    return r->n < r->most && (r->n < least || (r->n < ROUNDS_MAX && !r->decided));
}

static const char *const verdict_names[] = {"passed", "failed", "inconclusive", "does-not-apply"};

static int write_json(const struct bench_row *rows, size_t n, const char *path) {
    FILE *f = fopen(path, "we");
    if (!f) {
        fprintf(stderr, "hearth-bench: %s: %s\n", path, strerror(errno));
        return 1;
    }
    struct json j;
    json_init(&j, f, true);
    json_object_begin(&j);
    json_key(&j, "schema");
    json_u64(&j, 1);
    json_key(&j, "rows");
    json_array_begin(&j);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&j);
        json_key(&j, "name");
        json_str(&j, rows[i].name);
        json_key(&j, "value");
        json_double(&j, rows[i].value);
        json_key(&j, "unit");
        json_str(&j, rows[i].unit);
        json_key(&j, "required");
        json_double(&j, rows[i].required);
        json_key(&j, "goal");
        json_double(&j, rows[i].goal);
        json_key(&j, "spread");
        json_double(&j, rows[i].spread);
        json_key(&j, "verdict");
        json_str(&j, verdict_names[bench_row_verdict(&rows[i])]);
        json_key(&j, "note");
        json_str(&j, rows[i].note);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        fprintf(stderr, "hearth-bench: %s: could not be written\n", path);
        return 1;
    }
    return 0;
}

int bench_report(const struct bench_row *rows, size_t n, const char *json) {
    int bad = 0;
    printf("\n%-64s %10s %-4s %10s %8s %8s  %s\n", "row", "value", "unit", "required", "goal", "spread", "verdict");
    for (size_t i = 0; i < n; i++) {
        enum bench_verdict v = bench_row_verdict(&rows[i]);
        printf("%-64s %10.4g %-4s %2s%8.4g %8.4g %8.2g  %s%s%s\n", rows[i].name, rows[i].value, rows[i].unit,
               rows[i].at_least ? ">=" : "<=", rows[i].required, rows[i].goal, rows[i].spread, verdict_names[v],
               rows[i].note[0] ? ": " : "", rows[i].note);
        bad |= v == BENCH_FAILED || v == BENCH_INCONCLUSIVE;
    }
    if (json)
        bad |= write_json(rows, n, json);
    return bad;
}
