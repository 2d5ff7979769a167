/* artifact/parse: the parser in its own process. Files are memfds here; an artifact is made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "artifact/parse.h"
#include "tests/unit/open_fds.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/memfd.h"

#define REAL TEST_BIN_DIR "/hearth-parse"
#define TEST TEST_HELPER_DIR "/hearth-parse-test"
#define HOSTILE TEST_HELPER_DIR "/hearth-parse-hostile"

#define FILES_MAX 4
#define RANGES_MAX 64

struct fixture {
    struct artifact artifact;
    struct artifact_file files[FILES_MAX];
    struct artifact_skipped skipped;
    int fds[FILES_MAX];
    struct {
        size_t file;
        uint64_t offset, length;
    } ranges[RANGES_MAX];
    size_t n_ranges;
    int refuse_wait;      /* a hearth_code: wait_range fails with it */
    unsigned wait_for_ms; /* each wait_range takes this long */
    bool no_fd;
    int index_fd;
    struct hearth_index_header *index; /* mapped */
    struct hearth_error err;
    struct parse_request request;
};

static int file_fd(void *user, size_t i, struct hearth_error *err) {
    struct fixture *f = user;
    if (f->no_fd) {
        error_set(err, HEARTH_E_NO_FDS, "none left");
        return -1;
    }
    return f->fds[i];
}

static int wait_range(void *user, size_t i, uint64_t offset, uint64_t length, struct hearth_error *err) {
    struct fixture *f = user;
    assert_true(i < f->artifact.n_files);
    assert_true(length > 0 && offset + length <= f->files[i].identity.bytes);
    if (f->n_ranges < RANGES_MAX) {
        f->ranges[f->n_ranges].file = i;
        f->ranges[f->n_ranges].offset = offset;
        f->ranges[f->n_ranges++].length = length;
    }
    if (f->wait_for_ms > 0)
        usleep(f->wait_for_ms * 1000);
    return f->refuse_wait ? error_set(err, (enum hearth_code)f->refuse_wait, "the load has ended") : 0;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->artifact = (struct artifact){.ref = (char *)"/models/m", .files = f->files};
    f->index_fd = -1;
    f->request = (struct parse_request){
        .artifact = &f->artifact, .file_fd = file_fd, .wait_range = wait_range, .user = f, .helper = TEST};
    *state = f;
    return 0;
}

static void drop_index(struct fixture *f) {
    if (f->index)
        munmap(f->index, (size_t)f->index->total_bytes);
    if (f->index_fd >= 0)
        close(f->index_fd);
    f->index = NULL;
    f->index_fd = -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    drop_index(f);
    for (size_t i = 0; i < f->artifact.n_files; i++)
        close(f->fds[i]);
    free(f);
    return 0;
}

static void add_file(struct fixture *f, const char *path, const void *data, size_t bytes) {
    size_t i = f->artifact.n_files++;
    int fd = memfd_from_bytes("test", data, bytes);
    assert_true(fd >= 0);
    f->fds[i] = memfd_reopen_readonly(fd);
    assert_true(f->fds[i] >= 0);
    close(fd);
    f->files[i] = (struct artifact_file){
        .path = (char *)path, .role = HEARTH_ROLE_WEIGHTS, .identity = {.inode = i + 1, .bytes = bytes}};
    f->artifact.bytes += bytes;
}

static int parse(struct fixture *f) {
    drop_index(f);
    f->n_ranges = 0;
    error_clear(&f->err);
    int r = parse_isolated(&f->request, &f->index_fd, &f->err);
    assert_int_equal(r, f->err.code);
    if (r == 0) {
        struct stat st;
        assert_int_equal(fstat(f->index_fd, &st), 0);
        f->index = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, f->index_fd, 0);
        assert_true(f->index != MAP_FAILED); /* writable: its owner completes it */
    } else {
        assert_int_equal(f->index_fd, -1);
    }
    return r;
}

