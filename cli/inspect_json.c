/* cli/inspect_json.c: an inspection as a document. docs/json.md describes it.
 *
 * Metadata is an object of what the files agree on. Where two files give one key different values, each has its own
 * under "metadata" of that file, and the common object lacks the key.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/inspection.h"
#include "util/cleanup.h"

static void string(struct json *j, const struct inspection *in, const char *key, struct hearth_str s) {
    json_key(j, key);
    json_str_n(j, inspection_string(in, s), s.length);
}

static void string_or_null(struct json *j, const struct inspection *in, const char *key, struct hearth_str s) {
    if (s.length > 0) {
        string(j, in, key, s);
        return;
    }
    json_key(j, key);
    json_nil(j);
}

static void path(struct json *j, const struct inspection *in, const char *key, struct hearth_str s) {
    if (s.length > 0) {
        json_path(j, key, inspection_string(in, s), s.length);
        return;
    }
    json_key(j, key);
    json_nil(j);
}

static void offset(struct json *j, uint64_t value) {
    json_key(j, "offset");
    if (value == HEARTH_NO_OFFSET)
        json_nil(j);
    else
        json_u64(j, value);
}

static void error_as_finding(struct json *j, const struct inspection *in) {
    json_object_begin(j);
    document_text(j, "code", hearth_code_name(in->error.code));
    if (in->error.file[0]) {
        const char *inside = inspection_inside(in, in->error.file);
        json_path(j, "file", inside, strlen(inside));
    } else {
        json_key(j, "file");
        json_nil(j);
    }
    offset(j, in->error.offset);
    document_text(j, "message", in->error.message);
    json_object_end(j);
}

/* Without an index the selection still says what it left out. */
static void skipped_as_findings(struct json *j, const struct artifact *a) {
    for (size_t i = 0; i < a->n_skipped; i++) {
        json_object_begin(j);
        document_text(j, "code", "skipped");
        json_path(j, "file", a->skipped[i].path, strlen(a->skipped[i].path));
        offset(j, HEARTH_NO_OFFSET);
        document_text(j, "message", a->skipped[i].reason);
        json_object_end(j);
    }
}

static void opaque_as_findings(struct json *j, const struct inspection *in) {
    const struct hearth_index_file *files = inspection_table(in, inspection_header(in)->files);
    for (size_t i = 0; i < inspection_header(in)->files.count; i++) {
        if (!inspection_is_opaque(in, &files[i]))
            continue;
        json_object_begin(j);
        document_text(j, "code", INSPECTION_OPAQUE_CODE);
        path(j, in, "file", files[i].path);
        offset(j, HEARTH_NO_OFFSET);
        document_text(j, "message", INSPECTION_OPAQUE_MESSAGE);
        json_object_end(j);
    }
}

static void findings(struct json *j, const struct inspection *in) {
    json_key(j, "findings");
    json_array_begin(j);
    if (in->error.code)
        error_as_finding(j, in);
    if (!in->index && in->artifact)
        skipped_as_findings(j, in->artifact);
    size_t n = in->index ? inspection_header(in)->findings.count : 0;
    const struct hearth_index_finding *f = n ? inspection_table(in, inspection_header(in)->findings) : NULL;
    for (size_t i = 0; i < n; i++) {
        json_object_begin(j);
        string(j, in, "code", f[i].code);
        path(j, in, "file", f[i].file);
        offset(j, f[i].offset);
        string(j, in, "message", f[i].message);
        json_object_end(j);
    }
    if (in->index)
        opaque_as_findings(j, in);
    json_array_end(j);
}

/* ---- metadata ---- */

struct facts {
    const struct hearth_index_meta **sorted; /* by key, then file */
    bool *common;                            /* of each in `sorted`: all files that state the key agree */
    size_t n;
};

static int by_key(const void *a, const void *b, void *user) {
    const struct inspection *in = user;
    const struct hearth_index_meta *x = *(const struct hearth_index_meta *const *)a;
    const struct hearth_index_meta *y = *(const struct hearth_index_meta *const *)b;
    int order = strcmp(inspection_string(in, x->key), inspection_string(in, y->key));
    return order ? order : (x > y) - (x < y);
}

static bool equal(const struct inspection *in, struct hearth_str a, struct hearth_str b) {
    return a.length == b.length && memcmp(inspection_string(in, a), inspection_string(in, b), a.length) == 0;
}

static void facts_free(struct facts *f) {
    free(f->sorted);
    free(f->common);
}

