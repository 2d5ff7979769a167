/* artifact/format/safetensors.c: the safetensors format.
 *
 *     u64 N, little endian | N bytes of JSON, the header | data
 *     header: {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {str:
 * str}}
 *
 * Offsets count from the start of the data. The rules, their order and their names are those of the reference reader
 * (huggingface/safetensors 0.8): tensors may come in any order and unaligned, but leave no gap and no byte over; a
 * shape may be empty (a scalar) or have a zero; "__metadata__" may be null; white space may surround the header; fields
 * of a tensor that nobody knows are passed over. A header is read once, from front to back, so of several faults in
 * its text the first is named.
 *
 * Stricter than the reference, each because two readers could otherwise see two models or because the index could not
 * hold it: no tensor, field or metadata key may come twice; a tensor is an object and a dtype a string (the reference
 * lets arrays and {"F32": null} pass, by the habits of its JSON library); no NUL inside a name or a text of metadata;
 * no more than HEARTH_DIMS_MAX dimensions.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/format/format.h"
#include "artifact/format/index_dtype.h"
#include "artifact/format/index_sort.h"
#include "artifact/format/json_reader.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

#define HEADER_MAX UINT64_C(100000000)

#define BAD_HEADER "InvalidHeaderDeserialization"

struct reading {
    const struct format_input *in;
    uint32_t file;
    struct index_builder *b;
    struct hearth_error *err;
    struct json_reader json;
    size_t first;      /* the file's first tensor among the builder's */
    uint8_t *dtype_of; /* of each of the file's tensors: a number in dtypes[] */
    size_t capacity;
    bool metadata_seen;
};

static bool claims(const struct format_file *f) {
    return format_ends_with(f->path, ".safetensors");
}

/* A plausible length, then the brace that every writer begins with. */
static bool recognises(const struct format_file *f, const uint8_t *head, size_t n) {
    uint64_t header = 0;
    for (int i = 7; n >= 9 && i >= 0; i--)
        header = header << 8 | head[i];
    return n >= 9 && head[8] == '{' && header >= 2 && header <= HEADER_MAX && header <= f->bytes - 8;
}

/* ---- the header's text ---- */

static int read_json(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err) {
    struct reading *r = user;
    return r->in->read(r->in->user, r->file, offset, buffer, bytes, err);
}

static int bad_json(struct reading *r) {
    const struct json_reader *j = &r->json;
    if (j->fault == JSON_FAULT_INPUT)
        return r->err ? (int)r->err->code : HEARTH_E_IO;
    return format_refuse(r->in, r->file, j->fault_at, r->err,
                         j->fault == JSON_FAULT_UTF8 ? "InvalidHeader" : BAD_HEADER, "the header is not JSON: %s",
                         j->fault_text);
}

/* The last token is not what the format has there. */
static int unexpected(struct reading *r, enum json_token token, const char *want) {
    if (token == JSON_TOKEN_FAULT)
        return bad_json(r);
    return format_refuse(r->in, r->file, r->json.at, r->err, BAD_HEADER, "%s is due here", want);
}

static int keep_text(struct reading *r, struct hearth_str *out) {
    return index_add_string(r->b, r->json.text, r->json.length, r->file, r->json.at, out, r->err);
}

/* "__metadata__": {str: str} or null */
static int read_metadata(struct reading *r) {
    struct json_reader *j = &r->json;
    if (r->metadata_seen)
        return format_refuse(r->in, r->file, j->at, r->err, BAD_HEADER,
                             "duplicate key: \"__metadata__\" is there twice");
    r->metadata_seen = true;
    enum json_token token = json_read(j);
    if (token == JSON_TOKEN_NULL)
        return 0;
    if (token != JSON_TOKEN_OBJECT)
        return unexpected(r, token, "an object of texts, \"__metadata__\",");
    while ((token = json_read(j)) == JSON_TOKEN_KEY) {
        struct hearth_str key, value;
        uint64_t where = j->at;
        int e = keep_text(r, &key);
        if (e != 0)
            return e;
        if ((token = json_read(j)) != JSON_TOKEN_STRING)
            return unexpected(r, token, "a text (all metadata is text)");
        e = keep_text(r, &value);
        e = e ? e : index_add_meta(r->b, key, value, r->file, where, r->err);
        if (e != 0)
            return e;
    }
    return token == JSON_TOKEN_OBJECT_END ? 0 : bad_json(r);
}