static void parse_fails(struct fixture *f, enum hearth_code code, const char *why) {
    int r = parse(f);
    if (r != (int)code || !strstr(f->err.message, why))
        fail_msg("%d %s: wanted %d \"%s\"", r, f->err.message, (int)code, why);
    /* No child is left, alive or dead. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static const void *table_of(const struct fixture *f, struct hearth_index_table t) {
    return (const char *)f->index + t.offset;
}

static const char *text_of(const struct fixture *f, struct hearth_str s) {
    return (const char *)f->index + f->index->strings.offset + s.offset;
}

/* "N | header | data" for one tensor "w" of eight bytes. */
static size_t make_safetensors(char *out) {
    static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    uint64_t n = sizeof(header) - 1;
    memcpy(out, &n, 8);
    memcpy(out + 8, header, n);
    memset(out + 8 + n, 7, 8);
    return 8 + n + 8;
}

static void the_real_helper_makes_the_index_of_an_artifact(void **state) {
    struct fixture *f = *state;
    char data[256];
    size_t n = make_safetensors(data);
    add_file(f, "config.json", "{}", 2);
    add_file(f, "sub/model.safetensors", data, n);
    f->skipped = (struct artifact_skipped){(char *)"pytorch_model.bin", "duplicates the weights"};
    f->artifact.skipped = &f->skipped;
    f->artifact.n_skipped = 1;
    f->request.helper = REAL;
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
    const struct hearth_index_tensor *t = table_of(f, f->index->tensors);
    const struct hearth_index_file *files = table_of(f, f->index->files);
    const struct hearth_index_finding *x = table_of(f, f->index->findings);
    assert_int_equal(f->index->tensors.count, 1);
    assert_string_equal(text_of(f, t->name), "w");
    assert_int_equal(t->file, 1);
    assert_int_equal(t->offset, n - 8);
    assert_string_equal(text_of(f, f->index->ref), "/models/m");
    assert_string_equal(text_of(f, files[0].format), "json");
    assert_string_equal(text_of(f, files[1].format), "safetensors");
    assert_string_equal(text_of(f, x->file), "pytorch_model.bin");
    assert_string_equal(text_of(f, x->message), "duplicates the weights");
    /* nothing was waited for but the header */
    for (size_t i = 0; i < f->n_ranges; i++) {
        assert_int_equal(f->ranges[i].file, 1);
        assert_true(f->ranges[i].offset + f->ranges[i].length <= n - 8);
    }
}

static void a_refusal_names_the_file_and_the_offset(void **state) {
    struct fixture *f = *state;
    char data[256];
    size_t n = make_safetensors(data);
    f->request.helper = REAL;
    add_file(f, "cut.safetensors", data, n - 1);
    parse_fails(f, HEARTH_E_MALFORMED, "MetadataIncompleteBuffer");
    assert_string_equal(f->err.file, "/models/m/cut.safetensors");
    assert_int_equal(f->err.offset, n - 8);
    assert_string_equal(f->err.expected, "8 bytes of data");
    assert_string_equal(f->err.found, "7 bytes");
    assert_int_equal(parse_isolated(&f->request, &f->index_fd, NULL), HEARTH_E_MALFORMED);
}

/* Each entry of the map asks whether another file was left out: with a search through all of them for each, the
 * parser's time is over long before the map is. */
static void a_long_map_to_many_files_left_out_is_read_in_time(void **state) {
    enum { SKIPPED = 50000, ENTRIES = 200000 };
    struct fixture *f = *state;
    struct artifact_skipped *skipped = calloc(SKIPPED, sizeof(*skipped));
    char(*paths)[16] = calloc(SKIPPED, sizeof(*paths));
    char *map = malloc(64 + ENTRIES * 40);
    assert_true(skipped && paths && map);
    for (unsigned i = 0; i < SKIPPED; i++) {
        snprintf(paths[i], sizeof(paths[i]), "s%05u", i);
        skipped[i] = (struct artifact_skipped){paths[i], "left out"};
    }
    size_t n = (size_t)sprintf(map, "{\"weight_map\":{");
    for (unsigned i = 0; i < ENTRIES; i++)
        n += (size_t)sprintf(map + n, "%s\"t%u\":\"%s\"", i ? "," : "", i, paths[SKIPPED - 1 - i % 2]);
    n += (size_t)sprintf(map + n, "}}");
    f->artifact.skipped = skipped;
    f->artifact.n_skipped = SKIPPED;
    f->request.helper = REAL;
    add_file(f, "m.safetensors.index.json", map, n);
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
    assert_int_equal(f->index->findings.count, SKIPPED);
    free(skipped);
    free(paths);
    free(map);
}

static void an_artifact_of_no_files_known_is_held_whole(void **state) {
    struct fixture *f = *state;
    f->request.helper = REAL;
    add_file(f, "unknown.xyz", "", 0);
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
    assert_int_equal(f->index->tensors.count, 0);
    assert_int_equal(f->index->format.length, 0);
}

static void a_parser_may_read_a_tail_and_a_middle(void **state) {
    struct fixture *f = *state;
    enum { BYTES = 100000, TABLE = 50000 };
    char *data = calloc(BYTES, 1);
    uint64_t place[2] = {1000, 2000}, table = TABLE;
    memcpy(data + TABLE, place, 16);
    memcpy(data + BYTES - 8, &table, 8);
    add_file(f, "a.tail", data, BYTES);
    add_file(f, "b.tail", data, BYTES);
    free(data);
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
    static const uint64_t asked[4][3] = {{0, BYTES - 8, 8}, {0, TABLE, 16}, {1, BYTES - 8, 8}, {1, TABLE, 16}};
    assert_int_equal(f->n_ranges, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(f->ranges[i].file, asked[i][0]);
        assert_int_equal(f->ranges[i].offset, asked[i][1]);
        assert_int_equal(f->ranges[i].length, asked[i][2]);
    }
    const struct hearth_index_tensor *t = table_of(f, f->index->tensors);
    assert_int_equal(f->index->tensors.count, 2);
    assert_int_equal(t[1].offset, 1000);
    assert_int_equal(t[1].bytes, 2000);
}

static void waiting_for_ranges_is_not_the_parsers_time(void **state) {
    struct fixture *f = *state;
    char data[64] = {0};
    data[56] = 8;
    add_file(f, "a.tail", data, sizeof(data));
    f->request.time_limit = 2 * NS_PER_S;
    f->wait_for_ms = 1500; /* twice */
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
}

static void a_load_that_ends_ends_its_parser(void **state) {
    struct fixture *f = *state;
    char data[64] = {0};
    add_file(f, "a.tail", data, sizeof(data));
    f->refuse_wait = HEARTH_E_CANCELLED;
    parse_fails(f, HEARTH_E_CANCELLED, "the load has ended");
    f->refuse_wait = 0;
    f->no_fd = true;
    parse_fails(f, HEARTH_E_NO_FDS, "none left");
}

/* Not only while it waits for a range: the helper never comes back here. */
static void a_parser_can_be_stopped_whatever_it_does(void **state) {
    struct fixture *f = *state;
    add_file(f, "a.hang", "x", 1);
    f->request.stop_fd = eventfd(1, EFD_CLOEXEC);
    assert_true(f->request.stop_fd > 0);
    parse_fails(f, HEARTH_E_CANCELLED, "stopped");
    close(f->request.stop_fd);
    f->request.stop_fd = 0;
}

static void misbehave(struct fixture *f, const char *path, const char *why) {
    f->artifact.n_files = 0;
    add_file(f, path, "1234567890123456", 16);
    parse_fails(f, HEARTH_E_PARSER, why);
    close(f->fds[0]);
    f->artifact.n_files = 0;
}

static void a_parser_that_crashes_costs_one_artifact(void **state) {
    misbehave(*state, "a.crash", "crashed: SIGABRT");
}

static void a_parser_that_hangs_is_ended(void **state) {
    struct fixture *f = *state;
    f->request.time_limit = NS_PER_S / 5;
    misbehave(f, "a.hang", "too long");
    misbehave(f, "a.sleep", "too long");
}

static void memory_is_bounded(void **state) {
#ifdef HEARTH_SANITIZED
    (void)state;
    print_message("skipped: sanitizers reserve more address space than any limit would leave\n");
    skip();
#else
    misbehave(*state, "a.eat", "out of memory");
#endif
}

static void output_is_bounded(void **state) {
    struct fixture *f = *state;
    f->request.memory_limit = (uint64_t)64 << 20;
    misbehave(f, "a.flood", "wrote more than");
}

static void system_calls_that_a_parser_does_not_need_kill_it(void **state) {
    misbehave(*state, "a.socket", "system call");
    misbehave(*state, "a.exec", "system call");
    misbehave(*state, "a.signal", "system call");
}

static void ranges_outside_of_the_artifact_are_refused(void **state) {
    misbehave(*state, "a.outside", "outside of a file");
    misbehave(*state, "a.stranger", "not in the artifact");
}

static void an_index_that_breaks_a_rule_is_not_believed(void **state) {
    misbehave(*state, "a.beyond", "a tensor lies inside its file");
}

static void what_a_parser_says_is_safe_to_print(void **state) {
    struct fixture *f = *state;
    add_file(f, "a.rude", "x", 1);
    parse_fails(f, HEARTH_E_MALFORMED, "\\x1b[2J\\xff gotcha");
    assert_string_equal(f->err.file, "/etc/passwd\\x1b[1m");
}

static void a_helper_that_breaks_the_protocol_is_refused(void **state) {
    struct fixture *f = *state;
    f->request.helper = HOSTILE;
    f->request.time_limit = 2 * NS_PER_S;
    misbehave(f, "garbage.packet", "contradicts itself");
    misbehave(f, "unknown.packet", "of a kind");
    misbehave(f, "brings.fd", "descriptors");
    misbehave(f, "silent.exit", "without a word");
    misbehave(f, "status.exit", "status 7");
    misbehave(f, "empty.index", "0 bytes");
    misbehave(f, "garbage.index", "shorter than its header");
    misbehave(f, "other.artifact", "not that of the artifact");
    misbehave(f, "lying.digest", "not that of the artifact");
    misbehave(f, "asks.only", "does not read");
    f->request.time_limit = NS_PER_S / 5;
    misbehave(f, "done.lingers", "too long");
    /* and the same helper, when it keeps to it */
    f->request.time_limit = 0;
    add_file(f, "honest", "x", 1);
    if (parse(f) != 0)
        fail_msg("%s", f->err.message);
}

static void a_helper_that_is_not_there_is_named(void **state) {
    struct fixture *f = *state;
    add_file(f, "a.tail", "x", 1);
    f->request.helper = "/nonexistent/hearth-parse";
    parse_fails(f, HEARTH_E_SYSTEM, "cannot be executed");
    assert_string_equal(f->err.file, "/nonexistent/hearth-parse");
}

static void nothing_is_left_behind_and_no_other_child_is_touched(void **state) {
    struct fixture *f = *state;
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t other = fork();
    assert_true(other >= 0);
    if (other == 0) { /* lives until the gate closes, then leaves a status of its own */
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 42 : 1);
    }
    size_t before = open_fds();
    static const char *const paths[] = {"a.crash", "a.socket", "a.outside", "a.beyond", "a.json"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        f->artifact.n_files = 0;
        add_file(f, paths[i], "x", 1);
        parse(f);
        drop_index(f);
        close(f->fds[0]);
        f->artifact.n_files = 0;
    }
    assert_int_equal(open_fds(), before);
    close(gate[0]);
    close(gate[1]);
    int status;
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

#define TEST_CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_CASE(the_real_helper_makes_the_index_of_an_artifact),
        TEST_CASE(a_refusal_names_the_file_and_the_offset),
        TEST_CASE(a_long_map_to_many_files_left_out_is_read_in_time),
        TEST_CASE(an_artifact_of_no_files_known_is_held_whole),
        TEST_CASE(a_parser_may_read_a_tail_and_a_middle),
        TEST_CASE(waiting_for_ranges_is_not_the_parsers_time),
        TEST_CASE(a_load_that_ends_ends_its_parser),
        TEST_CASE(a_parser_can_be_stopped_whatever_it_does),
        TEST_CASE(a_parser_that_crashes_costs_one_artifact),
        TEST_CASE(a_parser_that_hangs_is_ended),
        TEST_CASE(memory_is_bounded),
        TEST_CASE(output_is_bounded),
        TEST_CASE(system_calls_that_a_parser_does_not_need_kill_it),
        TEST_CASE(ranges_outside_of_the_artifact_are_refused),
        TEST_CASE(an_index_that_breaks_a_rule_is_not_believed),
        TEST_CASE(what_a_parser_says_is_safe_to_print),
        TEST_CASE(a_helper_that_breaks_the_protocol_is_refused),
        TEST_CASE(a_helper_that_is_not_there_is_named),
        TEST_CASE(nothing_is_left_behind_and_no_other_child_is_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
