/* artifact/format/safetensors_shards: the index of shards against the shards. */
#include "tests/unit/format_fixture.h"

#define A                                                                                                          \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_" \
    "offsets\":[1,2]}}"
#define B                                                                                                          \
    "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_" \
    "offsets\":[1,2]}}"

static struct hearth_error err;

/* d/1.safetensors holds a and s, d/2.safetensors holds b and s; `only`: the second is not there. */
static struct hearth_index_header *load(const char *map, bool without_second, const char *skipped) {
    struct memory_file f[3] = {safetensors("d/1.safetensors", A, 2),
                               safetensors("d/2.safetensors", B, 2),
                               {"d/m.safetensors.index.json", map, strlen(map)}};
    void *one = (void *)f[0].data, *two = (void *)f[1].data;
    if (without_second)
        f[1] = f[2];
    struct hearth_index_header *h = parse_files(f, without_second ? 2 : 3, skipped, &err);
    free(one);
    free(two);
    return h;
}

static void refuse(const char *map, const char *why) {
    assert_null(load(map, false, NULL));
    assert_int_equal(err.code, HEARTH_E_MALFORMED);
    assert_string_equal(err.file, "d/m.safetensors.index.json");
    if (!strstr(err.message, why))
        fail_msg("%s: wanted \"%s\"", err.message, why);
}

static void a_map_that_tells_the_truth_is_accepted(void **state) {
    (void)state;
    struct hearth_index_header *h =
        load(" {\"metadata\":{\"total_size\":4,\"x\":[{}]},\"weight_map\":{\"a\":\"1.safetensors\","
             "\"b\":\"2.safetensors\",\"s\":\"1.safetensors\"}}\n",
             false, NULL);
    assert_non_null(h);
    /* both shards have an s; the second's is not mapped, which a person should know */
    assert_int_equal(h->tensors.count, 4);
    assert_int_equal(h->findings.count, 1);
    const struct hearth_index_finding *f = table_of(h, h->findings);
    assert_string_equal(text_of(h, f->code), "unmapped");
    assert_string_equal(text_of(h, f->file), "d/2.safetensors");
    assert_string_equal(text_of(h, f->message), "1 tensor of this shard, \"s\", is not in the index of shards");
    const struct hearth_index_file *files = table_of(h, h->files);
    assert_string_equal(text_of(h, files[2].format), "json");
    free(h);
}

static void a_map_that_contradicts_the_shards_is_refused(void **state) {
    (void)state;
    refuse("{\"weight_map\":{\"a\":\"2.safetensors\"}}", "no tensor \"a\"");
    refuse("{\"weight_map\":{\"c\":\"1.safetensors\"}}", "no tensor \"c\"");
    refuse("{\"weight_map\":{\"a\":\"3.safetensors\"}}", "\"3.safetensors\" is missing");
    assert_int_equal(err.offset, 19);
    refuse("{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", "twice");
    refuse("{\"weight_map\":{\"s\":\"1.safetensors\",\"s\":\"2.safetensors\"}}", "two shards");
    refuse("{\"weight_map\":{},\"weight_map\":{}}", "twice");
}

static void a_shard_lies_beside_its_index_and_nowhere_else(void **state) {
    (void)state;
    refuse("{\"weight_map\":{\"a\":\"../d/1.safetensors\"}}", "beside");
    refuse("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "beside");
    refuse("{\"weight_map\":{\"a\":\"\"}}", "beside");
    refuse("{\"weight_map\":{\"a\":\"1.safetensors\\u0000\"}}", "beside");
}

static void what_is_no_index_of_shards_is_refused(void **state) {
    (void)state;
    refuse("", "not JSON");
    refuse("[]", "due here");
    refuse("{}", "no \"weight_map\"");
    refuse("{\"weight_map\":[]}", "due here");
    refuse("{\"weight_map\":{\"a\":1}}", "due here");
    refuse("{\"weight_map\":{\"a\":\"1.safetensors\"}", "not JSON");
    refuse("{\"weight_map\":{}} 1", "not JSON");
    refuse("{\"weight_map\":{\"\xff\":\"1.safetensors\"}}", "not JSON");
}

static void a_shard_left_out_by_selection_is_not_missed(void **state) {
    (void)state;
    const char *map = "{\"weight_map\":{\"a\":\"1.safetensors\",\"s\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    assert_null(load(map, true, NULL));
    assert_non_null(strstr(err.message, "\"2.safetensors\" is missing"));
    struct hearth_index_header *h = load(map, true, "d/2.safetensors");
    assert_non_null(h);
    assert_int_equal(h->findings.count, 1);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_that_tells_the_truth_is_accepted),
        cmocka_unit_test(a_map_that_contradicts_the_shards_is_refused),
        cmocka_unit_test(a_shard_lies_beside_its_index_and_nowhere_else),
        cmocka_unit_test(what_is_no_index_of_shards_is_refused),
        cmocka_unit_test(a_shard_left_out_by_selection_is_not_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