static int read_dtype(struct reading *r, unsigned *dtype) {
    enum json_token token = json_read(&r->json);
    if (token != JSON_TOKEN_STRING)
        return unexpected(r, token, "the text of a dtype");
    for (unsigned i = 0; i < DTYPES; i++)
        if (json_text_is(&r->json, dtypes[i].name)) {
            *dtype = i;
            return 0;
        }
    char shown[64];
    format_refuse(r->in, r->file, r->json.at, r->err, BAD_HEADER, "the format has no dtype \"%s\"",
                  format_printable(r->json.text, r->json.length, shown, sizeof(shown)));
    error_hint(r->err, "a newer hearth may know it; hearth " HEARTH_VERSION " does not");
    return HEARTH_E_MALFORMED;
}

/* [u64, ...] of at most `max` entries. */
static int read_numbers(struct reading *r, uint64_t *out, uint32_t max, uint32_t *count, const char *what) {
    enum json_token token = json_read(&r->json);
    if (token != JSON_TOKEN_ARRAY)
        return unexpected(r, token, what);
    *count = 0;
    while ((token = json_read(&r->json)) == JSON_TOKEN_U64) {
        if (*count == max)
            return format_refuse(r->in, r->file, r->json.at, r->err, BAD_HEADER, "more than %" PRIu32 " numbers in %s",
                                 max, what);
        out[(*count)++] = r->json.number;
    }
    return token == JSON_TOKEN_ARRAY_END ? 0 : unexpected(r, token, "a whole number below 2^64");
}

enum field { FIELD_DTYPE = 1, FIELD_SHAPE = 2, FIELD_OFFSETS = 4 };

static int missing(struct reading *r, const struct index_tensor_args *t, unsigned seen) {
    char shown[256];
    format_printable(index_string(r->b, t->name), t->name.length, shown, sizeof(shown));
    return format_refuse(r->in, r->file, t->where, r->err, BAD_HEADER, "the tensor \"%s\" has no \"%s\"", shown,
                         !(seen & FIELD_DTYPE)   ? "dtype"
                         : !(seen & FIELD_SHAPE) ? "shape"
                                                 : "data_offsets");
}

static int remember_dtype(struct reading *r, unsigned dtype) {
    size_t count;
    index_drafts(r->b, &count);
    size_t own = count - r->first;
    if (own == r->capacity) {
        size_t capacity = r->capacity * 2 + 1024;
        uint8_t *grown = realloc(r->dtype_of, capacity);
        if (!grown)
            return error_set(r->err, HEARTH_E_NO_MEMORY, "no memory for %zu tensors", capacity);
        r->dtype_of = grown;
        r->capacity = capacity;
    }
    r->dtype_of[own] = (uint8_t)dtype;
    return 0;
}

/* At the key of a tensor. Its record holds the offsets as the header states them until check_tensors(). */
static int read_tensor(struct reading *r) {
    struct json_reader *j = &r->json;
    uint64_t dims[HEARTH_DIMS_MAX], offsets[2] = {0};
    struct index_tensor_args t = {.dims = dims, .file = r->file, .where = j->at};
    unsigned dtype = 0, seen = 0;
    uint32_t n_offsets = 0;
    int e = keep_text(r, &t.name);
    if (e != 0)
        return e;
    enum json_token token = json_read(j);
    if (token != JSON_TOKEN_OBJECT)
        return unexpected(r, token, "the object of a tensor");
    while ((token = json_read(j)) == JSON_TOKEN_KEY) {
        unsigned field = json_text_is(j, "dtype")          ? FIELD_DTYPE
                         : json_text_is(j, "shape")        ? FIELD_SHAPE
                         : json_text_is(j, "data_offsets") ? FIELD_OFFSETS
                                                           : 0;
        if (seen & field)
            return format_refuse(r->in, r->file, j->at, r->err, BAD_HEADER,
                                 "duplicate key: a field of a tensor is there twice");
        seen |= field;
        if (field == FIELD_DTYPE)
            e = read_dtype(r, &dtype);
        else if (field == FIELD_SHAPE)
            e = read_numbers(r, dims, HEARTH_DIMS_MAX, &t.n_dims, "an array of sizes, \"shape\",");
        else if (field == FIELD_OFFSETS)
            e = read_numbers(r, offsets, 2, &n_offsets, "a pair of numbers, \"data_offsets\",");
        else
            e = json_skip(j, json_read(j)) ? 0 : bad_json(r);
        if (e != 0)
            return e;
        if (field == FIELD_OFFSETS && n_offsets != 2)
            return format_refuse(r->in, r->file, j->at, r->err, BAD_HEADER,
                                 "\"data_offsets\" is not a pair of numbers");
    }
    if (token != JSON_TOKEN_OBJECT_END)
        return bad_json(r);
    if (seen != (FIELD_DTYPE | FIELD_SHAPE | FIELD_OFFSETS))
        return missing(r, &t, seen);
    t.dtype = dtypes[dtype].name;
    t.offset = offsets[0];
    t.bytes = offsets[1] - offsets[0]; /* wraps when the end lies before the beginning: check_tensors() refuses that */
    e = remember_dtype(r, dtype);
    return e ? e : index_add_tensor(r->b, &t, r->err);
}

