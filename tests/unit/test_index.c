/* artifact/format/index_build, index_sort and artifact/index_check: the table is in order whatever the names are, and
 * no damaged table passes unless it still keeps every rule. */
#include <stdio.h>

#include "artifact/format/index_dtype.h"
#include "artifact/format/index_sort.h"
#include "tests/unit/format_fixture.h"

static struct hearth_error err;

/* A small generator of our own, so that a failure comes again. */
static uint64_t random_state = 88172645463325252u;
static uint64_t random_u64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static void add(struct index_builder *b, const char *name, size_t length, uint32_t file) {
    struct index_tensor_args t = {.dtype = "U8", .file = file};
    assert_int_equal(index_add_string(b, name, length, file, 0, &t.name, &err), 0);
    assert_int_equal(index_add_tensor(b, &t, &err), 0);
}

static struct index_builder *builder(uint32_t files) {
    struct index_builder *b = index_builder_new();
    assert_non_null(b);
    for (uint32_t i = 0; i < files; i++) {
        char path[16];
        snprintf(path, sizeof(path), "f%u", i);
        assert_int_equal(index_add_file(b, path, HEARTH_ROLE_WEIGHTS, 0, &err), 0);
    }
    return b;
}

/* Names that share prefixes of all lengths, in random order, in two files. */
static void tensors_ascend_by_name_and_file(void **state) {
    (void)state;
    struct index_builder *b = builder(2);
    enum { N = 3000 };
    char name[512];
    for (uint32_t file = 0; file < 2; file++)
        for (unsigned i = 0; i < N; i++) {
            size_t prefix = random_u64() % 40 * (random_u64() % 8);
            memset(name, 'p', prefix);
            unsigned n = (i * 7919u) % N;
            int tail =
                snprintf(name + prefix, sizeof(name) - prefix, "%c%u%c", n % 3 ? 'l' : '\xe9', n, n % 2 ? 'x' : 'y');
            add(b, name, prefix + (size_t)tail, file);
        }
    add(b, "", 0, 1);
    assert_int_equal(index_sort(b, &err), 0);
    for (size_t i = 1; i < 2 * N + 1; i++) {
        const struct index_draft *x = index_at(b, i - 1), *y = index_at(b, i);
        int c = sort_compare(index_string(b, x->name), x->name.length, index_string(b, y->name), y->name.length);
        assert_true(c < 0 || (c == 0 && x->file < y->file));
        assert_int_equal(index_find(b, index_string(b, y->name), y->name.length, y->file), i);
    }
    assert_int_equal(index_find(b, "absent", 6, 0), SIZE_MAX);
    assert_int_equal(index_find(b, "", 0, 0), SIZE_MAX);
    index_builder_free(b);
}

/* Each name is the one before with eight letters more: eight bytes at a time tell nothing. */
static void names_made_to_defeat_the_sort_come_out_right(void **state) {
    (void)state;
    struct index_builder *b = builder(1);
    enum { N = 400 };
    char name[8 * N];
    memset(name, 'a', sizeof(name));
    for (unsigned i = N; i > 0; i--)
        add(b, name, 8 * i, 0);
    assert_int_equal(index_sort(b, &err), 0);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(index_at(b, i)->name.length, 8 * (i + 1));
    index_builder_free(b);
}

static void a_name_may_come_once_in_a_file(void **state) {
    (void)state;
    struct index_builder *b = builder(2);
    add(b, "t", 1, 1);
    add(b, "t", 1, 0);
    assert_int_equal(index_sort(b, &err), 0);
    assert_int_equal(index_at(b, 0)->file, 0);
    add(b, "t", 1, 1);
    assert_int_equal(index_sort(b, &err), HEARTH_E_MALFORMED);
    assert_string_equal(err.file, "f1");
    index_builder_free(b);
}

