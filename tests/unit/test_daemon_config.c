/* daemon/options and daemon/config: what is accepted, and that every mistake is named with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/options.h"
#include "util/error.h"

static char path[] = "/tmp/hearth-test-config-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

struct report {
    unsigned n, lines[16];
};

static void take_report(void *user, unsigned line, const struct hearth_error *err) {
    struct report *r = user;
    assert_true(err->expected[0]); /* every mistake says what would have been right */
    r->lines[r->n++] = line;
}

static int read_bytes(const char *text, size_t n, struct options *o, struct report *r, struct hearth_error *err) {
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    *o = (struct options)OPTIONS_DEFAULT;
    *err = (struct hearth_error)HEARTH_ERROR_INIT;
    return config_read(path, o, r ? take_report : NULL, r, err);
}

static int read_text(const char *text, struct options *o, struct report *r, struct hearth_error *err) {
    return read_bytes(text, strlen(text), o, r, err);
}

static void every_key_is_read(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    assert_int_equal(read_text("# a comment\n"
                               "socket = /run/x/hearth.sock ; and another\n"
                               "budget = 8GiB\n"
                               "  verify = always\n"
                               "backing=hugetlb\n"
                               "reader=pread\n"
                               "hash-workers = 3\n"
                               "bytes-in-flight = 16MiB\n"
                               "reserve = 4GiB\n"
                               "\n"
                               "loads-at-once = 2\n"
                               "idle-exit = 30m\n"
                               "metrics = 127.0.0.1:9400\n"
                               "state-dir = /var/lib/hearth\n"
                               "log-level = debug",
                               &o, NULL, &err),
                     0);
    assert_string_equal(o.socket, "/run/x/hearth.sock");
    assert_int_equal(o.budget, UINT64_C(8) << 30);
    assert_int_equal(o.verify, HEARTH_VERIFY_ALWAYS);
    assert_int_equal(o.backing, BACKING_HUGETLB);
    assert_int_equal(o.reader, READER_PREAD);
    assert_int_equal(o.hash_workers, 3);
    assert_int_equal(o.bytes_in_flight, 16 << 20);
    assert_int_equal(o.reserve, UINT64_C(4) << 30);
    assert_int_equal(o.loads_at_once, 2);
    assert_int_equal(o.idle_exit_ns, UINT64_C(1800) * 1000000000);
    assert_string_equal(o.state_dir, "/var/lib/hearth");
    assert_int_equal(o.log_level, LOG_DEBUG);
    assert_string_equal(o.metrics, "127.0.0.1:9400");
}

static void a_value_that_a_key_does_not_take_is_refused(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"socket", "relative"},
        {"socket", ""},
        {"budget", "0"},
        {"budget", "many"},
        {"budget", "-1"},
        {"verify", "sometimes"},
        {"verify", "default"},
        {"backing", "paper"},
        {"reader", "mmap"},
        {"hash-workers", "0"},
        {"hash-workers", "2x"},
        {"hash-workers", "1025"},
        {"hash-workers", "-1"},
        {"bytes-in-flight", "1K"},
        {"loads-at-once", ""},
        {"idle-exit", "0"},
        {"idle-exit", "soon"},
        {"bytes-in-flight", "8GB"},
        {"log-level", "chatty"},
        {"log-level", "6"},
        {"verify", "XXH3"},
        {"reserve", "some"},
        {"background-evicts", "perhaps"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct options o = OPTIONS_DEFAULT, before = OPTIONS_DEFAULT;
        struct hearth_error err = HEARTH_ERROR_INIT;
        assert_int_equal(options_set(&o, bad[i][0], bad[i][1], &err), HEARTH_E_INVALID);
        assert_true(err.expected[0]);
        assert_string_equal(err.found, bad[i][1]);
        assert_string_equal(o.socket, before.socket);
        assert_int_equal(o.verify, before.verify);
        assert_int_equal(o.backing, before.backing);
        assert_int_equal(o.log_level, before.log_level);
        assert_int_equal(o.loads_at_once, before.loads_at_once);
    }
}

