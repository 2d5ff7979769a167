/* artifact/format/safetensors_shards.c: the index of a model that is cut into several safetensors files.
 *
 *     NAME.safetensors.index.json: {"metadata": {...}, "weight_map": {"TENSOR": "FILE", ...}}
 *
 * FILE lies beside the index. The map is checked against what the shards really hold:
 * - a file that it names must be in the artifact, or have been left out by selection (which is a finding already);
 * - a tensor that it names must be in the file that it names;
 * - no tensor may be mapped twice;
 * - tensors that a shard has beyond the map are a finding, one for each shard: a reader that goes by the map never
 *   sees them.
 * Everything else in the document is passed over.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/format/format.h"
#include "artifact/format/json_reader.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

#define DOCUMENT_MAX UINT64_C(100000000) /* the limit that the shards' own headers have */
#define RULE "InvalidShardIndex"

enum { NO_FILE = UINT32_MAX };

struct mapping {
    const struct format_input *in;
    uint32_t file; /* the document */
    struct index_builder *b;
    struct hearth_error *err;
    struct json_reader json;
    size_t n_tensors;
    uint8_t *mapped; /* a bit for each of the index's tensors */
    uint8_t *shard;  /* a bit for each file: the map names it */
    char *name;      /* the tensor under way */
    size_t name_length, name_capacity;
    uint64_t name_at;
    char path[4096];        /* the shard found last, which usually is the next one too */
    uint32_t shard_of_path; /* NO_FILE: left out by selection */
};

static bool claims(const struct format_file *f) {
    return format_ends_with(f->path, ".safetensors.index.json");
}

