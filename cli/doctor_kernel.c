/* cli/doctor_kernel.c: the kernel's calls, and io_uring. Everything is tried, nothing is told from a version. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/cleanup.h"
#include "util/kernel.h"
#include "util/uring_refusal.h"

#define OLDEST_MAJOR 6u
#define OLDEST_MINOR 1u

#define PROBE_BYTES (UINT64_C(4) << 20) /* a huge page of 2 MiB wherever it begins */

static bool has_cachestat(int fd) {
    struct {
        uint64_t offset, length;
    } range = {0, 0};
    uint64_t result[5];
    return syscall(SYS_cachestat, fd, &range, result, 0) == 0;
}

static void probe_advice(struct kernel_calls *out) {
    const uint64_t huge = PROBE_BYTES / 2;
    uint8_t *at = mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return;
    uint8_t *aligned = (uint8_t *)(((uintptr_t)at + huge - 1) / huge * huge);
    out->populate_write = madvise(aligned, 1, MADV_POPULATE_WRITE) == 0;
    /* EAGAIN, ENOMEM, EBUSY: there is none at the moment. EINVAL: the kernel does not know the word. */
    out->collapse = madvise(aligned, huge, MADV_COLLAPSE) == 0 || errno != EINVAL;
    munmap(at, PROBE_BYTES);
}

void probe_calls(struct kernel_calls *out) {
    *out = (struct kernel_calls){0};
    _cleanup_close_ int sealed = memfd_create("hearth-doctor", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    _cleanup_close_ int plain = memfd_create("hearth-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int fd = sealed >= 0 ? sealed : plain;
    out->noexec_seal = sealed >= 0;
    out->memfd = fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0;
    out->cachestat = fd >= 0 && has_cachestat(fd);
    probe_advice(out);
}

void check_kernel(struct doctor *d, const char *release, const struct kernel_calls *calls) {
    unsigned major = 0, minor = 0;
    bool old = sscanf(release, "%u.%u", &major, &minor) == 2 &&
               (major < OLDEST_MAJOR || (major == OLDEST_MAJOR && minor < OLDEST_MINOR));
    struct finding *f;
    if (old) {
        f = finding_add(d, "kernel", LEVEL_WARNING, "Linux %s: older than %u.%u, the oldest that hearth is tested with",
                        release, OLDEST_MAJOR, OLDEST_MINOR);
        finding_mend(f, "run a kernel of %u.%u or newer", OLDEST_MAJOR, OLDEST_MINOR);
    } else {
        finding_add(d, "kernel", LEVEL_OK, "Linux %s", release);
    }
    if (!calls->memfd) {
        f = finding_add(d, "memfd", LEVEL_PROBLEM, "memfd_create(2) with seals is refused");
        finding_cost(f, "nothing can be held in memory that nobody can change");
        finding_mend(f, "allow memfd_create and fcntl(F_ADD_SEALS) in the sandbox around this process");
    } else if (!calls->noexec_seal) {
        f = finding_add(d, "memfd", LEVEL_NOTE, "MFD_NOEXEC_SEAL is not known (Linux 6.3)");
        finding_cost(f, "a program of the same user could make loaded memory executable; nothing else");
    } else {
        finding_add(d, "memfd", LEVEL_OK, "sealed, not executable");
    }
    if (!calls->populate_write) {
        f = finding_add(d, "MADV_POPULATE_WRITE", LEVEL_PROBLEM, "it is refused (Linux 5.14 has it)");
        finding_cost(f, "memory cannot be had without the risk of a kill, and hearthd loads nothing");
    } else {
        finding_add(d, "MADV_POPULATE_WRITE", LEVEL_OK, "it is there");
    }
    if (calls->collapse) {
        finding_add(d, "MADV_COLLAPSE", LEVEL_OK, "it is there");
    } else {
        f = finding_add(d, "MADV_COLLAPSE", LEVEL_NOTE, "it is not there, or huge pages are not");
        finding_cost(f, "huge pages only where shmem_enabled gives them");
    }
    if (calls->cachestat) {
        finding_add(d, "cachestat", LEVEL_OK, "it is there");
    } else {
        f = finding_add(d, "cachestat", LEVEL_NOTE, "it is not there (Linux 6.5 has it), or a sandbox refuses it");
        finding_cost(f, "what the page cache holds of a file takes longer to learn");
    }
}

int probe_uring(void) {
    struct io_uring_params params;
    memset(&params, 0, sizeof(params));
    int fd = (int)syscall(SYS_io_uring_setup, 8, &params);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

void check_uring(struct doctor *d, int sys_errno) {
    char why[256];
    if (sys_errno == 0) {
        finding_add(d, "io_uring", LEVEL_OK, "it can be used");
        return;
    }
    const char *hint = uring_refusal(d->root, sys_errno, why, sizeof(why));
    struct finding *f = finding_add(d, "io_uring", LEVEL_NOTE, "it is refused (%s)%s%s", strerror(sys_errno),
                                    hint && hint[0] ? ": " : "", hint ? hint : "");
    finding_cost(f, "files are read by threads instead, for some more CPU time and memory");
    if (hint && strstr(hint, "sysctl"))
        finding_mend(f, "sudo sysctl kernel.io_uring_disabled=0");
    else if (hint && strstr(hint, "seccomp"))
        finding_mend(f, "docker run --security-opt seccomp=PROFILE, where PROFILE allows those three calls");
}
