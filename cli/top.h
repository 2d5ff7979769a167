/* cli/top.h: one frame of `hearth top`, as lines of text.
 *
 * A pure function of what the daemon said now and a frame before, so that it can be tested without a terminal; only
 * top.c writes to one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth/hearth.h>

struct top_sample {
    uint64_t at_ns; /* CLOCK_MONOTONIC; 0: there is none */
    struct hearth_status status;
    struct hearth_info *artifacts; /* malloc'd, in any order */
    size_t n_artifacts;
};

/* Writes the frame: lines of at most `columns` characters, and of those at most `rows`. Rates are taken between the two
 * samples; without a former one they are means since the load began. Reorders now's artifacts: what loads first. */
void top_frame(struct top_sample *now, const struct top_sample *former, unsigned columns, unsigned rows, FILE *out);
