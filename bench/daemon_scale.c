/* bench/daemon_scale.c: a daemon that holds thousands of artifacts for a thousand clients.
 *
 * Two daemons stand side by side: one holds one artifact and has one client, the other is full. What is asked of both
 * in turn is the same: attach an artifact of two small files, request to mapped. The first daemon is measured twice in
 * each round, as the A/A control.
 *
 * How many artifacts fit is a matter of open files: an artifact takes one descriptor a file and one for its index. The
 * row says how many they were.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define ARTIFACTS_MOST 10000u
#define ARTIFACTS_LEAST 5000u
#define CLIENTS 1000u
#define DESCRIPTORS_EACH 3u      /* two files and the index */
#define DESCRIPTORS_BESIDE 3000u /* clients, spares, the loads under way */
#define ATTACHES 400
#define AT_ONCE 16u

struct scale_bench {
    const struct bench_options *options;
    char folder[4096], small_home[4096];
    unsigned artifacts, clients;
    struct bench_daemon full, one;
    struct hearth **idle; /* the full daemon's clients, who do nothing */
    struct hearth *client, *of_one;
    uint64_t *ids, id_of_one;
    unsigned loaded, failed, under_way;
    struct hearth_error why;
};

/* A small artifact: a safetensors file of one tensor, and a configuration. */
static int make_small(const char *folder, unsigned n) {
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[0,64]}}    ";
    char path[4200], body[8 + sizeof(header) - 1 + 64] = {0};
    body[0] = sizeof(header) - 1;
    memcpy(body + 8, header, sizeof(header) - 1);
    memcpy(body + 8 + sizeof(header) - 1, &n, sizeof(n));
    if (mkdir(folder, 0755) < 0)
        return bench_fail(folder, strerror(errno));
    for (int file = 0; file < 2; file++) {
        snprintf(path, sizeof(path), "%s/%s", folder, file ? "config.json" : "model.safetensors");
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        ssize_t length = file ? 2 : (ssize_t)sizeof(body);
        if (fd < 0 || write(fd, file ? "{}" : body, (size_t)length) != length)
            return bench_fail(path, strerror(errno));
    }
    return 0;
}

static void on_loaded(void *user, const struct hearth_info *info, const struct hearth_error *err) {
    struct scale_bench *b = user;
    b->under_way--;
    if (err) {
        b->failed++;
        b->why = *err;
    } else {
        b->ids[b->loaded++] = info->id;
    }
}

/* Some at once: one after another would be a wait for each parser. */
static int load_all(struct scale_bench *b) {
    char path[4160];
    struct hearth_error err;
    for (unsigned i = 0; i < b->artifacts && !b->failed; i++) {
        snprintf(path, sizeof(path), "%s/%05u", b->folder, i);
        if (make_small(path, i) < 0)
            return -1;
        while (b->under_way >= AT_ONCE) {
            struct hearth_status status; /* any call that waits runs the callbacks */
            if (hearth_get_status(b->client, hearth_deadline_in(60000), &status, &err))
                return bench_fail("hearthd", err.message);
        }
        if (hearth_load_start(b->client, path, NULL, on_loaded, b, &err))
            return bench_fail(path, err.message);
        b->under_way++;
    }
    while (b->under_way && !b->failed) {
        struct hearth_status status;
        if (hearth_get_status(b->client, hearth_deadline_in(60000), &status, &err))
            return bench_fail("hearthd", err.message);
    }
    return b->failed ? bench_fail(b->why.file[0] ? b->why.file : b->folder, b->why.message) : 0;
}

static double one_attach(struct hearth *h, uint64_t id) {
    struct hearth_artifact *a = NULL;
    const void *at;
    uint64_t begin = clock_now();
    int r = hearth_attach(h, id, HEARTH_NO_DEADLINE, &a, NULL);
    for (unsigned i = 0; r == 0 && i < 2; i++)
        r = hearth_file_map(a, i, HEARTH_NO_DEADLINE, &at, NULL);
    double us = (double)(clock_now() - begin) / 1e3;
    hearth_release(a);
    struct hearth_status status; /* the lease's return is finished outside the clock */
    if (r == 0)
        r = hearth_get_status(h, HEARTH_NO_DEADLINE, &status, NULL);
    return r == 0 ? us : -1;
}

static int run_many(struct hearth *h, const uint64_t *ids, unsigned n, struct samples *p50) {
    double us[ATTACHES];
    static uint64_t noise = UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < ATTACHES; i++) {
        noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
        if ((us[i] = one_attach(h, ids[noise % n])) < 0)
            return bench_fail("attach", "failed");
    }
    p50->at[p50->n++] = quantile(us, ATTACHES, 0.5);
    return 0;
}

static int connect_all(struct scale_bench *b) {
    struct hearth_error err;
    for (; b->clients < CLIENTS - 1; b->clients++)
        if (hearth_connect(b->full.socket, hearth_deadline_in(10000), &b->idle[b->clients], &err))
            return bench_fail("a client", err.message);
    return 0;
}

