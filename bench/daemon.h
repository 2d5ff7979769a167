/* bench/daemon.h: `hearth-bench daemon`: what a daemon that is left running meets: warm page caches, prefetches,
 * fallbacks, crowds, short memory. */
#pragma once

#include "bench/bench.h"

/* Each measures some rows and prints what it sees on the way. 0, or -1 with the reason printed. */
int daemon_cache(const struct bench_options *o, struct bench_rows *rows);
int daemon_scale(const struct bench_options *o, struct bench_rows *rows);
int daemon_pressure(const struct bench_options *o, struct bench_rows *rows);
int daemon_urgent(const struct bench_options *o, struct bench_rows *rows);
int daemon_reserve(const struct bench_options *o, struct bench_rows *rows);
int daemon_stream(const struct bench_options *o, struct bench_rows *rows);
