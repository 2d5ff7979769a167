/* What the loader's tests share: an artifact in a temporary directory, a parser that runs in this process (each test
 * defines parse_isolated() by including this file, which keeps the real one out of the program), and a load that is
 * waited for. Every test ends by counting descriptors, threads and mappings. */
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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "open_fds.h"

#include "artifact/artifact.h"
#include "artifact/parse.h"
#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/kernel.h"
#include "util/memfd.h"

/* What the parser does before it writes its index; set by a test. */
static int (*on_parse)(const struct parse_request *request, struct hearth_error *err);

int parse_isolated(const struct parse_request *request, int *index_fd, struct hearth_error *err) {
    if (on_parse) {
        int r = on_parse(request, err);
        if (r)
            return r;
    }
    const struct artifact *a = request->artifact;
    size_t strings = 0;
    for (size_t i = 0; i < a->n_files; i++)
        strings += strlen(a->files[i].path) + 1;
    struct hearth_index_header h = {.version = HEARTH_INDEX_VERSION, .header_bytes = sizeof(h), .bytes = a->bytes};
    memcpy(h.magic, HEARTH_INDEX_MAGIC, sizeof(h.magic));
    h.files = (struct hearth_index_table){sizeof(h), a->n_files};
    h.strings = (struct hearth_index_table){sizeof(h) + a->n_files * sizeof(struct hearth_index_file), strings};
    h.total_bytes = h.strings.offset + strings;
    uint8_t *index = calloc(1, h.total_bytes);
    assert_non_null(index);
    memcpy(index, &h, sizeof(h));
    struct hearth_index_file *files = (struct hearth_index_file *)(index + h.files.offset);
    uint32_t at = 0;
    for (size_t i = 0; i < a->n_files; i++) {
        uint32_t length = (uint32_t)strlen(a->files[i].path);
        files[i].path = (struct hearth_str){at, length};
        files[i].bytes = a->files[i].identity.bytes;
        memcpy(index + h.strings.offset + at, a->files[i].path, length);
        at += length + 1;
    }
    *index_fd = memfd_new("index", h.total_bytes, 0);
    assert_true(*index_fd >= 0);
    assert_int_equal(pwrite(*index_fd, index, h.total_bytes, 0), h.total_bytes);
    free(index);
    return 0;
}

/* ---- files ---- */

static char test_dir[64];

/* Bytes that differ everywhere, so that a piece in the wrong place is seen. */
__attribute__((no_sanitize_thread, no_sanitize_address)) static void fill(uint8_t *to, uint64_t bytes, uint64_t seed) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (uint64_t i = 0; i < bytes; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        to[i] = (uint8_t)(x >> 56);
    }
}

static void test_path(const char *name, char *out, size_t size) {
    assert_true(snprintf(out, size, "%s/%s", test_dir, name) < (int)size);
}

static void put_file(const char *name, uint64_t bytes, uint64_t seed) {
    char path[256];
    test_path(name, path, sizeof(path));
    uint8_t *data = malloc(bytes + 1);
    assert_non_null(data);
    fill(data, bytes, seed);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    assert_int_equal(fsync(fd), 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    free(data);
}

static struct artifact *resolve(const struct artifact_digest *digests, size_t n, uint32_t policy) {
    struct artifact *a;
    struct hearth_error err = HEARTH_ERROR_INIT;
    const struct artifact_request q = {.ref = test_dir, .digests = digests, .n_digests = n, .policy = policy};
    if (artifact_resolve(&q, &a, &err))
        fail_msg("%s (%s)", err.message, err.file);
    return a;
}

static inline size_t file_number(const struct artifact *a, const char *name) {
    for (size_t i = 0; i < a->n_files; i++)
        if (strcmp(a->files[i].path, name) == 0)
            return i;
    fail_msg("no file %s", name);
    return 0;
}

/* ---- loads ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};
#define WAITER_INIT \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false }

static inline void on_done(void *user, struct load *l) {
    struct waiter *w = user;
    (void)l;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static inline void wait_done(struct waiter *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static inline struct load *begin(struct engine *e, struct artifact *a, enum hearth_verify verify, struct waiter *w) {
    const struct load_request q = {.id = 7, .start_ns = 1, .artifact = a, .verify = verify, .done = on_done, .user = w};
    struct load *l;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (load_start(e, &q, &l, &err))
        fail_msg("%s", err.message);
    return l;
}

/* Takes the artifact over. Returns the load's code. */
static inline int load_once(struct engine *e, struct artifact *a, enum hearth_verify verify, struct resident **out,
                            struct hearth_error *err) {
    struct waiter w = WAITER_INIT;
    struct load *l = begin(e, a, verify, &w);
    wait_done(&w);
    error_clear(err);
    int r = load_take(l, out, err);
    load_free(l);
    return r;
}

static inline struct engine *engine(enum backing_choice backing) {
    const struct engine_options o = {.backing = backing};
    struct engine *e;
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (engine_new(&o, &e, &err))
        fail_msg("%s: %s", err.message, err.hint);
    return e;
}

/* ---- a recorded machine ---- */

/* For engine->limits_root; in a folder that is no part of an artifact. */
static char machine[96];

static inline void put_machine(uint64_t total, uint64_t available, uint64_t swap) {
    char path[160], next[160];
    snprintf(machine, sizeof(machine), "%s/.cache", test_dir);
    snprintf(path, sizeof(path), "%s/proc", machine);
    assert_true(mkdir(machine, 0755) == 0 || errno == EEXIST);
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    snprintf(path, sizeof(path), "%s/proc/meminfo", machine);
    snprintf(next, sizeof(next), "%s/proc/meminfo.next", machine); /* somebody may be reading the former one */
    FILE *f = fopen(next, "w");
    assert_non_null(f);
    fprintf(f, "MemTotal: %llu kB\nMemAvailable: %llu kB\nSwapTotal: %llu kB\n", (unsigned long long)(total / 1024),
            (unsigned long long)(available / 1024), (unsigned long long)(swap / 1024));
    fclose(f);
    assert_int_equal(rename(next, path), 0);
}

static inline struct engine *engine_on_machine(enum backing_choice backing) {
    struct engine *e = engine(backing);
    pthread_mutex_lock(&e->lock);
    e->limits_root = machine;
    pthread_mutex_unlock(&e->lock);
    return e;
}

static void remove_machine(void) {
    char path[160];
    snprintf(path, sizeof(path), "%s/.cache/proc/meminfo", test_dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/.cache/proc", test_dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/.cache", test_dir);
    rmdir(path);
}

/* ---- leaks ---- */

/* memfds of ours that are still mapped. */
static size_t mapped_blobs(void) {
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    size_t n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, "/memfd:hearth") != NULL;
    fclose(f);
    return n;
}

static size_t fds_before;

static int fixture_setup(void **state) {
    (void)state;
    on_parse = NULL;
    snprintf(test_dir, sizeof(test_dir), "/var/tmp/hearth-loader-XXXXXX");
    assert_non_null(mkdtemp(test_dir));
    fds_before = open_fds();
    return 0;
}

static int fixture_teardown(void **state) {
    (void)state;
    remove_machine();
    DIR *d = opendir(test_dir);
    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d));)
        if (x->d_name[0] != '.')
            unlinkat(dirfd(d), x->d_name, 0);
    closedir(d);
    assert_int_equal(rmdir(test_dir), 0);
    assert_int_equal(open_fds(), fds_before);
    assert_int_equal(mapped_blobs(), 0);
    return 0;
}
