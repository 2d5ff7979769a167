/* util/uring_refusal.c: see uring_refusal.h. */
#include "util/uring_refusal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "util/kernel_file.h"

const char *uring_refusal(const char *root, int sys_errno, char *buffer, size_t size) {
    char path[PATH_MAX];
    uint64_t disabled = 0;
    if (sys_errno == ENOMEM || sys_errno == EMFILE || sys_errno == ENFILE)
        return NULL;
    snprintf(path, sizeof(path), "%s/proc/sys/kernel/io_uring_disabled", root);
    if (!kernel_number(path, &disabled))
        disabled = 0;
    buffer[0] = '\0';
    if (sys_errno == ENOSYS)
        snprintf(buffer, size, "the kernel, or a sandbox around it, has no io_uring");
    else if (disabled > 0)
        snprintf(buffer, size, "the sysctl kernel.io_uring_disabled is %" PRIu64 ": set it to 0%s", disabled,
                 disabled == 1 ? ", or add this user to the group of kernel.io_uring_group" : "");
    else if (sys_errno == EPERM || sys_errno == EACCES)
        snprintf(buffer, size,
                 "a seccomp profile refuses it (the default one of Docker and containerd does): allow io_uring_setup, "
                 "io_uring_enter and io_uring_register");
    return buffer;
}