static void a_file_that_was_left_out_is_found_among_many(void **state) {
    (void)state;
    struct index_builder *b = builder(0);
    char path[16];
    assert_false(index_was_skipped(b, "0001"));
    for (unsigned n = 0; n < 101; n++) {
        for (unsigned i = 0; i <= n + 1; i++) {
            snprintf(path, sizeof(path), "%04u", 2 * i);
            assert_int_equal(index_was_skipped(b, path), i < n);
            snprintf(path, sizeof(path), "%04u", 2 * i + 1);
            assert_false(index_was_skipped(b, path));
        }
        snprintf(path, sizeof(path), "%04u", 2 * n);
        assert_int_equal(index_add_skipped(b, path, "left out", &err), 0);
    }
    assert_int_equal(index_add_skipped(b, "0003", "out of order", &err), HEARTH_E_SYSTEM);
    assert_int_equal(index_add_finding(b, "unmapped", "9998", UINT64_MAX, "another matter", &err), 0);
    assert_false(index_was_skipped(b, "9998"));
    assert_int_equal(index_add_skipped(b, "9999", "too late", &err), HEARTH_E_SYSTEM);
    index_builder_free(b);
}

/* A record counts them in 16 bits: 65,537 must not become one. */
static void a_tensor_of_too_many_dimensions_is_refused(void **state) {
    (void)state;
    static const uint64_t dims[UINT16_MAX + 2];
    static const uint32_t too_many[] = {HEARTH_DIMS_MAX + 1, UINT16_MAX + 2};
    struct index_builder *b = builder(1);
    struct index_tensor_args t = {.dtype = "U8", .dims = dims, .where = 7};
    for (size_t i = 0; i < sizeof(too_many) / sizeof(too_many[0]); i++) {
        t.n_dims = too_many[i];
        assert_int_equal(index_add_tensor(b, &t, &err), HEARTH_E_MALFORMED);
        assert_string_equal(err.file, "f0");
        assert_int_equal(err.offset, 7);
    }
    t.n_dims = HEARTH_DIMS_MAX;
    assert_int_equal(index_add_tensor(b, &t, &err), 0);
    index_builder_free(b);
}

static struct hearth_index_header *sample(void) {
    struct memory_file f[3] = {
        safetensors("a/m.safetensors",
                    "{\"__metadata__\":{\"k\":\"v\",\"l\":\"\"},\"w\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_"
                    "offsets\":[0,4]},"
                    "\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]}}",
                    5),
        safetensors("b/m.safetensors", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
        {"config.json", "{}", 2}};
    struct hearth_index_header *h = parse_files(f, 3, "left.out", &err);
    assert_non_null(h);
    free((void *)f[0].data);
    free((void *)f[1].data);
    return h;
}

/* What a client does with an index: every string and number is used. Under a sanitizer, nothing beyond it is. */
static uint64_t walk(const struct hearth_index_header *h) {
    uint64_t sum = strlen(text_of(h, h->ref)) + strlen(text_of(h, h->format));
    const struct hearth_index_file *f = table_of(h, h->files);
    const struct hearth_index_tensor *t = table_of(h, h->tensors);
    const struct hearth_index_meta *m = table_of(h, h->metadata);
    const struct hearth_index_finding *x = table_of(h, h->findings);
    const uint64_t *dims = table_of(h, h->dims);
    for (uint64_t i = 0; i < h->files.count; i++) {
        assert_int_equal(strlen(text_of(h, f[i].path)), f[i].path.length);
        sum += strlen(text_of(h, f[i].format)) + f[i].sha256[31];
    }
    for (uint64_t i = 0; i < h->tensors.count; i++) {
        assert_int_equal(strlen(text_of(h, t[i].name)), t[i].name.length);
        assert_true(t[i].offset + t[i].bytes <= f[t[i].file].bytes);
        sum += strlen(text_of(h, t[i].dtype));
        const struct dtype *dtype = dtype_named(text_of(h, t[i].dtype), t[i].dtype.length);
        uint64_t size = dtype ? dtype->bits / 8 : 0;
        for (uint32_t k = 0; k < t[i].n_dims; k++) {
            size *= dims[t[i].dims_first + k];
            sum += dims[t[i].dims_first + k];
        }
        if (dtype && dtype->bits >= 8)
            assert_int_equal(size, t[i].bytes);
    }
    for (uint64_t i = 0; i < h->metadata.count; i++)
        sum += strlen(text_of(h, m[i].key)) + strlen(text_of(h, m[i].value)) + f[m[i].file].bytes;
    for (uint64_t i = 0; i < h->findings.count; i++)
        sum += strlen(text_of(h, x[i].code)) + strlen(text_of(h, x[i].file)) + strlen(text_of(h, x[i].message));
    return sum;
}

static void a_damaged_index_is_refused_or_still_safe_to_use(void **state) {
    (void)state;
    struct hearth_index_header *h = sample();
    size_t bytes = (size_t)h->total_bytes, refused = 0;
    uint8_t *p = (uint8_t *)h;
    for (size_t i = 0; i < bytes; i++)
        for (unsigned v = 0; v < 256; v++) {
            uint8_t was = p[i];
            p[i] = (uint8_t)v;
            int r = index_check(h, bytes, &err);
            assert_true(r == 0 || r == HEARTH_E_PARSER);
            if (r == 0)
                walk(h);
            refused += r != 0;
            p[i] = was;
        }
    assert_true(refused > bytes * 64); /* most of an index is under some rule */
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t *copy = malloc(bytes);
        memcpy(copy, h, bytes);
        for (unsigned k = 0; k < 1 + round % 8; k++) {
            size_t at = random_u64() % (bytes - 8);
            uint64_t v = random_u64() >> (random_u64() % 64);
            memcpy(copy + at, &v, 1 + random_u64() % 8);
        }
        if (index_check(copy, bytes, &err) == 0)
            walk((const struct hearth_index_header *)copy);
        free(copy);
    }
    free(h);
}

