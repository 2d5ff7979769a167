/* artifact/format/safetensors: every rule of the format, by its name, and what must be accepted. */
#include <stdio.h>

#include "tests/unit/format_fixture.h"

static struct hearth_error err;

static struct hearth_index_header *accepted(const char *header, size_t data) {
    struct memory_file f = safetensors("m.safetensors", header, data);
    struct hearth_index_header *h = parse_files(&f, 1, NULL, &err);
    if (!h)
        fail_msg("refused: %s\n%s", err.message, header);
    free((void *)f.data);
    return h;
}

static void accept(const char *header, size_t data) {
    free(accepted(header, data));
}

/* offset: HEARTH_NO_OFFSET: not looked at. */
static void refuse_at(const char *header, size_t data, const char *rule, uint64_t offset) {
    struct memory_file f = safetensors("m.safetensors", header, data);
    struct hearth_index_header *h = parse_files(&f, 1, NULL, &err);
    if (h)
        fail_msg("accepted: %s", header);
    assert_int_equal(err.code, HEARTH_E_MALFORMED);
    assert_string_equal(err.file, "m.safetensors");
    if (!strstr(err.message, rule))
        fail_msg("%s: wanted %s for %s", err.message, rule, header);
    if (offset != HEARTH_NO_OFFSET)
        assert_int_equal(err.offset, offset);
    free((void *)f.data);
}

static void refuse(const char *header, size_t data, const char *rule) {
    refuse_at(header, data, rule, HEARTH_NO_OFFSET);
}

static void a_tensor_is_found_at_its_place_in_the_file(void **state) {
    (void)state;
    const char *text = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[1,25]},"
                       "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"__metadata__\":{\"k\":\"v\"}}";
    struct hearth_index_header *h = accepted(text, 25);
    const struct hearth_index_tensor *b = tensor_named(h, "b");
    const uint64_t *dims = (const uint64_t *)table_of(h, h->dims) + b->dims_first;
    assert_int_equal(h->tensors.count, 2);
    assert_int_equal(b->offset, 8 + strlen(text) + 1);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(dims[0], 2);
    assert_int_equal(dims[1], 3);
    assert_string_equal(text_of(h, b->dtype), "F32");
    assert_string_equal(text_of(h, h->format), "safetensors");
    const struct hearth_index_meta *m = table_of(h, h->metadata);
    assert_int_equal(h->metadata.count, 1);
    assert_string_equal(text_of(h, m->key), "k");
    assert_string_equal(text_of(h, m->value), "v");
    free(h);
}

#define ONE(fields) "{\"t\":{" fields "}}"

static void what_the_format_allows_is_accepted(void **state) {
    (void)state;
    accept("{}", 0);
    accept(" \t\r\n{} \n", 0);
    accept("{\"__metadata__\":null}", 0);
    accept("{\"__metadata__\":{}}", 0);
    accept(ONE("\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]"), 8);
    accept(ONE("\"dtype\":\"F64\",\"shape\":[5,0],\"data_offsets\":[0,0]"), 0);
    accept(ONE("\"dtype\":\"U8\",\"shape\":[0,9223372036854775808,4],\"data_offsets\":[0,0]"), 0);
    accept(ONE("\"data_offsets\":[0,2],\"x\":[{\"y\":[1e3,-0.5,null,true,false]}],\"shape\":[1],\"dtype\":\"BF16\""),
           2);
    accept("{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    /* tensors without bytes share a place, in any order */
    accept("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
           "\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
           1);
    struct hearth_index_header *h = accepted("{\"\\u00e4\\ud83d\\ude00\\n\":{\"dtype\":\"U8\",\"shape\":[1],"
                                             "\"data_offsets\":[0,1]}}",
                                             1);
    tensor_named(h, "\xc3\xa4\xf0\x9f\x98\x80\n");
    free(h);
}

static void every_dtype_has_its_size(void **state) {
    (void)state;
    static const struct {
        const char *name;
        unsigned bits;
    } all[] = {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
               {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16},
               {"F16", 16},    {"BF16", 16},   {"F8_E5M2FNUZ", 8}, {"I32", 32},        {"U32", 32}, {"F32", 32},
               {"C64", 64},    {"F64", 64},    {"I64", 64},        {"U64", 64}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char text[256];
        unsigned bytes = all[i].bits; /* of eight elements */
        snprintf(text, sizeof(text), ONE("\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]"), all[i].name,
                 bytes);
        accept(text, bytes);
        refuse(text, bytes + 1, "MetadataIncompleteBuffer");
        snprintf(text, sizeof(text), ONE("\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]"), all[i].name,
                 bytes + 1);
        refuse(text, bytes + 1, "TensorInvalidInfo");
    }
    refuse(ONE("\"dtype\":\"F128\",\"shape\":[1],\"data_offsets\":[0,16]"), 16, "F128");
    refuse(ONE("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, "f32");
}

static void the_length_is_checked_before_the_header_is_read(void **state) {
    (void)state;
    uint8_t bytes[16] = {0};
    struct memory_file f = {"m.safetensors", bytes, 7};
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "HeaderTooSmall"));
    f.bytes = 0;
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "HeaderTooSmall"));
    f.bytes = 16;
    uint64_t n = 100000001;
    memcpy(bytes, &n, 8);
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "HeaderTooLarge"));
    n = UINT64_MAX;
    memcpy(bytes, &n, 8);
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "HeaderTooLarge"));
    n = 100000000;
    memcpy(bytes, &n, 8);
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "InvalidHeaderLength"));
    n = 9;
    memcpy(bytes, &n, 8);
    assert_null(parse_files(&f, 1, NULL, &err));
    assert_non_null(strstr(err.message, "InvalidHeaderLength"));
    assert_int_equal(err.offset, 0);
}

