/* A recorded /proc and /sys in a temporary directory: `root` goes before every path that the code under test reads. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

static int tree_setup(void **state) {
    (void)state;
    snprintf(root, sizeof(root), "/tmp/hearth-recorded-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tree_teardown(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

/* Writes a file of the tree, directories included. */
static inline void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}
