/* hearth-no-io-uring PROGRAM [ARGUMENT...]: runs a program without io_uring, as the seccomp profiles of Docker and
 * containerd do: its calls fail with EPERM. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char *argv[]) {
    static const int refused[] = {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter && argc > 1 ? 0 : -EINVAL;
    for (size_t i = 0; r == 0 && i < sizeof(refused) / sizeof(refused[0]); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    r = r ? r : seccomp_load(filter);
    if (r == 0)
        execv(argv[1], argv + 1);
    fprintf(stderr, "hearth-no-io-uring: it cannot be run (%d)\n", r ? -r : errno);
    return 125;
}