static void figures_are_served_to_this_machine_alone(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "metrics.sock",
        ":9400",
        "9400",
        "0.0.0.0:9400",
        "[::]:9400",
        "10.0.0.1:9400",
        "127.0.0.2:9400",
        "localhost:9400",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:",
        "127.0.0.1:9400x",
        "127.0.0.1:+9400",
        "[::1]",
    };
    struct options o = OPTIONS_DEFAULT;
    struct hearth_error err = HEARTH_ERROR_INIT;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(options_set(&o, "metrics", bad[i], &err), HEARTH_E_INVALID);
    assert_int_equal(options_set(&o, "metrics", "[::1]:9400", &err), 0);
    assert_int_equal(options_set(&o, "metrics", "/run/hearth/metrics.sock", &err), 0);
}

static void every_mistake_is_reported_with_its_line(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    struct report r = {0};
    assert_int_equal(read_text("budgte = 8GiB\n"      /* 1: no such key */
                               "budget = 8GiB\n"      /* */
                               "\n"                   /* */
                               "verify = maybe\n"     /* 4: no such value */
                               "budget = 4GiB\n"      /* 5: twice */
                               "[limits]\n"           /* 6: no such section */
                               "loads-at-once = 2\n", /* what is in it is passed over */
                               &o, &r, &err),
                     HEARTH_E_INVALID);
    assert_int_equal(r.n, 4);
    assert_int_equal(r.lines[0], 1);
    assert_int_equal(r.lines[1], 4);
    assert_int_equal(r.lines[2], 5);
    assert_int_equal(r.lines[3], 6);
    assert_non_null(strstr(err.message, "line 1"));
    assert_string_equal(err.file, path);
}

static void a_line_that_is_no_setting_is_refused(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    struct report r = {0};
    assert_int_equal(read_text("budget = 1GiB\n\njust words\n", &o, &r, &err), HEARTH_E_INVALID);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.lines[0], 3);
    r = (struct report){0};
    assert_int_equal(read_text("[unclosed\n", &o, &r, &err), HEARTH_E_INVALID);
    assert_int_equal(r.lines[0], 1);
}

static void a_section_that_is_no_source_is_refused_with_or_without_a_setting_in_it(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\n[s]\n",
        "\n  [s]",
        "\n[s]\nbudget = 1GiB\n",
        "\n[]\n",
        "\n[ ]\n",
        "\n[s] ; a comment\n",
        "\xef\xbb\xbf[s]\n",
        "\n[sources a]\npath = /a\n",
        "\n[source a] words\npath = /a\n",
        "\n[source a\npath = /a\n",
        "\n[source]\npath = /a\n",
        "\n[source a b]\npath = /a\n",
        "\n[source hf]\npath = /a\n",
        "\n[source 0123456789ab]\npath = /a\n",
        "\n[source a/b]\npath = /a\n",
        "\n[source ..]\npath = /a\n",
        "\n[source a-name-of-more-than-thirty-two-bytes]\npath = /a\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct options o;
        struct hearth_error err;
        struct report r = {0};
        assert_int_equal(read_text(bad[i], &o, &r, &err), HEARTH_E_INVALID);
        assert_int_equal(r.n, 1);
        assert_int_equal(r.lines[0], bad[i][0] == '\n' ? 2 : 1);
        assert_true(err.expected[0]);
        options_deinit(&o);
    }
}

