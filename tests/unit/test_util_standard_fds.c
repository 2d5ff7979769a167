/* util/standard_fds: a program that is started without standard descriptors prints into nobody's file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/standard_fds.h"

/* Runs in a child: 0, or the line that found otherwise. */
static int without(unsigned closed) {
#define EXPECT(x) \
    if (!(x))     \
    return __LINE__ % 256
    for (int fd = 0; fd <= 2; fd++)
        if (closed & 1u << fd)
            close(fd);
    standard_fds_fill();
    char c = 'x';
    for (int fd = 0; fd <= 2; fd++)
        if (closed & 1u << fd) {
            errno = 0;
            EXPECT((fd == 0 ? read(fd, &c, 1) : write(fd, &c, 1)) < 0 && errno == EBADF);
        }
    EXPECT(open("/dev/null", O_RDONLY) > 2);
    return 0;
}

static void what_is_closed_is_taken_up_and_fails_as_before(void **state) {
    (void)state;
    for (unsigned closed = 0; closed < 8; closed++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(without(closed));
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_closed_is_taken_up_and_fails_as_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