static int setup(struct scale_bench *b) {
    const struct bench_options *o = b->options;
    char path[4160];
    struct hearth_error err;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/many", o->place);
    snprintf(b->small_home, sizeof(b->small_home), "%.4000s/one", o->place);
    b->ids = calloc(b->artifacts, sizeof(*b->ids));
    b->idle = calloc(CLIENTS, sizeof(struct hearth *));
    if (!b->ids || !b->idle)
        return bench_fail("daemon", strerror(ENOMEM));
    if (mkdir(b->folder, 0755) < 0 || mkdir(b->small_home, 0755) < 0)
        return bench_fail(b->folder, strerror(errno));
    if (daemon_start(&b->full, o->bin_dir, o->place, 0, NULL) < 0 ||
        daemon_start(&b->one, o->bin_dir, b->small_home, 0, NULL) < 0)
        return -1;
    if (hearth_connect(b->full.socket, hearth_deadline_in(5000), &b->client, &err) ||
        hearth_connect(b->one.socket, hearth_deadline_in(5000), &b->of_one, &err))
        return bench_fail("hearthd", err.message);
    uint64_t begin = clock_now();
    if (load_all(b) < 0)
        return -1;
    printf("%u artifacts of 2 small files loaded in %.1f s\n", b->loaded, (double)(clock_now() - begin) / 1e9);
    snprintf(path, sizeof(path), "%s/%05u", b->folder, 0);
    b->id_of_one = load_artifact(b->of_one, path, HEARTH_VERIFY_XXH3);
    return b->id_of_one ? connect_all(b) : -1;
}

static int measure(struct scale_bench *b, struct bench_rows *rows) {
    static struct samples one, again, full;
    if (place(0, 0) < 0 || place(b->full.pid, 0) < 0 || place(b->one.pid, 0) < 0)
        return bench_fail("placing processes", strerror(errno));
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        if (run_many(b->of_one, &b->id_of_one, 1, &one) < 0 || run_many(b->client, b->ids, b->loaded, &full) < 0 ||
            run_many(b->of_one, &b->id_of_one, 1, &again) < 0)
            return -1;
        r.decided = spread_decides(ratio_spread(&again, &one), 2, "");
    }
    place(0, -1);
    struct bench_row *r = bench_row_add(rows, "many artifacts and clients: attach p50 / that of one", "", 2, 1.2);
    r->value = ratio_median(&full, &one);
    r->spread = ratio_spread(&again, &one);
    snprintf(r->note, sizeof(r->note), "%u artifacts, %u clients: %.1f us; one: %.1f us", b->loaded, b->clients + 1,
             samples_median(&full), samples_median(&one));
    double first = (double)smaps_rollup(b->full.pid, "Pss_Anon"), base = (double)smaps_rollup(b->one.pid, "Pss_Anon");
    double second = (double)smaps_rollup(b->full.pid, "Pss_Anon");
    r = bench_row_add(rows, "many artifacts and clients: Pss_Anon an artifact", "KiB", 4, 2);
    r->value = (first - base) / b->loaded / 1024;
    r->spread = (second > first ? second - first : first - second) / b->loaded / 1024;
    snprintf(r->note, sizeof(r->note), "%.1f MiB in all, clients included; with one artifact %.1f", first / (1 << 20),
             base / (1 << 20));
    return 0;
}

static void remove_all(struct scale_bench *b) {
    char path[4160];
    for (unsigned i = 0; i < b->artifacts; i++) {
        snprintf(path, sizeof(path), "%s/%05u", b->folder, i);
        remove_artifact(path);
    }
    rmdir(b->folder);
    remove_artifact(b->small_home);
}

int daemon_scale(const struct bench_options *o, struct bench_rows *rows) {
    struct scale_bench b = {.options = o, .artifacts = ARTIFACTS_MOST};
    struct rlimit files = {0};
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return bench_fail("getrlimit", strerror(errno));
    uint64_t room = files.rlim_max > DESCRIPTORS_BESIDE ? (files.rlim_max - DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH : 0;
    if (room < b.artifacts)
        b.artifacts = ARTIFACTS_LEAST;
    if (room < b.artifacts) {
        struct bench_row *r = bench_row_add(rows, "many artifacts and clients: attach p50 / that of one", "", 2, 1.2);
        r->applies = false;
        snprintf(r->note, sizeof(r->note), "the hard limit of open files is %llu: room for %llu artifacts",
                 (unsigned long long)files.rlim_max, (unsigned long long)room);
        return 0;
    }
    files.rlim_cur = files.rlim_max; /* this program's clients are descriptors too */
    setrlimit(RLIMIT_NOFILE, &files);
    printf("%u artifacts, %u clients\n", b.artifacts, CLIENTS);
    int r = setup(&b);
    r = r ? r : measure(&b, rows);
    for (unsigned i = 0; i < b.clients; i++)
        hearth_close(b.idle[i]);
    hearth_close(b.client);
    hearth_close(b.of_one);
    daemon_stop(&b.full);
    daemon_stop(&b.one);
    remove_all(&b);
    free(b.idle);
    free(b.ids);
    return r;
}
