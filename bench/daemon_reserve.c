/* bench/daemon_reserve.c: cold loads where the host has to supply the memory, with a reserve and without.
 *
 * On a virtual machine with free page reporting the host takes free memory back about two seconds after it was freed.
 * So before each load as much memory as it needs, and more, is used, freed and left alone for ten seconds. Two daemons
 * run side by side, one with a reserve as large as the artifact, which it has filled before; the other one's load,
 * repeated, is the control. Nothing is primed here: that is what is measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/daemon.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/page_reporting.h"

#define SHARDS 2
#define LEFT_ALONE_S 10
#define MORE_BYTES (UINT64_C(512) << 20) /* that is freed beside what a load takes */

#define ROW "memory that the host has to supply: reserve on / off, time"
#define REQUIRED 0.5
#define GOAL 0.25

enum contender { OFF, OFF_AGAIN, ON, CONTENDERS };

static const char *const names[CONTENDERS] = {[OFF] = "off", [OFF_AGAIN] = "off again", [ON] = "on"};

struct reserve_bench {
    const struct bench_options *options;
    char folder[4096], home[4096];
    struct bench_daemon daemons[2]; /* the second has a reserve */
    struct hearth *clients[2];
    struct samples seconds[CONTENDERS];
};

/* Uses more memory than a load takes, frees it, and leaves it to the host. */
static int give_to_host(const struct reserve_bench *b) {
    uint64_t bytes = b->options->bytes + MORE_BYTES;
    struct hold h = {0};
    int r = hold_prime(&h, bytes);
    hold_drop(&h);
    if (r < 0)
        return bench_fail("memory", strerror(-r));
    sleep(LEFT_ALONE_S);
    return 0;
}

static int drop_cache(const struct reserve_bench *b) {
    char path[4160];
    for (int i = 0; i < SHARDS; i++) {
        snprintf(path, sizeof(path), "%s/model-%05d-of-%05d.safetensors", b->folder, i + 1, SHARDS);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
            return bench_fail(path, "cannot be taken out of the page cache");
    }
    return 0;
}

static int run(struct reserve_bench *b, enum contender c) {
    struct hearth *client = b->clients[c == ON];
    struct hearth_error err;
    if (daemon_prime(b->clients[1]) < 0 || drop_cache(b) < 0 || give_to_host(b) < 0)
        return -1;
    uint64_t begin = clock_now();
    uint64_t id = load_artifact(client, b->folder, HEARTH_VERIFY_XXH3);
    double seconds = (double)(clock_now() - begin) / 1e9;
    if (id == 0)
        return -1;
    if (hearth_evict(client, id, true, hearth_deadline_in(60000), &err))
        return bench_fail(b->folder, err.message);
    if (b->seconds[c].n < ROUNDS_MAX)
        b->seconds[c].at[b->seconds[c].n++] = seconds;
    return 0;
}

static int setup(struct reserve_bench *b) {
    const struct bench_options *o = b->options;
    struct hearth_error err;
    snprintf(b->folder, sizeof(b->folder), "%.4000s/cold", o->place);
    snprintf(b->home, sizeof(b->home), "%.4000s/reserve", o->place);
    if (mkdir(b->home, 0700) < 0)
        return bench_fail(b->home, strerror(errno));
    if (make_artifact(b->folder, o->bytes, SHARDS) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (daemon_start(&b->daemons[i], o->bin_dir, i ? b->home : o->place, i ? o->bytes : 0, NULL) < 0)
            return -1;
        if (hearth_connect(b->daemons[i].socket, hearth_deadline_in(5000), &b->clients[i], &err))
            return bench_fail("hearthd", err.message);
    }
    return 0;
}

static double spread(const struct reserve_bench *b) {
    return ratio_spread(&b->seconds[OFF_AGAIN], &b->seconds[OFF]);
}

static int rounds(struct reserve_bench *b) {
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        for (unsigned i = 0; i < CONTENDERS; i++)
            if (run(b, (enum contender)((i + r.n) % CONTENDERS)) < 0)
                return -1;
        printf("round %2zu:", r.n + 1);
        for (unsigned c = 0; c < CONTENDERS; c++)
            printf("  reserve %s %.3f s", names[c], b->seconds[c].at[r.n]);
        printf("\n");
        fflush(stdout);
        r.decided = spread_decides(spread(b), REQUIRED, "");
    }
    return 0;
}

int daemon_reserve(const struct bench_options *o, struct bench_rows *rows) {
    if (!page_reporting("")) {
        struct bench_row *row = bench_row_add(rows, ROW, "", REQUIRED, GOAL);
        row->applies = false;
        snprintf(row->note, sizeof(row->note), "no host takes free memory back here (no free page reporting)");
        return 0;
    }
    struct reserve_bench *b = calloc(1, sizeof(*b));
    if (!b)
        return bench_fail("reserve", strerror(ENOMEM));
    b->options = o;
    printf("reserve: %.1f GiB in %d shards, %d s after memory was freed\n", (double)o->bytes / (1 << 30), SHARDS,
           LEFT_ALONE_S);
    int r = setup(b);
    r = r ? r : rounds(b);
    if (r == 0) {
        struct bench_row *row = bench_row_add(rows, ROW, "", REQUIRED, GOAL);
        row->value = ratio_median(&b->seconds[ON], &b->seconds[OFF]);
        row->spread = spread(b);
        printf("A/A: reserve off again / off %.4f, spread %.4f; %zu rounds\n",
               ratio_median(&b->seconds[OFF_AGAIN], &b->seconds[OFF]), row->spread, b->seconds[OFF].n);
        snprintf(row->note, sizeof(row->note), "%.3f s against %.3f", samples_median(&b->seconds[ON]),
                 samples_median(&b->seconds[OFF]));
    }
    for (int i = 0; i < 2; i++) {
        hearth_close(b->clients[i]);
        daemon_stop(&b->daemons[i]);
    }
    remove_artifact(b->folder);
    remove_artifact(b->home);
    free(b);
    return r;
}