static int read_header(struct reading *r) {
    enum json_token token = json_read(&r->json);
    if (token != JSON_TOKEN_OBJECT)
        return unexpected(r, token, "the object that the header is");
    while ((token = json_read(&r->json)) == JSON_TOKEN_KEY) {
        int e = json_text_is(&r->json, "__metadata__") ? read_metadata(r) : read_tensor(r);
        if (e != 0)
            return e;
    }
    if (token == JSON_TOKEN_OBJECT_END)
        token = json_read(&r->json);
    return token == JSON_TOKEN_END ? 0 : bad_json(r);
}

/* ---- the tensors' places ---- */

/* The rules of one tensor, which must begin where the one before ended. */
static int check_tensor(struct reading *r, const struct index_draft *t, unsigned dtype, uint64_t previous_end) {
    char name[256];
    const uint64_t *dims = index_dims(r->b, t);
    uint64_t end = t->offset + t->bytes, bits = 1;
    const char *rule = NULL;
    if (t->offset != previous_end || end < t->offset)
        rule = "InvalidOffset";
    for (uint32_t i = 0; !rule && i < t->n_dims; i++)
        if (__builtin_mul_overflow(bits, dims[i], &bits))
            rule = "ValidationOverflow";
    if (!rule && __builtin_mul_overflow(bits, (uint64_t)dtypes[dtype].bits, &bits))
        rule = "ValidationOverflow";
    if (!rule && bits % 8 != 0)
        rule = "MisalignedSlice";
    if (!rule && bits / 8 != t->bytes)
        rule = "TensorInvalidInfo";
    if (!rule)
        return 0;

    format_printable(index_string(r->b, t->name), t->name.length, name, sizeof(name));
    if (strcmp(rule, "InvalidOffset") == 0) {
        format_refuse(r->in, r->file, t->where, r->err, rule,
                      end < t->offset ? "the tensor \"%s\" ends before it begins"
                                      : "the tensor \"%s\" leaves a gap or overlaps another",
                      name);
        error_expected(r->err, "data_offsets that begin at %" PRIu64, previous_end);
        error_found(r->err, "[%" PRIu64 ", %" PRIu64 "]", t->offset, end);
    } else if (strcmp(rule, "ValidationOverflow") == 0) {
        format_refuse(r->in, r->file, t->where, r->err, rule, "the size of the tensor \"%s\" exceeds 64 bits", name);
    } else if (strcmp(rule, "MisalignedSlice") == 0) {
        format_refuse(r->in, r->file, t->where, r->err, rule, "the tensor \"%s\" does not end at a whole byte", name);
        error_found(r->err, "%" PRIu64 " bits of %s", bits, dtypes[dtype].name);
    } else {
        format_refuse(r->in, r->file, t->where, r->err, rule, "the shape of the tensor \"%s\" contradicts its offsets",
                      name);
        error_expected(r->err, "%" PRIu64 " bytes by shape and dtype", bits / 8);
        error_found(r->err, "%" PRIu64 " bytes by data_offsets", t->bytes);
    }
    return HEARTH_E_MALFORMED;
}

