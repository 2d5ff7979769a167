/* bench/daemon_pressure.c: reading resident weights while memory is short.
 *
 * A worker has a resident artifact mapped and reads every byte of it, over and over: in quiet, then with a ballast that
 * takes nearly all memory there is, while a file is read through what is left of the page cache; then in quiet again,
 * which is the control. Weights that reclaim could take would be read from the disk, or from swap. Nothing is
 * interleaved here: supplying the ballast takes longer than all that is measured.
 *
 * With swap the same is measured a second time, where the program may make some (as root) or finds some.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define ARTIFACT_BYTES (UINT64_C(1) << 30)
#define SWAP_BYTES (UINT64_C(2) << 30)
#define LEFT_BYTES (UINT64_C(384) << 20) /* what the ballast leaves */
#define NEARLY (UINT64_C(16) << 20)
#define READS 15
#define PIECE ((size_t)4 << 20)
#define CHURN_US 4000

struct pressure_bench {
    const struct bench_options *options;
    char folder[4096], other[4096], swap[4096];
    struct bench_daemon daemon;
    struct hearth *client;
    struct hearth_artifact *artifact;
    bool swapping;
    pid_t ballast;
    atomic_bool churn_stop;
    pthread_t churn;
};

static uint64_t meminfo(const char *key) {
    _cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib;
    size_t n = strlen(key);
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, key, n) == 0 && line[n] == ':' && sscanf(line + n + 1, "%llu", &kib) == 1)
            return kib * 1024;
    return 0;
}

/* Seconds to read every byte of every weight file through the mappings that a worker has. */
static double read_weights(struct pressure_bench *b) {
    static volatile uint64_t sink;
    uint64_t sum = 0, begin = clock_now();
    for (size_t i = 0; i < hearth_file_count(b->artifact); i++) {
        struct hearth_file file;
        const void *at;
        if (hearth_file_at(b->artifact, i, &file, NULL) ||
            hearth_file_map(b->artifact, i, HEARTH_NO_DEADLINE, &at, NULL))
            return -1;
        for (uint64_t k = 0; k + 8 <= file.bytes; k += 8)
            sum += *(const uint64_t *)((const char *)at + k);
    }
    sink = sum;
    (void)sink;
    return (double)(clock_now() - begin) / 1e9;
}

static int read_many(struct pressure_bench *b, struct samples *s) {
    for (s->n = 0; s->n < READS; s->n++)
        if ((s->at[s->n] = read_weights(b)) < 0)
            return bench_fail(b->folder, "the artifact cannot be mapped");
    return 0;
}

/* Reads a file through the page cache, over and over: it wants more of the cache than there is. It goes at the pace of
 * a disk, so that it is memory that is short, and not CPU time. */
static void *churn(void *user) {
    struct pressure_bench *b = user;
    _cleanup_free_ char *buffer = malloc(PIECE);
    char path[4200];
    snprintf(path, sizeof(path), "%s/model.safetensors", b->other);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (buffer && fd >= 0 && !atomic_load(&b->churn_stop))
        if (read(fd, buffer, PIECE) <= 0)
            lseek(fd, 0, SEEK_SET);
        else
            usleep(CHURN_US);
    return NULL;
}

/* A process of its own, and the first to go should memory run out. */
static int ballast_start(struct pressure_bench *b) {
    int ready[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) < 0 || (b->ballast = fork()) < 0)
        return bench_fail("ballast", strerror(errno));
    if (b->ballast == 0) {
        FILE *f = fopen("/proc/self/oom_score_adj", "we");
        if (f) {
            fputs("1000", f);
            fclose(f);
        }
        uint64_t beyond = meminfo("SwapFree") / 2; /* has to be swapped out, its own or somebody else's */
        for (uint64_t available; (available = meminfo("MemAvailable")) > LEFT_BYTES + NEARLY || beyond > 0;) {
            uint64_t bytes = available > LEFT_BYTES + NEARLY ? available - LEFT_BYTES : beyond;
            if (available <= LEFT_BYTES + NEARLY)
                beyond -= beyond < UINT64_C(256) << 20 ? beyond : UINT64_C(256) << 20;
            bytes = bytes > UINT64_C(256) << 20 ? UINT64_C(256) << 20 : bytes;
            char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            if (at == MAP_FAILED)
                break;
            for (uint64_t i = 0; i < bytes; i += 512) /* nothing that could be shared or compressed away */
                *(uint64_t *)(at + i) = (uint64_t)(uintptr_t)at * 0x9e3779b97f4a7c15 + i;
        }
        if (write(ready[1], "r", 1) == 1)
            pause();
        _exit(0);
    }
    close(ready[1]);
    ssize_t n = read(ready[0], &byte, 1);
    close(ready[0]);
    return n == 1 ? 0 : bench_fail("ballast", "it was killed");
}

