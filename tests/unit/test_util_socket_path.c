/* util/socket_path: the directory in /tmp is trusted only if nobody else can have made it or can get into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/error.h"
#include "util/socket_path.h"

/* A uid nobody has here, so that its directory in /tmp is the test's own. */
#define TEST_UID 61357

/* What the check says of the path in `dir` to a process of TEST_UID. */
static int check_as_user(const char *dir) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char path[64];
        struct hearth_error err = HEARTH_ERROR_INIT;
        if (seteuid(TEST_UID) < 0)
            _exit(100);
        snprintf(path, sizeof(path), "%s/hearth.sock", dir);
        int code = socket_path_check(path, &err);
        _exit(code == 0 || strcmp(err.file, dir) == 0 ? code : 101);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void only_a_private_directory_of_ones_own_is_trusted(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can make directories for other users\n");
        skip();
    }
    char dir[32];
    snprintf(dir, sizeof(dir), "/tmp/hearth-%u", TEST_UID);
    assert_int_equal(check_as_user(dir), HEARTH_E_NOT_FOUND);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(check_as_user(dir), HEARTH_E_DENIED); /* root's */
    assert_int_equal(chown(dir, TEST_UID, TEST_UID), 0);
    assert_int_equal(check_as_user(dir), 0);
    assert_int_equal(chmod(dir, 0750), 0);
    assert_int_equal(check_as_user(dir), HEARTH_E_DENIED);
    assert_int_equal(chmod(dir, 0701), 0);
    assert_int_equal(check_as_user(dir), HEARTH_E_DENIED);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(symlink("/tmp", dir), 0);
    assert_int_equal(lchown(dir, TEST_UID, TEST_UID), 0);
    assert_int_equal(check_as_user(dir), HEARTH_E_DENIED);
    assert_int_equal(unlink(dir), 0);
}

static void paths_elsewhere_are_not_examined(void **state) {
    (void)state;
    assert_int_equal(socket_path_check("/run/hearth/hearth.sock", NULL), 0);
    char path[64];
    snprintf(path, sizeof(path), "/tmp/hearth-%u0/hearth.sock", geteuid()); /* another uid's name */
    assert_int_equal(socket_path_check(path, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_private_directory_of_ones_own_is_trusted),
        cmocka_unit_test(paths_elsewhere_are_not_examined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
