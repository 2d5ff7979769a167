/* bench/core.h: `hearth-bench core`: loading, attaching and holding, against the machine's own limits. */
#pragma once

#include "bench/bench.h"

/* Each measures some rows and prints what it sees on the way. 0, or -1 with the reason printed. */
int core_load(const struct bench_options *o, struct bench_rows *rows);
int core_attach(const struct bench_options *o, struct bench_rows *rows);
int core_memory(const struct bench_options *o, struct bench_rows *rows);
