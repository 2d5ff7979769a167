/* artifact/helper/sandbox.c: see helper.h.
 *
 * What is left to the helper: memory of its own, reading from the descriptors it is given, writing to the one it was
 * started with, and one socket. It cannot open, connect, start or map anything executable.
 */
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "artifact/helper/helper.h"

/* `grace`: how far the hard limit lies above the soft one. */
static int limit(int resource, uint64_t value, uint64_t grace) {
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
        return -errno;
    rlim_t soft = value < now.rlim_max ? (rlim_t)value : now.rlim_max;
    rlim_t hard = grace < now.rlim_max - soft ? soft + (rlim_t)grace : now.rlim_max;
    struct rlimit wanted = {.rlim_cur = soft, .rlim_max = hard};
    return setrlimit((__rlimit_resource_t)resource, &wanted) < 0 ? -errno : 0;
}

int sandbox_isolate(void) {
    if (close_range(PARSE_OUTPUT_FD + 1, ~0u, 0) < 0)
        return -errno;
    /* A parent that is killed takes its helper along. One that died before this line has closed the socket. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

static int set_limits(const struct parse_msg_setup *limits) {
    int r = limit(RLIMIT_CPU, limits->cpu_seconds, 1); /* SIGXCPU, which says why, before SIGKILL */
    r = r ? r : limit(RLIMIT_CORE, 0, 0);
    r = r ? r : limit(RLIMIT_FSIZE, limits->memory_bytes, 0);
    r = r ? r : limit(RLIMIT_NOFILE, 64, 0);
#ifndef HEARTH_SANITIZED /* sanitizers reserve terabytes of address space */
    r = r ? r : limit(RLIMIT_AS, limits->memory_bytes, 0);
#endif
    return r;
}

/* clang-format off: one call a line would hide the groups */
static const int allowed[] = {
    /* files, the output, the socket */
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(close),
    /* memory; malloc(3)'s cache seeds itself */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    /* ending, and abort(3), so that a crash is seen as one */
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(writev),
    SCMP_SYS(clock_gettime),
#ifdef HEARTH_SANITIZED
    /* what the run-times do while they work, and while they report */
    SCMP_SYS(mprotect),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sched_yield),
    SCMP_SYS(openat),
    SCMP_SYS(open),
    SCMP_SYS(read),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(ioctl),
    SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),
    SCMP_SYS(sysinfo),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getuid),
    SCMP_SYS(prctl),
    SCMP_SYS(dup),
    SCMP_SYS(fcntl),
    SCMP_SYS(getppid),
    SCMP_SYS(wait4),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(uname),
#endif
};
/* clang-format on */

static int filter_calls(void) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -ENOMEM;
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
        if (r == -EDOM)
            r = 0; /* this architecture does not have the call */
    }
    /* Anonymous memory, never executable. */
    r = r ? r
          : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                             SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
    r = r ? r
          : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    r = r ? r : seccomp_load(filter); /* sets no_new_privs, too */
    seccomp_release(filter);
    return r;
}

int sandbox_enter(const struct parse_msg_setup *limits) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return -errno;
    int r = set_limits(limits);
    return r ? r : filter_calls();
}