/* The order by (begin, end), with begin as the key: writers keep it nearly always, so it is looked for first. Items
 * that begin together can only be valid when all but the last are empty, so empty ones go first. */
static struct sort_item *order_by_place(const struct index_draft *t, size_t count) {
    struct sort_item *items = malloc((count + 1) * sizeof(*items));
    _cleanup_free_ struct sort_item *spare = malloc((count / 2 + 1) * sizeof(*spare));
    if (!items || !spare) {
        free(items);
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (t[i].bytes == 0)
            items[n++] = (struct sort_item){.key = t[i].offset, .record = (uint32_t)i};
    for (size_t i = 0; i < count; i++)
        if (t[i].bytes != 0)
            items[n++] = (struct sort_item){.key = t[i].offset, .record = (uint32_t)i};
    sort_by_key(items, count, spare);
    return items;
}

/* All tensors together fill the data exactly. Turns their offsets into offsets in the file. */
static int check_tensors(struct reading *r, uint64_t data, uint64_t data_bytes) {
    size_t count;
    struct index_draft *t = index_drafts(r->b, &count);
    count -= r->first;
    t = count > 0 ? t + r->first : NULL;
    _cleanup_free_ struct sort_item *order = order_by_place(t, count);
    if (!order)
        return error_set(r->err, HEARTH_E_NO_MEMORY, "no memory to check %zu tensors", count);
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t n = order[i].record;
        int e = check_tensor(r, &t[n], r->dtype_of[n], end);
        if (e != 0)
            return e;
        end = t[n].offset + t[n].bytes;
    }
    if (end != data_bytes) {
        format_refuse(r->in, r->file, data, r->err, "MetadataIncompleteBuffer", "%s",
                      end > data_bytes ? "the file is shorter than its tensors"
                                       : "the file goes on behind its last tensor");
        error_expected(r->err, "%" PRIu64 " bytes of data", end);
        error_found(r->err, "%" PRIu64 " bytes", data_bytes);
        if (end > data_bytes)
            error_hint(r->err, "was the download or the copy cut off?");
        return HEARTH_E_MALFORMED;
    }
    for (size_t i = 0; i < count; i++)
        t[i].offset += data;
    return 0;
}

static int parse(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    uint64_t bytes = in->files[file].bytes, n = 0;
    uint8_t head[8];
    if (bytes < sizeof(head)) {
        format_refuse(in, file, 0, err, "HeaderTooSmall", "the file is too short to be safetensors");
        error_expected(err, "at least 8 bytes");
        error_found(err, "%" PRIu64 " bytes", bytes);
        return HEARTH_E_MALFORMED;
    }
    int e = in->read(in->user, file, 0, head, sizeof(head), err);
    if (e != 0)
        return e;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | head[i];
    if (n > HEADER_MAX) {
        format_refuse(in, file, 0, err, "HeaderTooLarge", "the header is longer than the format allows");
        error_expected(err, "at most %" PRIu64 " bytes", HEADER_MAX);
        error_found(err, "%" PRIu64 " bytes", n);
        error_hint(err, "is it a safetensors file at all?");
        return HEARTH_E_MALFORMED;
    }
    if (n > bytes - sizeof(head)) {
        format_refuse(in, file, 0, err, "InvalidHeaderLength", "the header does not fit the file");
        error_expected(err, "at most %" PRIu64 " bytes", bytes - (uint64_t)sizeof(head));
        error_found(err, "%" PRIu64 " bytes", n);
        error_hint(err, "was the download or the copy cut off?");
        return HEARTH_E_MALFORMED;
    }

    struct reading r = {.in = in, .file = file, .b = b, .err = err};
    index_drafts(b, &r.first);
    json_reader_init(&r.json, sizeof(head), sizeof(head) + n, read_json, &r, err);
    e = read_header(&r);
    json_reader_deinit(&r.json);
    e = e ? e : check_tensors(&r, sizeof(head) + n, bytes - sizeof(head) - n);
    free(r.dtype_of);
    return e;
}

const struct format format_safetensors = {
    .name = "safetensors", .claims = claims, .recognises = recognises, .parse = parse};
