/* bench/core_load.c: cold loads against raw reads.
 *
 * One round runs every contender once, each round in another order: raw reads twice (the second is the A/A control),
 * and loads with nothing verified, with XXH3, and with SHA-256. A load is timed from the request to the attach reply,
 * by a client of a real daemon. Raw reads go into memory of the same kind, populated beforehand. The daemon's pages
 * come from its reserve, as large as the artifact; so what it takes to give that up is part of a load.
 *
 * The costs that a load cannot avoid are measured alone in the same round, for the row of CPU time: raw reads,
 * populating, one pass of XXH3.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <hearth/hearth.h>

#include "bench/core.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SHARDS 4
#define BLOCK (UINT64_C(4) << 20)
#define DEPTH 8

enum contender { RAW, RAW_AGAIN, LOAD_NONE, LOAD_XXH3, LOAD_SHA256, CONTENDERS };
static const char *const contender_names[] = {"raw", "raw again", "load, none", "load, xxh3", "load, sha256"};

struct load_bench {
    const struct bench_options *options;
    char folder[4096], paths[SHARDS][4160];
    uint64_t file_bytes[SHARDS];
    struct bench_daemon daemon;
    struct hearth *client;
    struct memory raw;
    struct hold hold;
    struct samples seconds[CONTENDERS], cpu[CONTENDERS], populate_cpu, hash_cpu, hash_seconds, sha256_seconds;
};

static double thread_cpu_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(struct samples *s, double v) {
    if (s->n < ROUNDS_MAX)
        s->at[s->n++] = v;
}

static int run_raw(struct load_bench *b, enum contender c) {
    int fds[SHARDS];
    double cpu = thread_cpu_now();
    uint64_t begin = clock_now();
    for (int i = 0; i < SHARDS; i++)
        fds[i] = open(b->paths[i], O_RDONLY | O_CLOEXEC | O_DIRECT);
    int64_t n = raw_read(fds, b->file_bytes, SHARDS, b->raw.at, BLOCK, DEPTH);
    for (int i = 0; i < SHARDS; i++)
        close_fd(fds[i]);
    add(&b->seconds[c], (double)(clock_now() - begin) / 1e9);
    add(&b->cpu[c], thread_cpu_now() - cpu);
    return n < 0 ? bench_fail(b->folder, strerror((int)-n)) : 0;
}

static int run_load(struct load_bench *b, enum contender c) {
    static const enum hearth_verify verify[] = {
        [LOAD_NONE] = HEARTH_VERIFY_NONE, [LOAD_XXH3] = HEARTH_VERIFY_XXH3, [LOAD_SHA256] = HEARTH_VERIFY_ALWAYS};
    struct hearth_artifact *a = NULL;
    struct hearth_error err = {.code = HEARTH_OK};
    uint64_t cpu = cpu_ns_of(b->daemon.pid), begin = clock_now();
    uint64_t id = load_artifact(b->client, b->folder, (int)verify[c]);
    int failed = id == 0 || hearth_attach(b->client, id, HEARTH_NO_DEADLINE, &a, &err);
    add(&b->seconds[c], (double)(clock_now() - begin) / 1e9);
    add(&b->cpu[c], (double)(cpu_ns_of(b->daemon.pid) - cpu) / 1e9);
    hearth_release(a);
    if (!failed)
        failed = hearth_evict(b->client, id, true, hearth_deadline_in(10000), &err);
    return failed ? bench_fail(b->folder, err.code ? err.message : "load failed") : 0;
}

#define SHA256_THREADS_MAX 64
struct sha256_part {
    pthread_t thread;
    const char *at;
    uint64_t bytes;
};

static void *sha256_part(void *user) {
    struct sha256_part *p = user;
    unsigned char digest[32];
    return EVP_Digest(p->at, p->bytes, digest, NULL, EVP_sha256(), NULL) == 1 ? p : NULL;
}

/* Seconds that all cores together take for SHA-256 of the artifact's bytes. Cores that share their units are not worth
 * twice one: so this is measured, not multiplied. */