static void a_header_that_is_not_utf8_json_is_refused_where_it_breaks(void **state) {
    (void)state;
    refuse_at("{\"a\xff\":1}", 0, "InvalidHeader: ", 8 + 3);
    refuse_at("{\"a\":}", 0, "InvalidHeaderDeserialization", 8 + 5);
    refuse("", 0, "InvalidHeaderDeserialization");
    refuse("[]", 0, "InvalidHeaderDeserialization");
    refuse("{} x", 0, "InvalidHeaderDeserialization");
    refuse("{}{}", 0, "InvalidHeaderDeserialization");
    refuse("{", 0, "InvalidHeaderDeserialization");
    refuse("\xef\xbb\xbf{}", 0, "InvalidHeaderDeserialization");
    refuse("{\"\\ud800\":null}", 0, "InvalidHeaderDeserialization");
}

static void a_tensor_that_is_not_described_as_one_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{\"t\":null}",
        "{\"t\":[\"U8\",[1],[0,1]]}",
        "{\"t\":{}}",
        ONE("\"dtype\":\"U8\",\"shape\":[1]"),
        ONE("\"dtype\":\"U8\",\"data_offsets\":[0,1]"),
        ONE("\"shape\":[1],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":{\"U8\":null},\"shape\":[1],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[-0],\"data_offsets\":[0,0]"),
        ONE("\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[01],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[18446744073709551616,0],\"data_offsets\":[0,0]"),
        ONE("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]"),
        ONE("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]"),
        ONE("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":null"),
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":null}}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuse(bad[i], 1, "InvalidHeaderDeserialization");
}

static void no_key_may_come_twice(void **state) {
    (void)state;
    refuse(ONE("\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, "duplicate");
    refuse(ONE("\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]"), 1, "duplicate");
    refuse("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate");
    refuse("{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"\\u0061\":\"1\"}}", 0, "duplicate");
    refuse("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
           "\"\\u0074\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
           3, "\"t\" is there twice, at offsets 9 and 113");
}

static void tensors_that_do_not_fill_the_data_are_refused(void **state) {
    (void)state;
#define TWO(a, b)                                                \
    "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a \
    "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" b "}}"
    accept(TWO("[0,4]", "[4,8]"), 8);
    accept(TWO("[4,8]", "[0,4]"), 8);
    refuse(TWO("[0,4]", "[5,9]"), 9, "InvalidOffset");
    refuse(TWO("[0,4]", "[3,7]"), 8, "InvalidOffset");
    refuse(TWO("[0,4]", "[0,4]"), 8, "InvalidOffset");
    refuse(TWO("[1,5]", "[5,9]"), 9, "InvalidOffset");
    refuse(TWO("[4,0]", "[4,8]"), 8, "InvalidOffset");
    refuse(TWO("[0,4]", "[4,18446744073709551615]"), 8, "TensorInvalidInfo");
    refuse(TWO("[0,4]", "[18446744073709551615,3]"), 8, "InvalidOffset");
    refuse(TWO("[0,4]", "[4,8]"), 7, "MetadataIncompleteBuffer");
    refuse(TWO("[0,4]", "[4,8]"), 9, "MetadataIncompleteBuffer");
    refuse("{}", 1, "MetadataIncompleteBuffer");
}

static void sizes_that_overflow_or_end_inside_a_byte_are_refused(void **state) {
    (void)state;
    refuse(ONE("\"dtype\":\"U8\",\"shape\":[9223372036854775808,4],\"data_offsets\":[0,0]"), 0, "ValidationOverflow");
    refuse(ONE("\"dtype\":\"U8\",\"shape\":[9223372036854775808,4,0],\"data_offsets\":[0,0]"), 0, "ValidationOverflow");
    refuse(ONE("\"dtype\":\"U8\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]"), 0, "ValidationOverflow");
    refuse(ONE("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 1, "MisalignedSlice");
    refuse(ONE("\"dtype\":\"F6_E2M3\",\"shape\":[2],\"data_offsets\":[0,1]"), 1, "MisalignedSlice");
    refuse(ONE("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "TensorInvalidInfo");
}

static void what_the_index_cannot_hold_is_refused(void **state) {
    (void)state;
    char text[1024] = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1";
    for (unsigned i = 1; i < HEARTH_DIMS_MAX; i++)
        strcat(text, ",1");
    size_t end = strlen(text);
    strcat(text, "],\"data_offsets\":[0,1]}}");
    accept(text, 1);
    strcpy(text + end, ",1],\"data_offsets\":[0,1]}}");
    refuse(text, 1, "64 numbers");
    refuse("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "NUL");
    refuse("{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0, "NUL");
}

static void weights_without_a_telling_name_are_known_by_their_head(void **state) {
    (void)state;
    struct memory_file f = safetensors("0123abcd", "{\"__metadata__\":{\"a\":\"b\"}}", 0);
    struct hearth_index_header *h = parse_files(&f, 1, NULL, &err);
    assert_non_null(h);
    assert_string_equal(text_of(h, h->format), "safetensors");
    assert_int_equal(h->metadata.count, 1);
    free(h);
    free((void *)f.data);
    f = (struct memory_file){"weights.bin", "short", 5};
    h = parse_files(&f, 1, NULL, &err);
    assert_non_null(h);
    assert_int_equal(h->format.length, 0);
    free(h);
}

/* Every cut and every changed byte: refused or accepted by the rules, and never a crash. */
static void no_truncation_is_accepted_and_no_mutation_crashes(void **state) {
    (void)state;
    const char *text = "{\"__metadata__\":{\"k\":\"v\\u00e4\"},\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":"
                       "[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]}}";
    struct memory_file whole = safetensors("m.safetensors", text, 5);
    for (size_t n = 0; n < whole.bytes; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, whole.data, n);
        struct memory_file f = {whole.path, cut, n};
        assert_null(parse_files(&f, 1, NULL, &err));
        assert_int_equal(err.code, HEARTH_E_MALFORMED);
        free(cut);
    }
    uint8_t *bytes = (uint8_t *)whole.data;
    for (size_t i = 0; i < 8 + strlen(text); i++)
        for (unsigned v = 0; v < 256; v++) {
            uint8_t was = bytes[i];
            bytes[i] = (uint8_t)v;
            free(parse_files(&whole, 1, NULL, &err));
            bytes[i] = was;
        }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tensor_is_found_at_its_place_in_the_file),
        cmocka_unit_test(what_the_format_allows_is_accepted),
        cmocka_unit_test(every_dtype_has_its_size),
        cmocka_unit_test(the_length_is_checked_before_the_header_is_read),
        cmocka_unit_test(a_header_that_is_not_utf8_json_is_refused_where_it_breaks),
        cmocka_unit_test(a_tensor_that_is_not_described_as_one_is_refused),
        cmocka_unit_test(no_key_may_come_twice),
        cmocka_unit_test(tensors_that_do_not_fill_the_data_are_refused),
        cmocka_unit_test(sizes_that_overflow_or_end_inside_a_byte_are_refused),
        cmocka_unit_test(what_the_index_cannot_hold_is_refused),
        cmocka_unit_test(weights_without_a_telling_name_are_known_by_their_head),
        cmocka_unit_test(no_truncation_is_accepted_and_no_mutation_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