static void facts_collect(struct facts *f, const struct inspection *in) {
    const struct hearth_index_meta *all = inspection_table(in, inspection_header(in)->metadata);
    f->n = inspection_header(in)->metadata.count;
    f->sorted = reallocarray(NULL, f->n + 1, sizeof(*f->sorted));
    f->common = reallocarray(NULL, f->n + 1, sizeof(*f->common));
    if (!f->sorted || !f->common)
        abort();
    for (size_t i = 0; i < f->n; i++)
        f->sorted[i] = &all[i];
    qsort_r(f->sorted, f->n, sizeof(struct hearth_index_meta *), by_key, (void *)in);
    for (size_t first = 0, end; first < f->n; first = end) {
        bool same = true;
        for (end = first + 1; end < f->n && equal(in, f->sorted[first]->key, f->sorted[end]->key); end++)
            same &= equal(in, f->sorted[first]->value, f->sorted[end]->value);
        for (size_t i = first; i < end; i++)
            f->common[i] = same;
    }
}

static void fact(struct json *j, const struct inspection *in, const struct hearth_index_meta *m) {
    json_name_n(j, inspection_string(in, m->key), m->key.length);
    json_str_n(j, inspection_string(in, m->value), m->value.length);
}

static void common_metadata(struct json *j, const struct inspection *in, const struct facts *f) {
    json_key(j, "metadata");
    json_object_begin(j);
    for (size_t i = 0; i < f->n; i++)
        if (f->common[i] && (i == 0 || !equal(in, f->sorted[i - 1]->key, f->sorted[i]->key)))
            fact(j, in, f->sorted[i]);
    json_object_end(j);
}

static void own_metadata(struct json *j, const struct inspection *in, const struct facts *f, uint32_t file) {
    bool any = false;
    for (size_t i = 0; i < f->n; i++) {
        if (f->common[i] || f->sorted[i]->file != file)
            continue;
        if (!any) {
            json_key(j, "metadata");
            json_object_begin(j);
        }
        any = true;
        fact(j, in, f->sorted[i]);
    }
    if (any)
        json_object_end(j);
}

/* ---- files and tensors ---- */

static void files_of_index(struct json *j, const struct inspection *in, const struct facts *f) {
    const struct hearth_index_file *files = inspection_table(in, inspection_header(in)->files);
    for (uint32_t i = 0; i < inspection_header(in)->files.count; i++) {
        json_object_begin(j);
        path(j, in, "path", files[i].path);
        document_text(j, "role", hearth_role_name((enum hearth_role)files[i].role));
        document_number(j, "bytes", files[i].bytes);
        string_or_null(j, in, "format", files[i].format);
        own_metadata(j, in, f, i);
        json_object_end(j);
    }
}

static void files_of_artifact(struct json *j, const struct artifact *a) {
    for (size_t i = 0; i < a->n_files; i++) {
        json_object_begin(j);
        json_path(j, "path", a->files[i].path, strlen(a->files[i].path));
        document_text(j, "role", hearth_role_name(a->files[i].role));
        document_number(j, "bytes", a->files[i].identity.bytes);
        json_key(j, "format");
        json_nil(j);
        json_object_end(j);
    }
}

static void tensors(struct json *j, const struct inspection *in) {
    const struct hearth_index_header *h = inspection_header(in);
    const struct hearth_index_tensor *all = inspection_table(in, h->tensors);
    const struct hearth_index_file *files = inspection_table(in, h->files);
    const uint64_t *dims = inspection_table(in, h->dims);
    _cleanup_free_ uint32_t *order = inspection_tensors(in);
    for (size_t i = 0; order && i < h->tensors.count; i++) {
        const struct hearth_index_tensor *t = &all[order[i]];
        json_object_begin(j);
        path(j, in, "name", t->name);
        path(j, in, "file", files[t->file].path);
        document_number(j, "offset", t->offset);
        document_number(j, "bytes", t->bytes);
        string(j, in, "dtype", t->dtype);
        json_key(j, "shape");
        json_array_begin(j);
        for (uint32_t d = 0; d < t->n_dims; d++)
            json_u64(j, dims[t->dims_first + d]);
        json_array_end(j);
        json_object_end(j);
    }
}

void inspection_print_json(const struct inspection *in) {
    _cleanup_(facts_free) struct facts facts = {0};
    struct json j;
    document_begin(&j);
    json_path(&j, "ref", in->ref, strlen(in->ref));
    document_text(&j, "verdict", inspection_verdict(in));
    if (in->index) {
        facts_collect(&facts, in);
        string_or_null(&j, in, "format", inspection_header(in)->format);
    } else {
        json_key(&j, "format");
        json_nil(&j);
    }
    findings(&j, in);
    json_key(&j, "files");
    json_array_begin(&j);
    if (in->index)
        files_of_index(&j, in, &facts);
    else if (in->artifact)
        files_of_artifact(&j, in->artifact);
    json_array_end(&j);
    json_key(&j, "tensors");
    json_array_begin(&j);
    if (in->index)
        tensors(&j, in);
    json_array_end(&j);
    common_metadata(&j, in, &facts);
    if (in->error.code)
        json_error(&j, &in->error);
    json_object_end(&j);
}
