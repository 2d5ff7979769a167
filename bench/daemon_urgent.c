/* bench/daemon_urgent.c: how long a load that somebody waits for is kept from starting by a prefetch.
 *
 * A load starts when its first byte has landed, counted from when the daemon took up the request. One round takes the
 * start of a small cold load three times: twice while nothing else runs (the second is the A/A control), and once
 * while a load in the background fills the disk's queue. Both artifacts are out of the page cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define URGENT_BYTES (UINT64_C(16) << 20)

enum contender { QUIET, QUIET_AGAIN, BESIDE_PREFETCH, CONTENDERS };

struct urgent_bench {
    const struct bench_options *options;
    char prefetched[4096], urgent[4096], urgent_file[4160];
    struct bench_daemon daemon;
    struct hearth *client, *prefetcher;
    struct samples ms[CONTENDERS];
};

static int load_urgent(struct urgent_bench *b, double *ms) {
    struct hearth_error err;
    struct hearth_info info;
    const struct hearth_load_options options = {.verify = HEARTH_VERIFY_XXH3};
    _cleanup_close_ int fd = open(b->urgent_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        return bench_fail(b->urgent_file, strerror(errno));
    if (hearth_load(b->client, b->urgent, &options, HEARTH_NO_DEADLINE, &info, &err))
        return bench_fail(b->urgent, err.message);
    *ms = (double)info.phases[HEARTH_PHASE_FIRST_BYTE].end_ns / 1e6;
    return hearth_evict(b->client, info.id, true, hearth_deadline_in(10000), &err) ? bench_fail(b->urgent, err.message)
                                                                                   : 0;
}

/* Starts the prefetch, takes the start of the other load once it is well under way, and calls it off. */
static int load_beside(struct urgent_bench *b, double *ms) {
    struct hearth_error err;
    struct hearth_info info;
    const struct hearth_load_options options = {.verify = HEARTH_VERIFY_XXH3, .background = true, .no_wait = true};
    int r = hearth_load(b->prefetcher, b->prefetched, &options, hearth_deadline_in(10000), &info, &err);
    uint64_t id = info.id;
    for (uint64_t end = clock_now() + 30 * NS_PER_S; r == 0 && info.bytes_done < b->options->bytes / 8;) {
        usleep(2000);
        r = hearth_load(b->prefetcher, b->prefetched, &options, hearth_deadline_in(10000), &info, &err);
        if (r == 0 && (info.state != HEARTH_STATE_LOADING || clock_now() > end))
            return bench_fail(b->prefetched, "was not found under way: try a larger --size");
    }
    r = r ? bench_fail(b->prefetched, err.message) : load_urgent(b, ms);
    if (hearth_evict(b->prefetcher, id, true, hearth_deadline_in(30000), &err) && r == 0)
        r = bench_fail(b->prefetched, err.message);
    usleep(200000); /* what was under way has ended */
    return r;
}

static int setup(struct urgent_bench *b) {
    const struct bench_options *o = b->options;
    struct hearth_error err;
    snprintf(b->prefetched, sizeof(b->prefetched), "%.4000s/prefetched", o->place);
    snprintf(b->urgent, sizeof(b->urgent), "%.4000s/urgent", o->place);
    snprintf(b->urgent_file, sizeof(b->urgent_file), "%s/model.safetensors", b->urgent);
    if (make_artifact(b->prefetched, o->bytes, 4) < 0 || make_artifact(b->urgent, URGENT_BYTES, 1) < 0 ||
        daemon_start(&b->daemon, o->bin_dir, o->place, o->bytes + URGENT_BYTES, NULL) < 0)
        return -1;
    if (hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->client, &err) ||
        hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->prefetcher, &err))
        return bench_fail("hearthd", err.message);
    return 0;
}

/* In ms. */
static double spread_of(const struct urgent_bench *b) {
    return ratio_spread(&b->ms[QUIET_AGAIN], &b->ms[QUIET]) * samples_median(&b->ms[QUIET]);
}

static int rounds(struct urgent_bench *b) {
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        for (size_t i = 0; i < CONTENDERS; i++) {
            enum contender c = (enum contender)((i + r.n) % CONTENDERS);
            double ms;
            if (daemon_prime(b->client) < 0 || (c == BESIDE_PREFETCH ? load_beside(b, &ms) : load_urgent(b, &ms)) < 0)
                return -1;
            b->ms[c].at[b->ms[c].n++] = ms;
        }
        printf("round %2zu:  first byte after %.2f ms, again %.2f ms, beside the prefetch %.2f ms\n", r.n + 1,
               b->ms[QUIET].at[r.n], b->ms[QUIET_AGAIN].at[r.n], b->ms[BESIDE_PREFETCH].at[r.n]);
        fflush(stdout);
        r.decided = spread_decides(spread_of(b), 50, "ms");
    }
    return 0;
}

static void report(struct urgent_bench *b, struct bench_rows *rows) {
    struct samples delay = {.n = b->ms[QUIET].n};
    double worst = 0;
    for (size_t i = 0; i < delay.n; i++) {
        delay.at[i] = b->ms[BESIDE_PREFETCH].at[i] - b->ms[QUIET].at[i];
        worst = delay.at[i] > worst ? delay.at[i] : worst;
    }
    struct bench_row *r = bench_row_add(rows, "urgent load beside a prefetch: its start is delayed by", "ms", 50, 20);
    r->value = samples_median(&delay);
    r->spread = spread_of(b);
    snprintf(r->note, sizeof(r->note), "at most %.1f ms in %zu rounds; alone it starts after %.1f ms", worst, delay.n,
             samples_median(&b->ms[QUIET]));
}

int daemon_urgent(const struct bench_options *o, struct bench_rows *rows) {
    struct urgent_bench *b = calloc(1, sizeof(*b));
    if (!b)
        return bench_fail("daemon", strerror(ENOMEM));
    b->options = o;
    printf("urgent loads: beside a prefetch of %.1f GiB\n", (double)o->bytes / (1 << 30));
    int r = setup(b);
    if (r == 0)
        r = rounds(b);
    if (r == 0)
        report(b, rows);
    hearth_close(b->client);
    hearth_close(b->prefetcher);
    daemon_stop(&b->daemon);
    remove_artifact(b->prefetched);
    remove_artifact(b->urgent);
    free(b);
    return r;
}
