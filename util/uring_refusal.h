/* util/uring_refusal.h: why io_uring is refused, in the words of what refuses it. */
#pragma once

#include <stddef.h>

/* What to do about an error of io_uring_setup(2) that refuses a ring for good; NULL where it does not say so, but that
 * something has run out (ENOMEM, EMFILE, ENFILE). `root` goes before the path of the sysctl. Returns buffer. */
const char *uring_refusal(const char *root, int sys_errno, char *buffer, size_t size);