static double sha256_all_cores(const struct load_bench *b) {
    struct sha256_part parts[SHA256_THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cores < 1 ? 1 : cores > SHA256_THREADS_MAX ? SHA256_THREADS_MAX : (size_t)cores;
    uint64_t begin = clock_now(), each = b->options->bytes / n;
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        parts[i] = (struct sha256_part){.at = b->raw.at + i * each, .bytes = each};
        if (pthread_create(&parts[i].thread, NULL, sha256_part, &parts[i]) != 0)
            return NAN;
    }
    for (size_t i = 0; i < n; i++) {
        void *result = NULL;
        good &= pthread_join(parts[i].thread, &result) == 0 && result;
    }
    return good ? (double)(clock_now() - begin) / 1e9 : NAN;
}

/* What a load cannot avoid, each alone: populating memory of the same kind and one pass of XXH3 over it. */
static int run_alone(struct load_bench *b) {
    struct memory m = {.fd = -1};
    uint64_t bytes = b->options->bytes < UINT64_C(1) << 30 ? b->options->bytes : UINT64_C(1) << 30;
    int r = hold_prime(&b->hold, bytes);
    double cpu = thread_cpu_now();
    r = r < 0 ? r : memory_new(&m, bytes, b->raw.huge, &b->hold);
    if (r < 0)
        return bench_fail("populating", strerror(-r));
    add(&b->populate_cpu, (thread_cpu_now() - cpu) * ((double)b->options->bytes / (double)bytes));
    memory_drop(&m);
    volatile uint64_t sum = 0;
    uint64_t begin = clock_now();
    cpu = thread_cpu_now();
    for (uint64_t at = 0; at < b->raw.bytes; at += BLOCK)
#if defined(__x86_64__)
        sum = sum + XXH3_128bits_dispatch(b->raw.at + at, b->raw.bytes - at < BLOCK ? b->raw.bytes - at : BLOCK).low64;
#else
        sum = sum + XXH3_128bits(b->raw.at + at, b->raw.bytes - at < BLOCK ? b->raw.bytes - at : BLOCK).low64;
#endif
    add(&b->hash_cpu, thread_cpu_now() - cpu);
    add(&b->hash_seconds, (double)(clock_now() - begin) / 1e9);
    add(&b->sha256_seconds, sha256_all_cores(b));
    return 0;
}

static int setup(struct load_bench *b) {
    const struct bench_options *o = b->options;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/cold", o->place);
    if (make_artifact(b->folder, o->bytes, SHARDS) < 0)
        return -1;
    for (int i = 0; i < SHARDS; i++) {
        struct stat st;
        snprintf(b->paths[i], sizeof(b->paths[i]), "%s/model-%05d-of-%05d.safetensors", b->folder, i + 1, SHARDS);
        if (stat(b->paths[i], &st) < 0)
            return bench_fail(b->paths[i], strerror(errno));
        b->file_bytes[i] = (uint64_t)st.st_size;
    }
    fio_beside(b->paths, SHARDS);
    if (daemon_start(&b->daemon, o->bin_dir, o->place, o->bytes, NULL) < 0)
        return -1;
    struct hearth_error err;
    struct hearth_status status;
    if (hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->client, &err) ||
        hearth_get_status(b->client, hearth_deadline_in(5000), &status, &err))
        return bench_fail("hearthd", err.message);
    printf("reader: %s; backing: %s\n", status.reader, status.backing);
    uint64_t page = huge_page_bytes(), most = o->bytes + SHARDS * (UINT64_C(4) << 20);
    int r = memory_new(&b->raw, most, page != 0 && strstr(status.backing, "huge"), NULL);
    return r < 0 ? bench_fail("memory", strerror(-r)) : 0;
}

static double spread_of(const struct load_bench *b) {
    return ratio_spread(&b->seconds[RAW_AGAIN], &b->seconds[RAW]);
}

