/* bench/daemon_cache.c: loads of what the page cache holds all, half or none of.
 *
 * One round puts the page cache into each state and runs every contender there. The plain way to take a file from the
 * page cache is a copy on two threads into fresh memory of the same kind: each populates, reads and hashes (XXH3) one
 * chunk after the other, so that all three are done while the chunk is in the processor's cache. Of a file that is
 * cached by half it gets the other half through the page cache as well: that is "all buffered". "All direct" is a load
 * with nothing cached: direct reads gain nothing from the page cache.
 *
 * Memory is primed as in core_load.c, for both.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SHARDS 4
#define CHUNK (UINT64_C(4) << 20)
#define FRAGMENT (UINT64_C(1) << 20)
#define COPIERS 2

enum contender {
    COPY,
    COPY_AGAIN,
    LOAD_ALL,
    BUFFERED_FIRST,
    LOAD_FIRST,
    BUFFERED_PIECES,
    LOAD_PIECES,
    DIRECT,
    DIRECT_AGAIN,
    PREAD,
    CONTENDERS
};

/* What the page cache holds. */
enum cached { ALL, FIRST_HALF, PIECES, NOTHING };

static const struct {
    const char *name;
    enum cached cached;
    bool loads, by_pread;
} contenders[CONTENDERS] = {
    [COPY] = {"copy", ALL, false, false},
    [COPY_AGAIN] = {"copy again", ALL, false, false},
    [LOAD_ALL] = {"load", ALL, true, false},
    [BUFFERED_FIRST] = {"first half: buffered", FIRST_HALF, false, false},
    [LOAD_FIRST] = {"load", FIRST_HALF, true, false},
    [BUFFERED_PIECES] = {"pieces: buffered", PIECES, false, false},
    [LOAD_PIECES] = {"load", PIECES, true, false},
    [DIRECT] = {"cold: load", NOTHING, true, false},
    [DIRECT_AGAIN] = {"load again", NOTHING, true, false},
    [PREAD] = {"by pread", NOTHING, true, true},
};

struct cache_bench {
    const struct bench_options *options;
    char folder[4096], home[4096], paths[SHARDS][4160];
    int fds[SHARDS];
    uint64_t file_bytes[SHARDS];
    struct bench_daemon daemons[2]; /* the second reads by pread */
    struct hearth *clients[2];
    bool huge;
    struct hold hold;
    struct samples seconds[CONTENDERS];
};

/* ---- the page cache ---- */

static int cache_range(int fd, uint64_t from, uint64_t to) {
    static char buffer[1 << 20];
    while (from < to) {
        size_t most = to - from < sizeof(buffer) ? (size_t)(to - from) : sizeof(buffer);
        ssize_t n = pread(fd, buffer, most, (off_t)from);
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        from += (uint64_t)n;
    }
    return 0;
}

