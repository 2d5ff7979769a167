/* How many descriptors this process has open: a test counts before and after, and so finds a leak. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>

static inline size_t directory_entries(const char *path) {
    DIR *d = opendir(path);
    assert_non_null(d);
    size_t n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static inline size_t open_fds(void) {
    return directory_entries("/proc/self/fd");
}