static bool bit(const uint8_t *bits, size_t i) {
    return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(uint8_t *bits, size_t i) {
    bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static int read_json(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err) {
    struct mapping *m = user;
    return m->in->read(m->in->user, m->file, offset, buffer, bytes, err);
}

static int bad_json(struct mapping *m) {
    const struct json_reader *j = &m->json;
    if (j->fault == JSON_FAULT_INPUT)
        return m->err ? (int)m->err->code : HEARTH_E_IO;
    return format_refuse(m->in, m->file, j->fault_at, m->err, RULE, "the index of shards is not JSON: %s",
                         j->fault_text);
}

static int unexpected(struct mapping *m, enum json_token token, const char *want) {
    if (token == JSON_TOKEN_FAULT)
        return bad_json(m);
    return format_refuse(m->in, m->file, m->json.at, m->err, RULE, "%s is due here", want);
}

static int keep_name(struct mapping *m) {
    if (m->json.length > m->name_capacity) {
        char *grown = realloc(m->name, m->json.length);
        if (!grown)
            return error_set(m->err, HEARTH_E_NO_MEMORY, "no memory for a name of %zu bytes", m->json.length);
        m->name = grown;
        m->name_capacity = m->json.length;
    }
    if (m->json.length > 0)
        memcpy(m->name, m->json.text, m->json.length);
    m->name_length = m->json.length;
    m->name_at = m->json.at;
    return 0;
}

static int compare_path(const void *key, const void *file) {
    return strcmp(key, ((const struct format_file *)file)->path);
}

/* The file that the last token names, beside the document. */
static int find_shard(struct mapping *m) {
    const char *document = m->in->files[m->file].path, *slash = strrchr(document, '/');
    int directory = slash ? (int)(slash + 1 - document) : 0;
    const struct json_reader *j = &m->json;
    char path[sizeof(m->path)], shown[256];
    format_printable(j->text, j->length, shown, sizeof(shown));
    if (j->length == 0 || j->length + (size_t)directory >= sizeof(path) || memchr(j->text, '\0', j->length) ||
        memchr(j->text, '/', j->length))
        return format_refuse(m->in, m->file, j->at, m->err, RULE, "\"%s\" is not the name of a file beside this one",
                             shown);
    snprintf(path, sizeof(path), "%.*s%.*s", directory, document, (int)j->length, j->text);
    if (strcmp(path, m->path) == 0)
        return 0;
    const struct format_file *f = bsearch(path, m->in->files, m->in->n_files, sizeof(*f), compare_path);
    if (!f && !index_was_skipped(m->b, path)) {
        format_refuse(m->in, m->file, j->at, m->err, RULE, "the shard \"%s\" is missing", shown);
        error_hint(m->err, "was the download cut off? Fetch the missing file, or load the shards without their index");
        return HEARTH_E_MALFORMED;
    }
    memcpy(m->path, path, sizeof(path));
    m->shard_of_path = f ? (uint32_t)(f - m->in->files) : NO_FILE;
    if (f)
        set_bit(m->shard, m->shard_of_path);
    return 0;
}

/* "TENSOR": "FILE" */
static int check_entry(struct mapping *m) {
    int e = keep_name(m);
    if (e != 0)
        return e;
    enum json_token token = json_read(&m->json);
    if (token != JSON_TOKEN_STRING)
        return unexpected(m, token, "the name of a file");
    e = find_shard(m);
    if (e != 0 || m->shard_of_path == NO_FILE)
        return e;
    size_t place = index_find(m->b, m->name, m->name_length, m->shard_of_path);
    bool again = place != SIZE_MAX && bit(m->mapped, place);
    if (place != SIZE_MAX && !again) {
        set_bit(m->mapped, place);
        return 0;
    }
    char shown[256];
    format_printable(m->name, m->name_length, shown, sizeof(shown));
    if (again)
        return format_refuse(m->in, m->file, m->name_at, m->err, RULE,
                             "duplicate key: the tensor \"%s\" is mapped twice", shown);
    format_refuse(m->in, m->file, m->name_at, m->err, RULE, "the shard %s has no tensor \"%s\"", m->path, shown);
    error_hint(m->err, "the index and the shards are not of the same model: fetch all of them again");
    return HEARTH_E_MALFORMED;
}

static int read_map(struct mapping *m) {
    enum json_token token = json_read(&m->json);
    if (token != JSON_TOKEN_OBJECT)
        return unexpected(m, token, "an object, \"weight_map\",");
    while ((token = json_read(&m->json)) == JSON_TOKEN_KEY) {
        int e = check_entry(m);
        if (e != 0)
            return e;
    }
    return token == JSON_TOKEN_OBJECT_END ? 0 : bad_json(m);
}

static int read_document(struct mapping *m) {
    enum json_token token = json_read(&m->json);
    bool seen = false;
    if (token != JSON_TOKEN_OBJECT)
        return unexpected(m, token, "the object that an index of shards is");
    while ((token = json_read(&m->json)) == JSON_TOKEN_KEY) {
        int e;
        if (!json_text_is(&m->json, "weight_map")) {
            e = json_skip(&m->json, json_read(&m->json)) ? 0 : bad_json(m);
        } else if (seen) {
            e = format_refuse(m->in, m->file, m->json.at, m->err, RULE, "duplicate key: \"weight_map\" is there twice");
        } else {
            seen = true;
            e = read_map(m);
        }
        if (e != 0)
            return e;
    }
    if (token == JSON_TOKEN_OBJECT_END)
        token = json_read(&m->json);
    if (token != JSON_TOKEN_END)
        return bad_json(m);
    return seen ? 0 : format_refuse(m->in, m->file, 0, m->err, RULE, "it has no \"weight_map\"");
}

/* A name that two shards have, and the map gives to both: the same key twice, seen only now. */
static int check_double(struct mapping *m, size_t place) {
    const struct index_draft *x = index_at(m->b, place - 1), *y = index_at(m->b, place);
    const char *name = index_string(m->b, y->name);
    if (!bit(m->mapped, place - 1) || !bit(m->mapped, place) || x->name.length != y->name.length ||
        memcmp(index_string(m->b, x->name), name, y->name.length) != 0)
        return 0;
    char shown[256];
    return format_refuse(m->in, m->file, HEARTH_NO_OFFSET, m->err, RULE,
                         "duplicate key: the tensor \"%s\" is mapped to two shards",
                         format_printable(name, y->name.length, shown, sizeof(shown)));
}

struct unmapped {
    uint32_t file;
    uint64_t count;
    size_t place; /* of the first */
};

static int report_unmapped(struct mapping *m, const struct unmapped *u) {
    char text[512], shown[256];
    const struct index_draft *t = index_at(m->b, u->place);
    format_printable(index_string(m->b, t->name), t->name.length, shown, sizeof(shown));
    snprintf(text, sizeof(text), "%" PRIu64 " tensor%s of this shard, \"%s\"%s, %s not in the index of shards",
             u->count, u->count == 1 ? "" : "s", shown, u->count == 1 ? "" : " first", u->count == 1 ? "is" : "are");
    return index_add_finding(m->b, "unmapped", m->in->files[u->file].path, t->where, text, m->err);
}

static int check_rest(struct mapping *m) {
    _cleanup_free_ struct unmapped *by_file = calloc((size_t)m->in->n_files + 1, sizeof(*by_file));
    if (!by_file)
        return error_set(m->err, HEARTH_E_NO_MEMORY, "no memory for %" PRIu32 " files", m->in->n_files);
    int e = 0;
    for (size_t i = 0; e == 0 && i < m->n_tensors; i++) {
        uint32_t file = index_at(m->b, i)->file;
        if (i > 0)
            e = check_double(m, i);
        if (!bit(m->shard, file) || bit(m->mapped, i))
            continue;
        if (by_file[file].count++ == 0)
            by_file[file].place = i;
    }
    for (uint32_t i = 0; e == 0 && i < m->in->n_files; i++) {
        by_file[i].file = i;
        e = by_file[i].count > 0 ? report_unmapped(m, &by_file[i]) : 0;
    }
    return e;
}

static int check(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    uint64_t bytes = in->files[file].bytes;
    if (bytes > DOCUMENT_MAX) {
        format_refuse(in, file, 0, err, RULE, "the index of shards is too long");
        error_expected(err, "at most %" PRIu64 " bytes", DOCUMENT_MAX);
        error_found(err, "%" PRIu64 " bytes", bytes);
        return HEARTH_E_MALFORMED;
    }
    struct mapping m = {.in = in, .file = file, .b = b, .err = err, .shard_of_path = NO_FILE};
    index_drafts(b, &m.n_tensors);
    m.mapped = calloc(m.n_tensors / 8 + 1, 1);
    m.shard = calloc((size_t)in->n_files / 8 + 1, 1);
    int e;
    if (!m.mapped || !m.shard) {
        e = error_set(err, HEARTH_E_NO_MEMORY, "no memory to check %zu tensors", m.n_tensors);
    } else {
        json_reader_init(&m.json, 0, bytes, read_json, &m, err);
        e = read_document(&m);
        json_reader_deinit(&m.json);
        e = e ? e : check_rest(&m);
    }
    free(m.mapped);
    free(m.shard);
    free(m.name);
    return e;
}

const struct format format_safetensors_shards = {.name = "json", .claims = claims, .check = check};