static int set_cached(struct cache_bench *b, enum cached state) {
    int r = 0;
    for (int i = 0; r == 0 && i < SHARDS; i++) {
        uint64_t bytes = b->file_bytes[i];
        /* Nothing is to come in beside what is read here. */
        (void)posix_fadvise(b->fds[i], 0, 0, state == ALL ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
        if (state == FIRST_HALF) /* of the artifact, not of each file */
            bytes = i < SHARDS / 2 ? bytes : 0;
        if (state != ALL)
            r = -posix_fadvise(b->fds[i], 0, 0, POSIX_FADV_DONTNEED);
        uint64_t step = state == PIECES ? 2 * FRAGMENT : bytes ? bytes : 1;
        for (uint64_t at = 0; r == 0 && state != NOTHING && at < bytes; at += step) {
            uint64_t end = state == PIECES ? at + FRAGMENT : bytes;
            r = cache_range(b->fds[i], at, end < bytes ? end : bytes);
        }
    }
    return r < 0 ? bench_fail("the page cache", strerror(-r)) : 0;
}

/* ---- the plain way ---- */

struct copy {
    struct cache_bench *bench;
    struct memory memory[SHARDS];
    atomic_uint_least64_t next; /* chunk, over all files */
    atomic_int error;
};

static void copy_chunk(struct copy *c, int file, uint64_t at) {
    uint64_t left = c->bench->file_bytes[file] - at, length = left < CHUNK ? left : CHUNK;
    uint64_t mapped = c->memory[file].bytes - at < CHUNK ? c->memory[file].bytes - at : CHUNK;
    int r = memory_populate(&c->memory[file], at, mapped, &c->bench->hold);
    for (uint64_t done = 0; r == 0 && done < length;) {
        ssize_t n = pread(c->bench->fds[file], c->memory[file].at + at + done, length - done, (off_t)(at + done));
        r = n <= 0 ? (n < 0 ? -errno : -ENODATA) : 0;
        done += n > 0 ? (uint64_t)n : 0;
    }
    if (r < 0) {
        atomic_store(&c->error, r);
        return;
    }
#if defined(__x86_64__)
    XXH128_hash_t h = XXH3_128bits_dispatch(c->memory[file].at + at, length);
#else
    XXH128_hash_t h = XXH3_128bits(c->memory[file].at + at, length);
#endif
    static atomic_uint_least64_t sum; /* so that it is not left out */
    atomic_fetch_xor(&sum, h.low64);
}

static void *copy_main(void *user) {
    struct copy *c = user;
    while (atomic_load(&c->error) == 0) {
        uint64_t chunk = atomic_fetch_add(&c->next, 1);
        int file = 0;
        for (; file < SHARDS; file++) {
            uint64_t chunks = (c->bench->file_bytes[file] + CHUNK - 1) / CHUNK;
            if (chunk < chunks)
                break;
            chunk -= chunks;
        }
        if (file == SHARDS)
            break;
        copy_chunk(c, file, chunk * CHUNK);
    }
    return NULL;
}

static int copy_all(struct cache_bench *b, double *seconds) {
    struct copy c = {.bench = b};
    pthread_t threads[COPIERS];
    int r = hold_prime(&b->hold, b->options->bytes + SHARDS * CHUNK);
    if (r < 0)
        return bench_fail("priming memory", strerror(-r));
    uint64_t begin = clock_now(), page = huge_page_bytes();
    unsigned started = 0;
    for (int i = 0; r == 0 && i < SHARDS; i++) {
        (void)posix_fadvise(b->fds[i], 0, 0, POSIX_FADV_NORMAL);
        uint64_t unit = b->huge ? page : (uint64_t)sysconf(_SC_PAGESIZE);
        r = memory_map(&c.memory[i], (b->file_bytes[i] + unit - 1) / unit * unit, b->huge);
    }
    while (r == 0 && started < COPIERS)
        if ((r = -pthread_create(&threads[started], NULL, copy_main, &c)) == 0)
            started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    *seconds = (double)(clock_now() - begin) / 1e9;
    for (int i = 0; i < SHARDS; i++)
        memory_drop(&c.memory[i]);
    r = r ? r : atomic_load(&c.error);
    return r < 0 ? bench_fail("copying", strerror(-r)) : 0;
}

/* ---- loads ---- */

static int load_all(struct cache_bench *b, bool by_pread, double *seconds) {
    struct hearth *client = b->clients[by_pread];
    struct hearth_artifact *a = NULL;
    struct hearth_error err = {.code = HEARTH_OK};
    uint64_t begin = clock_now();
    uint64_t id = load_artifact(client, b->folder, HEARTH_VERIFY_XXH3);
    int failed = id == 0 || hearth_attach(client, id, HEARTH_NO_DEADLINE, &a, &err);
    *seconds = (double)(clock_now() - begin) / 1e9;
    hearth_release(a);
    if (!failed)
        failed = hearth_evict(client, id, true, hearth_deadline_in(10000), &err);
    return failed ? bench_fail(b->folder, err.code ? err.message : "load failed") : 0;
}

static int run(struct cache_bench *b, enum contender c) {
    double seconds;
    int r = set_cached(b, contenders[c].cached);
    for (int i = 0; r == 0 && i < 2; i++)
        r = daemon_prime(b->clients[i]);
    if (r == 0)
        r = contenders[c].loads ? load_all(b, contenders[c].by_pread, &seconds) : copy_all(b, &seconds);
    if (r == 0 && b->seconds[c].n < ROUNDS_MAX)
        b->seconds[c].at[b->seconds[c].n++] = seconds;
    return r;
}

/* ---- the whole ---- */

static int start_daemon(struct cache_bench *b, bool by_pread) {
    struct hearth_error err;
    if (daemon_start(&b->daemons[by_pread], b->options->bin_dir, by_pread ? b->home : b->options->place,
                     b->options->bytes, by_pread ? "--reader=pread" : NULL) < 0)
        return -1;
    if (hearth_connect(b->daemons[by_pread].socket, hearth_deadline_in(5000), &b->clients[by_pread], &err))
        return bench_fail("hearthd", err.message);
    return 0;
}

static int setup(struct cache_bench *b) {
    const struct bench_options *o = b->options;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/cached", o->place);
    snprintf(b->home, sizeof(b->home), "%.4000s/pread", o->place);
    if (mkdir(b->home, 0700) < 0)
        return bench_fail(b->home, strerror(errno));
    if (make_artifact(b->folder, o->bytes, SHARDS) < 0)
        return -1;
    for (int i = 0; i < SHARDS; i++) {
        struct stat st;
        snprintf(b->paths[i], sizeof(b->paths[i]), "%s/model-%05d-of-%05d.safetensors", b->folder, i + 1, SHARDS);
        b->fds[i] = open(b->paths[i], O_RDONLY | O_CLOEXEC);
        if (b->fds[i] < 0 || fstat(b->fds[i], &st) < 0)
            return bench_fail(b->paths[i], strerror(errno));
        b->file_bytes[i] = (uint64_t)st.st_size;
    }
    struct hearth_error err;
    struct hearth_status status;
    if (start_daemon(b, false) < 0 || start_daemon(b, true) < 0)
        return -1;
    if (hearth_get_status(b->clients[0], hearth_deadline_in(5000), &status, &err))
        return bench_fail("hearthd", err.message);
    printf("reader: %s; backing: %s\n", status.reader, status.backing);
    b->huge = huge_page_bytes() != 0 && strstr(status.backing, "huge");
    return 0;
}

static double spread_cached(const struct cache_bench *b) {
    return ratio_spread(&b->seconds[COPY_AGAIN], &b->seconds[COPY]);
}

static double spread_cold(const struct cache_bench *b) {
    return ratio_spread(&b->seconds[DIRECT_AGAIN], &b->seconds[DIRECT]);
}

/* States follow each other so that little has to be read again; inside of one, contenders take turns at being first. */
static int one_round(struct cache_bench *b, size_t n) {
    for (size_t from = 0, to; from < CONTENDERS; from = to) {
        for (to = from; to < CONTENDERS && contenders[to].cached == contenders[from].cached; to++)
            ;
        for (size_t i = 0; i < to - from; i++)
            if (run(b, (enum contender)(from + (i + n) % (to - from))) < 0)
                return -1;
    }
    return 0;
}

static int rounds(struct cache_bench *b) {
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        if (one_round(b, r.n) < 0)
            return -1;
        printf("round %2zu:", r.n + 1);
        for (size_t c = 0; c < CONTENDERS; c++)
            printf("  %s %.3f s", contenders[c].name, b->seconds[c].at[r.n]);
        printf("\n");
        fflush(stdout);
        r.decided = spread_decides(spread_cached(b), 1.15, "") && spread_decides(spread_cold(b), 0.7, "") &&
                    spread_decides(spread_cold(b), 1.15, "");
    }
    return 0;
}

