/* util/memfd.h: anonymous shared memory and its seals.
 *
 * A memfd is created mode 0666 and can be reopened for writing through /proc by whoever holds any descriptor of it:
 * only seals protect it. The order that works: FUTURE_WRITE|SHRINK|GROW while the maker's writable mapping is alive,
 * then munmap, then WRITE|SEAL (EBUSY while any writable mapping exists, in a forked child too).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "util/kernel.h"

/* Seals of a memfd that is still being filled through a mapping. */
#define SEALS_FILLING (F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)
/* Seals that a finished one has; a reader who sees them all can trust that it never changes. */
#define SEALS_FINAL (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Makes a memfd of exactly `bytes` (rounded up by the caller for MFD_HUGETLB), close-on-exec, sealable, not executable,
 * mode 0444. `extra_flags`: 0 or MFD_HUGETLB. `name` shows in /proc/PID/maps. Returns the fd, or -errno. */
int memfd_new(const char *name, uint64_t bytes, unsigned extra_flags);

/* 0 or -errno. */
int memfd_seal(int fd, int seals);

/* A fresh O_RDONLY description of the same file, with its own offset: the fd, or -errno. No seal keeps a process of the
 * same user from taking the mode's bits away: they are put back. */
int memfd_reopen_readonly(int fd);
/* The same, a microsecond sooner: `own_fds` is a descriptor of this process's /proc/self/fd. Where it is -1, or that
 * fails, it is done as above. */
int memfd_reopen_in(int own_fds, int fd);

/* As memfd_reopen_readonly(), but -EWOULDBLOCK while another description has a lease on it, which opening it would
 * begin to break. Where /proc/locks cannot be read, it is opened to see. */
int memfd_reopen_unleased(int fd);

/* SEALS_FINAL, with patience: the kernel says EBUSY while any page is pinned, by a read that has just ended or by
 * whoever else looks at physical memory. 0 or -errno; -EBUSY after two seconds, or where it is mapped for writing. */
int memfd_seal_final(int fd);

/* Whether anybody else has a description of it open or mapped. `fd` must be O_RDONLY, and no other description of it
 * may be open here. What cannot be told is not held. */
bool memfd_is_held(int fd);

/* Makes a memfd with these bytes in it, fully sealed: the fd (O_RDWR description), or -errno. */
int memfd_from_bytes(const char *name, const void *data, size_t bytes);