static void pressure_end(struct pressure_bench *b) {
    atomic_store(&b->churn_stop, true);
    if (b->churn)
        pthread_join(b->churn, NULL);
    b->churn = 0;
    if (b->ballast > 0) {
        kill(b->ballast, SIGKILL);
        waitpid(b->ballast, NULL, 0);
    }
    b->ballast = 0;
}

static int measure(struct pressure_bench *b, const char *name, struct bench_rows *rows) {
    static struct samples quiet, pressed, again;
    if (read_weights(b) < 0 || read_many(b, &quiet) < 0 || ballast_start(b) < 0)
        return -1;
    atomic_store(&b->churn_stop, false);
    int r = pthread_create(&b->churn, NULL, churn, b);
    if (r)
        return bench_fail("pthread_create", strerror(r));
    sleep(1);
    uint64_t left = meminfo("MemAvailable"), free_bytes = meminfo("MemFree");
    r = read_many(b, &pressed);
    uint64_t swapped = meminfo("SwapTotal") - meminfo("SwapFree");
    bool alive = waitpid(b->ballast, NULL, WNOHANG) == 0;
    pressure_end(b);
    if (r < 0 || read_many(b, &again) < 0)
        return -1;
    struct bench_row *row = bench_row_add(rows, name, "", 1.2, 1.05);
    row->value = ratio_median(&pressed, &quiet);
    row->spread = ratio_spread(&again, &quiet);
    row->applies = alive;
    snprintf(row->note, sizeof(row->note), "%.3f s against %.3f; %llu MiB available, %llu free, %llu MiB in swap%s",
             samples_median(&pressed), samples_median(&quiet), (unsigned long long)left >> 20,
             (unsigned long long)free_bytes >> 20, (unsigned long long)swapped >> 20,
             alive ? "" : "; the ballast was killed");
    return 0;
}

/* True with swap in use, made here or found. */
static bool swap_begin(struct pressure_bench *b, char *why, size_t size) {
    if (meminfo("SwapTotal") > 0)
        return true;
    snprintf(b->swap, sizeof(b->swap), "%.4000s/swap", b->options->place);
    char command[4200];
    snprintf(command, sizeof(command), "mkswap '%s' >/dev/null 2>&1", b->swap);
    _cleanup_close_ int fd = open(b->swap, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool made = fd >= 0 && posix_fallocate(fd, 0, (off_t)SWAP_BYTES) == 0 && system(command) == 0;
    b->swapping = made && swapon(b->swap, 0) == 0;
    if (!b->swapping)
        snprintf(why, size, "no swap here, and none could be made: %s", strerror(errno));
    return b->swapping;
}

static int setup(struct pressure_bench *b) {
    const struct bench_options *o = b->options;
    struct hearth_error err;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/pressed", o->place);
    snprintf(b->other, sizeof(b->other), "%.4000s/other", o->place);
    if (make_artifact(b->folder, ARTIFACT_BYTES, 2) < 0 || make_artifact(b->other, ARTIFACT_BYTES, 1) < 0 ||
        daemon_start(&b->daemon, o->bin_dir, o->place, 0, NULL) < 0)
        return -1;
    if (hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->client, &err))
        return bench_fail("hearthd", err.message);
    uint64_t id = load_artifact(b->client, b->folder, HEARTH_VERIFY_XXH3);
    if (id == 0)
        return -1;
    return hearth_attach(b->client, id, HEARTH_NO_DEADLINE, &b->artifact, &err) ? bench_fail(b->folder, err.message)
                                                                                : 0;
}

int daemon_pressure(const struct bench_options *o, struct bench_rows *rows) {
    struct pressure_bench b = {.options = o};
    char why[128] = "";
    int r = setup(&b);
    r = r ? r : measure(&b, "warm reads under memory pressure / quiet", rows);
    if (r == 0) {
        if (swap_begin(&b, why, sizeof(why))) {
            r = measure(&b, "the same with swap on", rows);
        } else {
            struct bench_row *row = bench_row_add(rows, "the same with swap on", "", 1.2, 1.05);
            row->applies = false;
            snprintf(row->note, sizeof(row->note), "%s", why);
        }
    }
    pressure_end(&b);
    hearth_release(b.artifact);
    hearth_close(b.client);
    daemon_stop(&b.daemon);
    if (b.swapping)
        swapoff(b.swap);
    if (b.swap[0])
        unlink(b.swap);
    remove_artifact(b.folder);
    remove_artifact(b.other);
    return r;
}
