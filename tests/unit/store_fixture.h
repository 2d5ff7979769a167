/* Included by the tests of daemon/store: a store in a directory of its own, and the loop that it answers on. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/store.h"
#include "daemon/store_job.h"
#include "util/cleanup.h"
#include "util/log.h"

static struct loop *loop;
static char directory[64];

static inline int make(void **state) {
    (void)state;
    log_init("test", LOG_ERROR);
    strcpy(directory, "/tmp/hearth-test-store-XXXXXX");
    return mkdtemp(directory) ? loop_new(&loop, NULL) : -1;
}

static inline int unmake(void **state) {
    char command[128];
    (void)state;
    loop_free(loop);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static inline struct store *open_at(const char *path) {
    struct store *s;
    assert_int_equal(store_new(loop, path, &s, NULL), 0);
    return s;
}

static inline struct load_spec spec_of(const char *ref) {
    return (struct load_spec){.ref = (char *)(uintptr_t)ref, .verify = HEARTH_VERIFY_REMEMBERED};
}

/* ---- pins, and with them that a store works ---- */

static char found[1024];

static inline void take_pins(void *user, const struct store_pin *pins, size_t n) {
    (void)user;
    found[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct load_spec *s = pins[i].spec;
        char *end = found + strlen(found);
        snprintf(end, sizeof(found) - (size_t)(end - found), "%s=%s,%d,%zu,%zu,%zu;", pins[i].ref, s->ref,
                 (int)s->verify, s->n_include, s->n_exclude, s->n_digests);
    }
    loop_quit(loop);
}

static inline const char *pins_of(struct store *s) {
    assert_int_equal(store_pins_load(s, take_pins, NULL), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
    return found;
}

static inline const char *health_of(struct store *s) {
    static char text[512];
    store_describe(s, text, sizeof(text));
    return text;
}

/* ---- records ---- */

static struct record *known;

static inline void take_records(void *user, struct record *records) {
    (void)user;
    known = records;
    loop_quit(loop);
}

static inline struct artifact_file file_of(uint64_t inode, uint64_t bytes, int64_t ctime) {
    return (struct artifact_file){
        .identity = {.device = 7, .inode = inode, .bytes = bytes, .mtime_ns = 1, .ctime_ns = ctime}};
}

static inline void find(struct store *s, const struct artifact_file *files, size_t n) {
    struct store_lookup *l;
    known = NULL;
    assert_int_equal(store_records_find(s, files, n, take_records, NULL, &l), 0);
    assert_int_equal(loop_run(loop, NULL, NULL, NULL), 0);
}

static inline void put(struct store *s, const struct artifact_file *f, uint64_t hash, const char *sha256) {
    struct record *r = calloc(1, sizeof(*r));
    *r = (struct record){.identity = f->identity, .has_sha256 = sha256 != NULL};
    r->n_chunks = record_chunks(f->identity.bytes);
    r->chunks = calloc(r->n_chunks + 1, sizeof(*r->chunks));
    for (uint32_t i = 0; i < r->n_chunks; i++)
        r->chunks[i] = (struct chunk_hash){hash + i, ~hash};
    if (sha256)
        memset(r->sha256, sha256[0], sizeof(r->sha256));
    store_records_put(s, r, 1);
}
