/* bench/core_attach.c: attaching to a resident artifact, request to mapped.
 *
 * The contender beside hearth is a bare ping-pong: a process that answers each packet with as many descriptors of
 * memfds of the same sizes, mapped by the client in the same way. Nothing can be faster with these system calls. Both
 * are placed alike: on the client's CPU, or on another one. The second ping-pong of each round is the A/A control.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/core.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdlist.h"
#include "util/memfd.h"

#define ATTACHES 400 /* a contender a round */
#define FILE_BYTES (UINT64_C(4) << 20)
#define FILES_MOST 8

struct attach_bench {
    const struct bench_options *options;
    char folder[4096];
    unsigned files;
    struct bench_daemon daemon;
    struct hearth *client;
    uint64_t id, index_bytes, file_bytes;
    pid_t bare;
    int bare_socket;
};

/* Answers each packet with the same descriptors until the other side hangs up. */
static void serve_bare(int socket, const struct fdlist *fds) {
    char packet[64];
    for (;;) {
        ssize_t n = recv(socket, packet, sizeof(packet), 0);
        if (n <= 0 || fdlist_send(socket, packet, (size_t)n, fds) < 0)
            _exit(0);
    }
}

static int start_bare(struct attach_bench *b) {
    int ends[2];
    struct fdlist fds = FDLIST_NULL;
    for (unsigned i = 0; i <= b->files; i++) {
        struct memory m;
        int r = memory_new(&m, i == 0 ? b->index_bytes : b->file_bytes, i > 0 && huge_page_bytes() != 0, NULL);
        if (r < 0)
            return bench_fail("memory", strerror(-r));
        munmap(m.at, m.bytes);
        memfd_seal(m.fd, SEALS_FINAL);
        fdlist_push(&fds, memfd_reopen_readonly(m.fd));
        close_fd(m.fd);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return bench_fail("socketpair", strerror(errno));
    b->bare = fork();
    if (b->bare == 0) {
        close(ends[0]);
        serve_bare(ends[1], &fds);
    }
    close(ends[1]);
    fdlist_deinit(&fds);
    b->bare_socket = ends[0];
    return b->bare < 0 ? bench_fail("fork", strerror(errno)) : 0;
}

/* Maps at an address where huge pages can be mapped whole, as libhearth does. */
static char *map_file(int fd, uint64_t bytes) {
    uint64_t page = huge_page_bytes();
    if (page == 0 || bytes < page)
        return mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    char *area = mmap(NULL, bytes + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *at = (char *)(((uintptr_t)area + page - 1) / page * page);
    char *end = area + bytes + page, *behind = at + (bytes + 4095) / 4096 * 4096;
    at = mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (at > area)
        munmap(area, (size_t)(at - area));
    if (behind < end)
        munmap(behind, (size_t)(end - behind));
    return at;
}

static double one_bare(struct attach_bench *b) {
    char packet[64] = {0};
    char *maps[FILES_MOST + 1];
    struct fdlist fds = FDLIST_NULL;
    uint64_t begin = clock_now();
    long n = send(b->bare_socket, packet, sizeof(packet), 0);
    while (n > 0 && (n = fdlist_receive(b->bare_socket, packet, sizeof(packet), &fds)) == -EAGAIN)
        n = poll(&(struct pollfd){.fd = b->bare_socket, .events = POLLIN}, 1, -1);
    if (n <= 0 || fds.count != b->files + 1)
        return -1;
    for (size_t i = 0; i < fds.count; i++)
        maps[i] = map_file(fds.fds[i], i == 0 ? b->index_bytes : b->file_bytes);
    double us = (double)(clock_now() - begin) / 1e3;
    for (size_t i = 0; i < fds.count; i++)
        munmap(maps[i], i == 0 ? b->index_bytes : b->file_bytes);
    fdlist_deinit(&fds);
    return us;
}

static double one_hearth(struct attach_bench *b) {
    struct hearth_artifact *a = NULL;
    const void *at;
    uint64_t begin = clock_now();
    int r = hearth_attach(b->client, b->id, HEARTH_NO_DEADLINE, &a, NULL);
    for (unsigned i = 0; r == 0 && i < b->files; i++)
        r = hearth_file_map(a, i, HEARTH_NO_DEADLINE, &at, NULL);
    double us = (double)(clock_now() - begin) / 1e3;
    hearth_release(a);
    /* The lease's return is answered by nobody; let the daemon finish it outside the clock. */
    struct hearth_status status;
    if (r == 0)
        r = hearth_get_status(b->client, HEARTH_NO_DEADLINE, &status, NULL);
    return r == 0 ? us : -1;
}

static int run_many(struct attach_bench *b, double (*one)(struct attach_bench *), struct samples *p50,
                    struct samples *p99) {
    double us[ATTACHES];
    for (int i = 0; i < ATTACHES; i++)
        if ((us[i] = one(b)) < 0)
            return bench_fail(b->folder, "attach failed");
    size_t n = p50->n;
    p50->at[n] = quantile(us, ATTACHES, 0.5);
    p99->at[n] = quantile(us, ATTACHES, 0.99);
    p50->n = p99->n = n + 1;
    return 0;
}

static int setup(struct attach_bench *b) {
    snprintf(b->folder, sizeof(b->folder), "%.4000s/attach-%u", b->options->place, b->files);
    struct hearth_error err = {.code = HEARTH_OK};
    struct hearth_artifact *a = NULL;
    struct hearth_file file;
    if (make_artifact(b->folder, FILE_BYTES * b->files, b->files) < 0 ||
        daemon_start(&b->daemon, b->options->bin_dir, b->options->place, 0, NULL) < 0)
        return -1;
    if (hearth_connect(b->daemon.socket, hearth_deadline_in(5000), &b->client, &err))
        return bench_fail("hearthd", err.message);
    b->id = load_artifact(b->client, b->folder, HEARTH_VERIFY_XXH3);
    if (b->id == 0 || hearth_attach(b->client, b->id, HEARTH_NO_DEADLINE, &a, &err) ||
        hearth_file_at(a, 0, &file, &err))
        return bench_fail(b->folder, err.message);
    b->index_bytes = hearth_index(a)->total_bytes;
    b->file_bytes = file.bytes;
    hearth_release(a);
    return start_bare(b);
}

/* Rounds with the client on CPU 0 and both servers on `cpu`: left to the scheduler, one may be put beside the client
 * and the other not, which is worth 60 us. */
static int measure(struct attach_bench *b, int cpu, struct bench_rows *rows) {
    static struct samples bare[2], again[2], hearth[2]; /* p50, p99 */
    memset(bare, 0, sizeof(bare)), memset(again, 0, sizeof(again)), memset(hearth, 0, sizeof(hearth));
    if (place(0, 0) < 0 || place(b->daemon.pid, cpu) < 0 || place(b->bare, cpu) < 0)
        return bench_fail("placing processes", strerror(errno));
    for (struct rounds r = {.most = b->options->rounds_max}; next_round(&r);) {
        if (run_many(b, one_bare, &bare[0], &bare[1]) < 0 || run_many(b, one_hearth, &hearth[0], &hearth[1]) < 0 ||
            run_many(b, one_bare, &again[0], &again[1]) < 0)
            return -1;
        r.decided = spread_decides(ratio_spread(&again[0], &bare[0]), 1.3, "");
    }
    const char *where = cpu == 0 ? "one CPU" : "two CPUs";
    double spread = ratio_spread(&again[0], &bare[0]);
    printf("attach, index + %u, %s: bare %.1f us, hearth %.1f us; A/A %.3f, spread %.4f over %zu rounds of %d\n",
           b->files, where, samples_median(&bare[0]), samples_median(&hearth[0]), ratio_median(&again[0], &bare[0]),
           spread, bare[0].n, ATTACHES);
    char name[64];
    snprintf(name, sizeof(name), "attach, index + %u, %s: p50 / bare", b->files, where);
    struct bench_row *r = bench_row_add(rows, name, "", 1.3, 1.1);
    r->value = ratio_median(&hearth[0], &bare[0]);
    r->spread = spread;
    if (cpu == 0 && b->files == 1) {
        r = bench_row_add(rows, "attach, index + 1, one CPU: p50", "us", 25, 15);
        r->value = samples_median(&hearth[0]);
        r->spread = ratio_spread(&again[0], &bare[0]) * samples_median(&bare[0]);
        r = bench_row_add(rows, "attach, index + 1, one CPU: p99", "us", 100, 40);
        r->value = samples_median(&hearth[1]);
        r->spread = ratio_spread(&again[1], &bare[1]) * samples_median(&bare[1]);
    }
    return place(0, -1);
}

int core_attach(const struct bench_options *o, struct bench_rows *rows) {
    static const unsigned counts[] = {1, FILES_MOST};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct attach_bench b = {.options = o, .files = counts[i], .bare_socket = -1};
        r = setup(&b);
        if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
            r = r ? r : measure(&b, 1, rows);
        r = r ? r : measure(&b, 0, rows);
        hearth_close(b.client);
        daemon_stop(&b.daemon);
        close_fd(b.bare_socket);
        if (b.bare > 0)
            waitpid(b.bare, NULL, 0);
        remove_artifact(b.folder);
    }
    return r;
}
