/* cli/trace.h: loads as trace events, the JSON that chrome://tracing and ui.perfetto.dev open. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

/* One load, or one thing that was done beside it. */
struct trace_part {
    const char *name;               /* of its lane */
    const struct hearth_info *info; /* its phases; or NULL: one span */
    uint64_t start_ns, end_ns;      /* in the trace's time; phases are relative to the start */
};

/* Writes a file anew. Errors: those of opening and writing it. */
int trace_write(const char *path, const char *ref, const struct trace_part *parts, size_t n, struct hearth_error *err);