static void add_row(struct cache_bench *b, struct bench_rows *rows, const char *name, double required, double goal,
                    enum contender c, enum contender other, double spread) {
    struct bench_row *r = bench_row_add(rows, name, "", required, goal);
    double gb = (double)b->options->bytes / 1e9;
    r->value = ratio_median(&b->seconds[c], &b->seconds[other]);
    r->spread = spread;
    snprintf(r->note, sizeof(r->note), "%.2f GB/s against %.2f", gb / samples_median(&b->seconds[c]),
             gb / samples_median(&b->seconds[other]));
}

static void report(struct cache_bench *b, struct bench_rows *rows) {
    double cached = spread_cached(b), cold = spread_cold(b);
    printf("A/A: copy again / copy %.4f, spread %.4f; cold again / cold %.4f, spread %.4f; %zu rounds\n",
           ratio_median(&b->seconds[COPY_AGAIN], &b->seconds[COPY]), cached,
           ratio_median(&b->seconds[DIRECT_AGAIN], &b->seconds[DIRECT]), cold, b->seconds[COPY].n);
    add_row(b, rows, "all in the page cache: load / copy on two threads, time", 1.15, 1.0, LOAD_ALL, COPY, cached);
    add_row(b, rows, "first half in the page cache: load / all direct, time", 0.7, 0.5, LOAD_FIRST, DIRECT, cold);
    add_row(b, rows, "first half in the page cache: load / all buffered", 0.7, 0.5, LOAD_FIRST, BUFFERED_FIRST, cold);
    add_row(b, rows, "every other MiB in the page cache: load / all direct", 0.7, 0.5, LOAD_PIECES, DIRECT, cold);
    add_row(b, rows, "every other MiB in the page cache: load / all buffered", 0.7, 0.5, LOAD_PIECES, BUFFERED_PIECES,
            cold);
    add_row(b, rows, "cold: pread / io_uring, time", 1.15, 1.0, PREAD, DIRECT, cold);
}

int daemon_cache(const struct bench_options *o, struct bench_rows *rows) {
    struct cache_bench *b = calloc(1, sizeof(*b));
    if (!b)
        return bench_fail("daemon", strerror(ENOMEM));
    b->options = o;
    for (int i = 0; i < SHARDS; i++)
        b->fds[i] = -1;
    printf("page cache: %.1f GiB in %d shards\n", (double)o->bytes / (1 << 30), SHARDS);
    int r = setup(b);
    if (r == 0)
        r = rounds(b);
    if (r == 0)
        report(b, rows);
    for (int i = 0; i < 2; i++) {
        hearth_close(b->clients[i]);
        daemon_stop(&b->daemons[i]);
    }
    for (int i = 0; i < SHARDS; i++)
        close_fd(b->fds[i]);
    hold_drop(&b->hold);
    remove_artifact(b->folder);
    remove_artifact(b->home);
    free(b);
    return r;
}
