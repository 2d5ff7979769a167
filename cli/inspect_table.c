/* cli/inspect_table.c: an inspection for people. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/inspection.h"
#include "cli/table.h"
#include "util/cleanup.h"
#include "util/text.h"

#define VALUE_MAX 100 /* bytes of a metadata value that are shown */

static void section(const char *title, const struct table *t) {
    printf("\n%s\n", title);
    table_print(t, 2, stdout);
}

static void summary(const struct inspection *in) {
    const struct hearth_index_header *h = inspection_header(in);
    char size[16];
    _cleanup_table_ struct table *t = table_new("ll");
    table_cell(t, "artifact");
    table_cell(t, "%s", in->ref);
    table_cell(t, "verdict");
    table_cell(t, "%s", inspection_verdict(in));
    table_cell(t, "format");
    table_cell_n(t, h->format.length ? inspection_string(in, h->format) : "none known",
                 h->format.length ? h->format.length : strlen("none known"));
    table_cell(t, "size");
    table_cell(t, "%s in %" PRIu64 " file%s", format_size(h->bytes, size, sizeof(size)), h->files.count,
               h->files.count == 1 ? "" : "s");
    table_print(t, 0, stdout);
}

/* By role, in the order of the roles that matter most to a reader. */
static void list_files(const struct inspection *in) {
    static const enum hearth_role order[] = {
        HEARTH_ROLE_WEIGHTS,  HEARTH_ROLE_CONFIG, HEARTH_ROLE_TOKENIZER, HEARTH_ROLE_PREPROCESSING,
        HEARTH_ROLE_METADATA, HEARTH_ROLE_CODE,   HEARTH_ROLE_OTHER,
    };
    const struct hearth_index_file *files = inspection_table(in, inspection_header(in)->files);
    _cleanup_table_ struct table *t = table_new("lrll");
    for (size_t r = 0; r < sizeof(order) / sizeof(order[0]); r++) {
        for (size_t i = 0; i < inspection_header(in)->files.count; i++) {
            if (files[i].role != (uint32_t)order[r])
                continue;
            table_cell(t, "%s", hearth_role_name(order[r]));
            table_size(t, files[i].bytes);
            table_cell_n(t, inspection_string(in, files[i].path), files[i].path.length);
            table_cell_n(t, inspection_string(in, files[i].format), files[i].format.length);
        }
    }
    section("Files", t);
}

struct by_dtype {
    const struct inspection *in;
    const struct hearth_index_tensor *tensors;
};

static int compare_dtypes(const void *a, const void *b, void *user) {
    const struct by_dtype *d = user;
    return strcmp(inspection_string(d->in, d->tensors[*(const uint32_t *)a].dtype),
                  inspection_string(d->in, d->tensors[*(const uint32_t *)b].dtype));
}

static void count_dtypes(const struct inspection *in) {
    size_t n = inspection_header(in)->tensors.count;
    struct by_dtype d = {.in = in, .tensors = inspection_table(in, inspection_header(in)->tensors)};
    _cleanup_free_ uint32_t *order = inspection_tensors(in);
    if (!order)
        return;
    qsort_r(order, n, sizeof(*order), compare_dtypes, &d);
    _cleanup_table_ struct table *t = table_new("lrr");
    for (size_t first = 0, end; first < n; first = end) {
        uint64_t bytes = 0;
        for (end = first; end < n && compare_dtypes(&order[first], &order[end], &d) == 0; end++)
            bytes += d.tensors[order[end]].bytes;
        struct hearth_str dtype = d.tensors[order[first]].dtype;
        table_cell_n(t, inspection_string(in, dtype), dtype.length);
        table_cell(t, "%zu", end - first);
        table_size(t, bytes);
    }
    section("Tensors", t);
}