static int rounds(struct load_bench *b) {
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        for (size_t i = 0; i < CONTENDERS; i++) {
            enum contender c = (enum contender)((i + r.n) % CONTENDERS);
            if (daemon_prime(b->client) < 0 || (c <= RAW_AGAIN ? run_raw(b, c) : run_load(b, c)) < 0)
                return -1;
        }
        if (daemon_prime(b->client) < 0 || run_alone(b) < 0)
            return -1;
        printf("round %2zu:", r.n + 1);
        for (size_t c = 0; c < CONTENDERS; c++)
            printf("  %s %.3f s", contender_names[c], b->seconds[c].at[r.n]);
        printf("\n");
        fflush(stdout);
        double spread = spread_of(b);
        r.decided = spread_decides(spread, 0.95, "") && spread_decides(spread, 1.05, "");
    }
    return 0;
}

static void report(struct load_bench *b, struct bench_rows *rows) {
    double spread = spread_of(b), gb = (double)b->options->bytes / 1e9;
    printf("A/A: raw again / raw %.4f, spread %.4f over %zu rounds\n",
           ratio_median(&b->seconds[RAW_AGAIN], &b->seconds[RAW]), spread, b->seconds[RAW].n);
    double disk = gb / samples_median(&b->seconds[RAW]), hash = gb / samples_median(&b->hash_seconds);
    struct bench_row *r = bench_row_add(rows, "cold load with XXH3, rate / raw reads", "", 0.95, 0.97);
    r->at_least = true;
    r->value = ratio_median(&b->seconds[RAW], &b->seconds[LOAD_XXH3]);
    r->spread = spread;
    snprintf(r->note, sizeof(r->note), "%.2f GB/s of %.2f", gb / samples_median(&b->seconds[LOAD_XXH3]), disk);

    r = bench_row_add(rows, "XXH3 on / off, time", "", 1.05, 1.02);
    r->value = ratio_median(&b->seconds[LOAD_XXH3], &b->seconds[LOAD_NONE]);
    r->spread = spread;

    /* Proving shards at the disk's rate takes that rate from all cores together. */
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    double sha256 = gb / samples_median(&b->sha256_seconds);
    printf("rates: XXH3 on one core %.1f GB/s; SHA-256 on all %ld cores %.2f GB/s; disk %.2f GB/s\n", hash, cores,
           sha256, disk);
    r = bench_row_add(rows, "SHA-256 of shards / off, time", "", 1.15, 1.10);
    r->value = ratio_median(&b->seconds[LOAD_SHA256], &b->seconds[LOAD_NONE]);
    r->spread = spread;
    r->applies = SHARDS >= 2 * cores && sha256 >= disk;
    snprintf(r->note, sizeof(r->note), "%d shards, %ld cores, SHA-256 %.2f GB/s on all of them, disk %.2f GB/s", SHARDS,
             cores, sha256, disk);

    struct samples needed = {.n = b->cpu[RAW].n};
    for (size_t i = 0; i < needed.n; i++)
        needed.at[i] = b->cpu[RAW].at[i] + b->populate_cpu.at[i] + b->hash_cpu.at[i];
    r = bench_row_add(rows, "CPU s/GB, XXH3 / (raw + populate + hash, alone)", "", 1.3, 1.1);
    r->value = ratio_median(&b->cpu[LOAD_XXH3], &needed);
    r->spread = ratio_spread(&b->cpu[LOAD_XXH3], &needed);
    snprintf(r->note, sizeof(r->note), "%.3f s/GB; alone: raw %.3f, populate %.3f, hash %.3f",
             samples_median(&b->cpu[LOAD_XXH3]) / gb, samples_median(&b->cpu[RAW]) / gb,
             samples_median(&b->populate_cpu) / gb, samples_median(&b->hash_cpu) / gb);
}

int core_load(const struct bench_options *o, struct bench_rows *rows) {
    struct load_bench *b = calloc(1, sizeof(*b));
    if (!b)
        return bench_fail("core", strerror(ENOMEM));
    b->options = o;
    b->raw.fd = -1;
    printf("cold loads: %.1f GiB in %d shards\n", (double)o->bytes / (1 << 30), SHARDS);
    int r = setup(b);
    if (r == 0)
        r = rounds(b);
    if (r == 0)
        report(b, rows);
    hearth_close(b->client);
    daemon_stop(&b->daemon);
    memory_drop(&b->raw);
    hold_drop(&b->hold);
    remove_artifact(b->folder);
    free(b);
    return r;
}