static void sources_are_read_with_their_grants(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    assert_int_equal(read_text("budget = 1GiB\n"
                               "[source models] ; a comment\n"
                               "path = /srv//models/./\n"
                               "attach = @0, root , 1000\n"
                               "load: @1001\n"
                               "\n"
                               "  [ source\tfree ]\n"
                               "attach = *\n"
                               "path = /srv/models/free\n",
                               &o, NULL, &err),
                     0);
    assert_int_equal(o.budget, 1 << 30);
    assert_int_equal(o.sources->n, 2);
    const struct source *models = &o.sources->list[0];
    assert_string_equal(models->name, "models");
    assert_string_equal(models->path, "/srv/models");
    const struct grant grants[] = {{RIGHT_ATTACH, GRANT_GROUP, 0},
                                   {RIGHT_ATTACH, GRANT_USER, 0},
                                   {RIGHT_ATTACH, GRANT_USER, 1000},
                                   {RIGHT_LOAD, GRANT_GROUP, 1001}};
    assert_int_equal(models->n_grants, 4);
    assert_memory_equal(models->grants, grants, sizeof(grants));
    assert_string_equal(o.sources->list[1].name, "free");
    assert_int_equal(o.sources->list[1].grants[0].kind, GRANT_EVERYBODY);
    options_deinit(&o);
    options_deinit(&o);
}

static void every_mistake_in_a_source_is_named_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *says;
    } bad[] = {
        {"[source a]\n\nattach = *\n", 1, "source a has no path"},
        {"[source a]\n[source b]\npath = /b\n", 1, "source a has no path"},
        {"[source a]\npath = models\n", 2, "'models' cannot be a source"},
        {"[source a]\npath =\n", 2, "'' cannot be a source"},
        {"[source a]\npath = /\n", 2, "cannot be a source"},
        {"[source a]\npath = /srv/../etc\n", 2, "cannot be a source"},
        {"[source a]\npath = /srv/..\n", 2, "cannot be a source"},
        {"[source a]\npath = /a\npath = /b\n", 3, "path was set before, on line 2"},
        {"[source a]\npath = /a\nload = *\nload = root\n", 4, "load was set before, on line 3"},
        {"[source a]\npath = /a\n[source a]\npath = /b\n", 3, "there is a source a already"},
        {"[source a]\npath = /a\n[source b]\npath = /a/\n", 4, "the path of source a already"},
        {"[source a]\npath = /a\nread = root\n", 3, "a source has no key 'read'"},
        {"[source a]\npath = /a\nbudget = 1GiB\n", 3, "a source has no key 'budget'"},
        {"[source a]\npath = /a\nattach =\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = root,\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = root,,1\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = root alice\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = @\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = @*\n", 3, "names nobody"},
        {"[source a]\npath = /a\nattach = no-such-user\n", 3, "there is no user 'no-such-user'"},
        {"[source a]\npath = /a\nattach = @no-such-group\n", 3, "there is no group 'no-such-group'"},
        {"[source a]\npath = /a\nattach = 4294967295\n", 3, "there is no user '4294967295'"},
        {"[source a]\npath = /a\nattach = -1\n", 3, "there is no user '-1'"},
        {"path = /a\n", 1, "there is no key 'path'"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct options o;
        struct hearth_error err;
        struct report r = {0};
        assert_int_equal(read_text(bad[i].text, &o, &r, &err), HEARTH_E_INVALID);
        if (r.n != 1 || r.lines[0] != bad[i].line || !strstr(err.message, bad[i].says))
            fail_msg("%s: %u mistakes, line %u: %s", bad[i].text, r.n, r.lines[0], err.message);
        assert_string_equal(err.file, path);
        options_deinit(&o);
    }
}

static void what_has_no_end_is_not_read(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    assert_int_equal(config_read("/dev/zero", &o, NULL, NULL, &err), HEARTH_E_SYSTEM);
    assert_string_equal(err.file, "/dev/zero");
}

static void a_time_that_would_wrap_is_refused(void **state) {
    (void)state;
    struct options o = OPTIONS_DEFAULT;
    struct hearth_error err;
    assert_int_equal(options_set(&o, "idle-exit", "18446744073", &err), HEARTH_E_INVALID);
    assert_int_equal(options_set(&o, "idle-exit", "8760h", &err), 0);
}

