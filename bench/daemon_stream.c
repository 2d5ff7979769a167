/* bench/daemon_stream.c: how soon a client that streams can use some bytes of an artifact that is cold.
 *
 * The artifact lies beside a list of its files' SHA-256, and was proven once, so that the daemon has records: a chunk
 * may be used as soon as its XXH3 matches. In each round a client asks for the load, attaches it while it loads, and
 * waits for a range of 16 MiB at a place chosen at random: clocked from the request until it can be read. Then the load
 * is cancelled. The same once more, at another place, is the A/A control. The daemon's memory is primed as for cold
 * loads (core_load.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/text.h"

#define SHARDS 4
#define RANGE (UINT64_C(16) << 20)
/* A record is kept of a file that has not changed for so long when it is read. */
#define SETTLE_NS (3 * NS_PER_S)

struct stream_bench {
    const struct bench_options *options;
    char folder[4096];
    struct bench_daemon daemon;
    struct hearth *client;
    struct samples seconds[2], attached; /* the second one is the control; attached: from the request on */
    bool matched;                        /* the daemon compared what it gave out to a record */
};

static void add(struct samples *s, double v) {
    if (s->n < ROUNDS_MAX)
        s->at[s->n++] = v;
}

static int add_digest(FILE *list, const char *folder, unsigned shard) {
    char path[4160], hex[65];
    const char *name = path + strlen(folder) + 1;
    snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", folder, shard + 1, SHARDS);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return bench_fail(path, strerror(errno));
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return bench_fail(path, strerror(errno));
    unsigned char digest[32];
    int good = EVP_Digest(data, (size_t)st.st_size, digest, NULL, EVP_sha256(), NULL);
    munmap(data, (size_t)st.st_size);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return good == 1 && fprintf(list, "%s  %s\n", format_hex(digest, sizeof(digest), hex), name) > 0
               ? 0
               : bench_fail(path, "no digest");
}

static int write_digests(const char *folder) {
    char path[4160];
    snprintf(path, sizeof(path), "%s/SHA256SUMS", folder);
    _cleanup_fclose_ FILE *list = fopen(path, "we");
    if (!list)
        return bench_fail(path, strerror(errno));
    for (unsigned i = 0; i < SHARDS; i++)
        if (add_digest(list, folder, i) < 0)
            return -1;
    return 0;
}

static int evict(struct stream_bench *b, uint64_t id) {
    struct hearth_error err;
    if (hearth_evict(b->client, id, true, hearth_deadline_in(30000), &err) && err.code != HEARTH_E_NOT_FOUND)
        return bench_fail(b->folder, err.message);
    /* Its reads end, then its memory goes. */
    for (struct hearth_status s = {.artifacts = 1}; s.artifacts > 0 || s.resident_bytes > 0;)
        if (nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL) < 0 ||
            hearth_get_status(b->client, hearth_deadline_in(30000), &s, &err))
            return bench_fail("hearthd", err.message);
    return 0;
}

static int setup(struct stream_bench *b) {
    const struct bench_options *o = b->options;
    struct hearth_error err;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/stream", o->place);
    if (o->bytes / SHARDS < RANGE)
        return bench_fail("stream", "needs a --size of 64 MiB at least");
    if (make_artifact(b->folder, o->bytes, SHARDS) < 0 || write_digests(b->folder) < 0)
        return -1;
    nanosleep(&(struct timespec){.tv_sec = SETTLE_NS / NS_PER_S}, NULL);
    if (daemon_start(&b->daemon, o->bin_dir, o->place, o->bytes, NULL) < 0)
        return -1;
    if (hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->client, &err))
        return bench_fail("hearthd", err.message);
    uint64_t id = load_artifact(b->client, b->folder, HEARTH_VERIFY_REMEMBERED);
    return id == 0 ? -1 : evict(b, id);
}

/* Somewhere in a shard, behind its header. */
static void choose(size_t *file, uint64_t *offset, const struct hearth_artifact *a) {
    uint64_t random[2] = {0};
    struct hearth_file f = {.path = ""};
    (void)!getrandom(random, sizeof(random), 0);
    do
        *file = (size_t)(random[0]++ % hearth_file_count(a));
    while (hearth_file_at(a, *file, &f, NULL) || f.bytes < RANGE);
    *offset = random[1] % (f.bytes - RANGE + 1);
}

static int run_once(struct stream_bench *b, unsigned which) {
    struct hearth_artifact *a = NULL;
    struct hearth_error err = {.code = HEARTH_OK};
    struct hearth_info info = {0};
    struct hearth_file file;
    const struct hearth_load_options options = {.verify = HEARTH_VERIFY_REMEMBERED, .no_wait = true};
    size_t number;
    uint64_t offset;
    const void *at;
    if (daemon_prime(b->client) < 0)
        return -1;
    uint64_t begin = clock_now();
    int failed = hearth_load(b->client, b->folder, &options, hearth_deadline_in(30000), &info, &err) ||
                 hearth_attach_stream(b->client, info.id, 0, hearth_deadline_in(30000), &a, &err);
    uint64_t attached = clock_now();
    if (!failed) {
        choose(&number, &offset, a);
        failed = hearth_wait_range(a, number, offset, RANGE, hearth_deadline_in(30000), &at, &err);
        add(&b->seconds[which], (double)(clock_now() - begin) / 1e9);
        add(&b->attached, (double)(attached - begin) / 1e9);
    }
    b->matched &= !failed && hearth_file_at(a, number, &file, NULL) == 0 && file.verified == HEARTH_VERIFIED_MATCHED;
    hearth_release(a);
    if (failed)
        return bench_fail(b->folder, err.message);
    return evict(b, info.id);
}

/* In ms. */
static double spread_of(const struct stream_bench *b) {
    return ratio_spread(&b->seconds[1], &b->seconds[0]) * samples_median(&b->seconds[0]) * 1e3;
}

static void report(struct stream_bench *b, struct bench_rows *rows) {
    double median = samples_median(&b->seconds[0]) * 1e3;
    struct bench_row *r = bench_row_add(rows, "16 MiB at random, usable by a streaming client, cold", "ms", 50, 40);
    r->value = median;
    r->spread = spread_of(b);
    if (b->matched)
        snprintf(r->note, sizeof(r->note), "from the request on; attached after %.1f ms",
                 samples_median(&b->attached) * 1e3);
    else
        snprintf(r->note, sizeof(r->note),
                 "the daemon has no record of the artifact: it waits for each file's SHA-256");
    r->applies = b->matched;
}

int daemon_stream(const struct bench_options *o, struct bench_rows *rows) {
    struct stream_bench b = {.options = o, .matched = true};
    int r = setup(&b);
    for (struct rounds t = {.most = o->rounds_max}; r == 0 && next_round(&t);) {
        r = run_once(&b, t.n % 2);
        r = r ? r : run_once(&b, 1 - t.n % 2);
        t.decided = r == 0 && spread_decides(spread_of(&b), 50, "ms");
    }
    if (r == 0 && b.seconds[0].n > 0)
        report(&b, rows);
    hearth_close(b.client);
    daemon_stop(&b.daemon);
    remove_artifact(b.folder);
    return r;
}
