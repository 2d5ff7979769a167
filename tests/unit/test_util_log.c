/* util/log: on a pipe each message is one line that cannot be forged or break a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/log.h"

static char got[16384];
static int pipe_ends[2], real_stderr;

/* From here to read_log(), stderr is a pipe. */
static void catch_log(enum log_level most) {
    unsetenv("JOURNAL_STREAM");
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
    real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(real_stderr >= 0);
    assert_int_equal(dup2(pipe_ends[1], STDERR_FILENO), STDERR_FILENO);
    log_init("hearthd", most);
}

/* What was logged since, without the time that each line begins with. */
static const char *read_log(void) {
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(pipe_ends[1]);
    ssize_t n = read(pipe_ends[0], got, sizeof(got) - 1);
    close(pipe_ends[0]);
    got[n > 0 ? n : 0] = '\0';
    const char *behind_time = strchr(got, ' ');
    return behind_time ? behind_time + 1 : got;
}

static void a_message_says_who_and_how_bad_with_its_fields(void **state) {
    (void)state;
    catch_log(LOG_INFO);
    log_fields(LOG_WARNING,
               (const struct log_field[]){{"ARTIFACT", "0000000000ff"}, {"FILE", NULL}, {"OFFSET", "12"}, {NULL, NULL}},
               "%d files are %s", 2, "stale");
    assert_string_equal(read_log(), "hearthd: warning: 2 files are stale (artifact=0000000000ff, offset=12)\n");
}

static void a_pipe_that_nobody_reads_holds_up_nobody_and_the_loss_is_told(void **state) {
    (void)state;
    catch_log(LOG_INFO);
    assert_int_equal(fcntl(pipe_ends[1], F_SETFL, 0), 0); /* as a parent would have made it: it blocks */
    alarm(20);
    for (unsigned i = 0; i < 5000; i++)
        log_info("line %u of many, to fill what a pipe holds", i);
    while (read(pipe_ends[0], got, sizeof(got)) > 0)
        ;
    log_info("there is room again");
    alarm(0);
    assert_true(read(pipe_ends[0], got, 1) == 1 && got[0] == 'h');
    const char *rest = read_log();
    assert_non_null(strstr(rest, "lines of the log were left out"));
    assert_non_null(strstr(got, "there is room again"));
}

static void a_file_of_its_own_does_not_grow_for_ever(void **state) {
    (void)state;
    catch_log(LOG_INFO);
    char path[] = "/tmp/hearth-log-XXXXXX";
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    log_bound(10000);
    off_t most = 0;
    for (unsigned i = 0; i < 2000; i++) {
        log_info("line %u", i);
        off_t now = lseek(fd, 0, SEEK_END);
        most = now > most ? now : most;
    }
    log_bound(0);
    assert_true(most > 5000 && most < 12000);
    close(fd);
    read_log();
}

static void what_is_less_important_than_asked_for_is_not_said(void **state) {
    (void)state;
    catch_log(LOG_NOTICE);
    log_info("no");
    log_debug("no");
    log_notice("yes");
    assert_string_equal(read_log(), "hearthd: notice: yes\n");
}

static void a_name_from_outside_cannot_forge_a_line_or_an_escape(void **state) {
    (void)state;
    catch_log(LOG_INFO);
    log_fields(LOG_ERROR, (const struct log_field[]){{"FILE", "b\nc\xff"}, {NULL, NULL}}, "cannot read %s",
               "a\n00:00:00 \x1b[2J");
    assert_string_equal(read_log(), "hearthd: error: cannot read a\\x0a00:00:00 \\x1b[2J (file=b\\x0ac\\xff)\n");
}

static void a_failure_is_told_with_all_its_facts(void **state) {
    (void)state;
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_INTEGRITY, "the content differs from its digest");
    error_at(&err, "/a/w", 0);
    error_expected(&err, "aa");
    error_found(&err, "bb");
    catch_log(LOG_INFO);
    log_failure(LOG_ERROR, "load of /a", &err);
    assert_string_equal(read_log(), "hearthd: error: load of /a: the content differs from its digest "
                                    "(code=integrity, file=/a/w, offset=0, expected=aa, found=bb)\n");
}

static void a_message_too_long_is_cut_to_one_line(void **state) {
    (void)state;
    _cleanup_free_ char *longer = malloc(100000);
    assert_non_null(longer);
    memset(longer, '\1', 99999); /* four times as long when printable */
    longer[99999] = '\0';
    catch_log(LOG_INFO);
    log_fields(LOG_ERROR,
               (const struct log_field[]){
                   {"A", longer}, {"B", longer}, {"C", longer}, {"D", longer}, {"E", longer}, {NULL, NULL}},
               "%s", longer);
    const char *line = read_log();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void a_journal_that_is_somebody_elses_is_not_written_to(void **state) {
    (void)state;
    catch_log(LOG_INFO);
    setenv("JOURNAL_STREAM", "1:1", 1); /* of a parent whose stderr was replaced since */
    log_init("hearthd", LOG_INFO);
    log_info("here");
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(read_log(), "hearthd: info: here\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_says_who_and_how_bad_with_its_fields),
        cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_nobody_and_the_loss_is_told),
        cmocka_unit_test(a_file_of_its_own_does_not_grow_for_ever),
        cmocka_unit_test(what_is_less_important_than_asked_for_is_not_said),
        cmocka_unit_test(a_name_from_outside_cannot_forge_a_line_or_an_escape),
        cmocka_unit_test(a_failure_is_told_with_all_its_facts),
        cmocka_unit_test(a_message_too_long_is_cut_to_one_line),
        cmocka_unit_test(a_journal_that_is_somebody_elses_is_not_written_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