static void a_colon_is_as_good_as_an_equals_sign(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    assert_int_equal(read_text("\xef\xbb\xbfloads-at-once: 3\nlog-level :error\n", &o, NULL, &err), 0);
    assert_int_equal(o.loads_at_once, 3);
    assert_int_equal(o.log_level, LOG_ERROR);
}

static void an_indented_line_is_a_line_of_its_own(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    assert_int_equal(read_text("log-level = error\n   loads-at-once = 3\n", &o, NULL, &err), 0);
    assert_int_equal(o.loads_at_once, 3);
    assert_int_equal(o.log_level, LOG_ERROR);
}

static void a_line_longer_than_the_reader_takes_is_refused_not_cut(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    struct report r = {0};
    char text[400];
    int n = snprintf(text, sizeof(text), "budget = 1GiB\nsocket = /");
    memset(text + n, 'a', 250);
    strcpy(text + n + 250, "\nverify = none\n");
    assert_int_equal(read_text(text, &o, &r, &err), HEARTH_E_INVALID);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.lines[0], 2);
    assert_int_equal(o.verify, HEARTH_VERIFY_NONE); /* the rest was read */
}

static void a_nul_byte_is_refused(void **state) {
    (void)state;
    static const char text[] = "budget = 1GiB\nverify = none\0junk\n";
    struct options o;
    struct hearth_error err;
    struct report r = {0};
    assert_int_equal(read_bytes(text, sizeof(text) - 1, &o, &r, &err), HEARTH_E_INVALID);
    assert_int_equal(r.lines[0], 2);
}

static void a_file_that_cannot_be_read_is_an_error(void **state) {
    (void)state;
    struct options o = OPTIONS_DEFAULT;
    struct hearth_error err = HEARTH_ERROR_INIT;
    assert_int_equal(config_read("/nonexistent/hearthd.conf", &o, NULL, NULL, &err), HEARTH_E_NOT_FOUND);
    assert_string_equal(err.file, "/nonexistent/hearthd.conf");
    assert_int_not_equal(config_read("/", &o, NULL, NULL, &err), 0);
}

static void the_example_file_is_right_and_complete(void **state) {
    (void)state;
    struct options o;
    struct hearth_error err;
    char text[8192], uncommented[8192], *to = uncommented;
    FILE *f = fopen(TEST_SOURCE_DIR "/systemd/hearthd.conf", "re");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    assert_int_equal(read_text(text, &o, NULL, &err), 0);
    /* Each setting is shown commented out: "#key = value". */
    unsigned settings = 0, sections = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] == '[') { /* below, only a source's */
            to += sprintf(to, "%s\n", line + 1);
            sections++;
        } else if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z') {
            to += sprintf(to, "%s\n", line + 1);
            settings += sections == 0;
        }
    assert_int_equal(read_text(uncommented, &o, NULL, &err), 0);
    assert_int_equal(settings, OPTIONS_KEYS);
    assert_int_equal(sections, 1);
    assert_int_equal(o.sources->n, 1);
    options_deinit(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(a_value_that_a_key_does_not_take_is_refused),
        cmocka_unit_test(figures_are_served_to_this_machine_alone),
        cmocka_unit_test(every_mistake_is_reported_with_its_line),
        cmocka_unit_test(a_line_that_is_no_setting_is_refused),
        cmocka_unit_test(a_section_that_is_no_source_is_refused_with_or_without_a_setting_in_it),
        cmocka_unit_test(sources_are_read_with_their_grants),
        cmocka_unit_test(every_mistake_in_a_source_is_named_with_its_line),
        cmocka_unit_test(what_has_no_end_is_not_read),
        cmocka_unit_test(a_time_that_would_wrap_is_refused),
        cmocka_unit_test(a_colon_is_as_good_as_an_equals_sign),
        cmocka_unit_test(an_indented_line_is_a_line_of_its_own),
        cmocka_unit_test(a_line_longer_than_the_reader_takes_is_refused_not_cut),
        cmocka_unit_test(a_nul_byte_is_refused),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_error),
        cmocka_unit_test(the_example_file_is_right_and_complete),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