static void an_index_cut_short_or_made_longer_is_refused(void **state) {
    (void)state;
    struct hearth_index_header *h = sample();
    size_t bytes = (size_t)h->total_bytes;
    for (size_t n = 0; n < bytes; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, h, n);
        assert_int_equal(index_check(cut, n, &err), HEARTH_E_PARSER);
        if (n >= sizeof(*h)) { /* also when it knows how long it is */
            ((struct hearth_index_header *)cut)->total_bytes = n;
            assert_int_equal(index_check(cut, n, &err), HEARTH_E_PARSER);
        }
        free(cut);
    }
    h = realloc(h, bytes + 8);
    memset((char *)h + bytes, 0, 8);
    h->total_bytes += 8;
    assert_int_equal(index_check(h, bytes + 8, &err), HEARTH_E_PARSER);
    free(h);
}

/* Each change alone breaks exactly the rule that is named. */
static void every_rule_is_kept(void **state) {
    (void)state;
    struct hearth_index_header *h = sample();
    size_t bytes = (size_t)h->total_bytes;
    struct hearth_index_file *f = (void *)table_of(h, h->files);
    struct hearth_index_tensor *t = (void *)table_of(h, h->tensors);
    struct hearth_index_meta *m = (void *)table_of(h, h->metadata);
    struct hearth_index_finding *x = (void *)table_of(h, h->findings);
    uint64_t *dims = (void *)table_of(h, h->dims), *of_w = dims + t[0].dims_first;
    assert_int_equal(index_check(h, bytes, &err), 0);
#define BREAKS(field, value, rule)                                      \
    do {                                                                \
        __typeof__(field) was_ = (field);                               \
        (field) = (value);                                              \
        assert_int_equal(index_check(h, bytes, &err), HEARTH_E_PARSER); \
        if (!strstr(err.message, rule))                                 \
            fail_msg("%s: wanted \"%s\"", err.message, rule);           \
        (field) = was_;                                                 \
    } while (0)
    BREAKS(h->magic[0], 'h', "magic");
    BREAKS(h->version, 2, "version");
    BREAKS(h->header_bytes, 0, "version");
    BREAKS(h->verdict, 3, "known values");
    BREAKS(h->verified, 5, "known values");
    BREAKS(h->reserved[7], 1, "known values");
    BREAKS(h->bytes, h->bytes + 1, "add up");
    BREAKS(h->tensors.count, UINT64_MAX, "tables");
    BREAKS(h->tensors.count, UINT64_MAX / 48 + 2, "tables");
    BREAKS(h->dims.offset, h->dims.offset + 8, "tables");
    BREAKS(h->ref.length, 1, "reference");
    BREAKS(f[0].path.length, f[0].path.length - 1, "path");
    BREAKS(f[0].path, f[1].path, "one path");
    BREAKS(f[0].role, 7, "known values");
    BREAKS(f[0].flags, 2, "known values");
    BREAKS(f[0].sha256[0], 1, "digest");
    BREAKS(f[0].bytes, UINT64_MAX, "sum");
    BREAKS(t[0].file, 3, "file exists");
    BREAKS(t[0].offset, UINT64_MAX, "inside its file");
    BREAKS(t[0].bytes, UINT64_MAX, "inside its file");
    BREAKS(t[0].n_dims, 65, "dimensions");
    BREAKS(t[0].dims_first, UINT64_MAX, "dimensions");
    BREAKS(t[0].bytes, 3, "dimensions and dtype");
    BREAKS(t[0].n_dims, 0, "dimensions and dtype");
    BREAKS(t[0].dtype, t[1].dtype, "dimensions and dtype");
    BREAKS(of_w[0], 1, "dimensions and dtype");
    BREAKS(of_w[0], 3, "dimensions and dtype");
    BREAKS(of_w[0], 0, "dimensions and dtype");
    BREAKS(of_w[0], UINT64_MAX / 2 + 3, "dimensions and dtype"); /* 2^64 and two elements of 16 bits */
    BREAKS(of_w[0], (UINT64_C(1) << 60) + 2, "dimensions and dtype");
    BREAKS(t[1].file, 0, "ascend");
    BREAKS(t[2].name, t[0].name, "ascend");
    BREAKS(t[0].name.offset, UINT32_MAX, "name");
    BREAKS(t[0].name.length, UINT32_MAX, "name");
    BREAKS(t[0].dtype.length, 200, "dtype");
    BREAKS(m[0].file, 3, "metadata");
    BREAKS(m[0].key.offset, m[0].key.offset + 1, "metadata");
    BREAKS(x[0].code.length, 0, "finding");
    char *path = (char *)text_of(h, f[0].path);
    BREAKS(path[0], '/', "relative path");
    BREAKS(path[1], '\0', "relative path");
    BREAKS(path[0], '.', ""); /* "./m.safetensors" */
    free(h);
}

static void a_dtype_of_unknown_size_is_left_alone(void **state) {
    (void)state;
    struct hearth_index_header *h = sample();
    struct hearth_index_tensor *t = (void *)table_of(h, h->tensors);
    uint64_t *dims = (void *)table_of(h, h->dims);
    memcpy((char *)text_of(h, t[0].dtype), "Q16", 3);
    dims[t[0].dims_first] = UINT64_MAX;
    dims[t[0].dims_first + 1] = UINT64_MAX;
    if (index_check(h, (size_t)h->total_bytes, &err) != 0)
        fail_msg("%s", err.message);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_ascend_by_name_and_file),
        cmocka_unit_test(names_made_to_defeat_the_sort_come_out_right),
        cmocka_unit_test(a_name_may_come_once_in_a_file),
        cmocka_unit_test(a_file_that_was_left_out_is_found_among_many),
        cmocka_unit_test(a_tensor_of_too_many_dimensions_is_refused),
        cmocka_unit_test(a_damaged_index_is_refused_or_still_safe_to_use),
        cmocka_unit_test(an_index_cut_short_or_made_longer_is_refused),
        cmocka_unit_test(every_rule_is_kept),
        cmocka_unit_test(a_dtype_of_unknown_size_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