static void list_tensors(const struct inspection *in) {
    const struct hearth_index_header *h = inspection_header(in);
    const struct hearth_index_tensor *all = inspection_table(in, h->tensors);
    const struct hearth_index_file *files = inspection_table(in, h->files);
    const uint64_t *dims = inspection_table(in, h->dims);
    _cleanup_free_ uint32_t *order = inspection_tensors(in);
    if (!order)
        return;
    _cleanup_table_ struct table *t = table_new("llrrll");
    static const char *const heading[] = {"NAME", "DTYPE", "OFFSET", "BYTES", "SHAPE", "FILE"};
    for (size_t i = 0; i < sizeof(heading) / sizeof(heading[0]); i++)
        table_cell(t, "%s", heading[i]);
    for (size_t i = 0; i < h->tensors.count; i++) {
        const struct hearth_index_tensor *x = &all[order[i]];
        char shape[HEARTH_DIMS_MAX * 22 + 3] = "[";
        for (uint32_t k = 0, used = 1; k < x->n_dims; k++)
            used += (uint32_t)snprintf(shape + used, sizeof(shape) - used, "%s%" PRIu64, k ? ", " : "",
                                       dims[x->dims_first + k]);
        strcat(shape, "]");
        table_cell_n(t, inspection_string(in, x->name), x->name.length);
        table_cell_n(t, inspection_string(in, x->dtype), x->dtype.length);
        table_cell(t, "%" PRIu64, x->offset);
        table_cell(t, "%" PRIu64, x->bytes);
        table_cell(t, "%s", shape);
        table_cell_n(t, inspection_string(in, files[x->file].path), files[x->file].path.length);
    }
    section("Every tensor", t);
}

static void list_metadata(const struct inspection *in) {
    const struct hearth_index_header *h = inspection_header(in);
    const struct hearth_index_meta *m = inspection_table(in, h->metadata);
    const struct hearth_index_file *files = inspection_table(in, h->files);
    if (h->metadata.count == 0)
        return;
    _cleanup_table_ struct table *t = table_new("lll");
    for (size_t i = 0; i < h->metadata.count; i++) {
        bool cut = m[i].value.length > VALUE_MAX;
        char value[VALUE_MAX + 4];
        size_t length = cut ? VALUE_MAX : m[i].value.length;
        memcpy(value, inspection_string(in, m[i].value), length);
        memcpy(value + length, "...", 4);
        table_cell_n(t, inspection_string(in, m[i].key), m[i].key.length);
        table_cell_n(t, value, cut ? length + 3 : length);
        table_cell_n(t, inspection_string(in, files[m[i].file].path), files[m[i].file].path.length);
    }
    section("Metadata", t);
}

static void list_findings(const struct inspection *in) {
    const struct hearth_index_header *h = inspection_header(in);
    const struct hearth_index_finding *f = inspection_table(in, h->findings);
    const struct hearth_index_file *files = inspection_table(in, h->files);
    bool any = h->findings.count > 0;
    _cleanup_table_ struct table *t = table_new("lll");
    for (size_t i = 0; i < h->findings.count; i++) {
        table_cell_n(t, inspection_string(in, f[i].code), f[i].code.length);
        table_cell_n(t, inspection_string(in, f[i].file), f[i].file.length);
        if (f[i].offset == HEARTH_NO_OFFSET)
            table_cell_n(t, inspection_string(in, f[i].message), f[i].message.length);
        else
            table_cell(t, "%s (at byte %" PRIu64 ")", inspection_string(in, f[i].message), f[i].offset);
    }
    for (size_t i = 0; i < h->files.count; i++) {
        if (!inspection_is_opaque(in, &files[i]))
            continue;
        any = true;
        table_cell(t, "%s", INSPECTION_OPAQUE_CODE);
        table_cell_n(t, inspection_string(in, files[i].path), files[i].path.length);
        table_cell(t, "%s", INSPECTION_OPAQUE_MESSAGE);
    }
    if (any)
        section("Findings", t);
}

void inspection_print(const struct inspection *in, bool all_tensors) {
    summary(in);
    list_files(in);
    count_dtypes(in);
    if (all_tensors)
        list_tensors(in);
    list_metadata(in);
    list_findings(in);
}
