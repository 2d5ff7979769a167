/* bench/core_memory.c: what sharing saves, and what an idle daemon costs.
 *
 * Pss charges a page to its users in equal parts, so the sum over all of them is the physical memory behind the
 * weights. The figures are the kernel's own and exact; the control is the same measurement made twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/core.h"
#include "util/cleanup.h"
#include "util/text.h"

#define WORKERS 8
#define ARTIFACT_BYTES (UINT64_C(512) << 20)
#define IDLE_SECONDS 60

struct worker {
    pid_t pid;
    FILE *to, *from;
};

static int start_worker(struct worker *w, const struct bench_options *o, const char *socket, uint64_t id) {
    int in[2], out[2];
    char program[4096], id_text[ID_TEXT_BYTES];
    snprintf(program, sizeof(program), "%s/hearth-worker", o->bin_dir);
    if (pipe(in) < 0 || pipe(out) < 0 || (w->pid = fork()) < 0)
        return bench_fail(program, strerror(errno));
    if (w->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execl(program, program, "touch", socket, format_id(id, id_text), NULL);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    /* close-on-exec, so that a later worker does not keep this one's standard input open */
    w->to = fdopen(in[1], "we");
    w->from = fdopen(out[0], "re");
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    return w->to && w->from ? 0 : bench_fail(program, strerror(errno));
}

static int64_t read_pss(struct worker *w, uint64_t *bytes) {
    char line[256];
    uint64_t pss;
    const char *at;
    if (!fgets(line, sizeof(line), w->from) || !(at = strstr(line, "\"pss_bytes\": ")) ||
        sscanf(at, "\"pss_bytes\": %" SCNu64, &pss) != 1 || !(at = strstr(line, "\"bytes\": ")) ||
        sscanf(at, "\"bytes\": %" SCNu64, bytes) != 1)
        return -1;
    return (int64_t)pss;
}

/* Asks all workers, which all hold, for their share. */
static double total_pss(struct worker *workers, uint64_t *bytes) {
    double sum = 0;
    for (int i = 0; i < WORKERS; i++) {
        fputs("pss\n", workers[i].to);
        fflush(workers[i].to);
        int64_t pss = read_pss(&workers[i], bytes);
        if (pss < 0)
            return NAN;
        sum += (double)pss;
    }
    return sum;
}

static int share(const struct bench_options *o, const char *folder, struct hearth *h, const char *socket,
                 struct bench_rows *rows) {
    struct worker workers[WORKERS] = {{0}};
    uint64_t id = load_artifact(h, folder, HEARTH_VERIFY_XXH3), bytes = 0;
    int r = id ? 0 : -1;
    for (int i = 0; r == 0 && i < WORKERS; i++)
        r = start_worker(&workers[i], o, socket, id);
    for (int i = 0; r == 0 && i < WORKERS; i++)
        if (read_pss(&workers[i], &bytes) < 0)
            r = bench_fail("hearth-worker", "ended early");
    if (r == 0) {
        double first = total_pss(workers, &bytes), second = total_pss(workers, &bytes);
        printf("%d workers, every byte read: Pss %.0f of %" PRIu64 " bytes; again %.0f\n", WORKERS, first, bytes,
               second);
        struct bench_row *row = bench_row_add(rows, "8 workers: sum of Pss over weights / artifact", "", 1.01, 1.00);
        row->value = first / (double)bytes;
        row->spread = fabs(first - second) / (double)bytes;
    }
    for (int i = 0; i < WORKERS; i++) {
        if (workers[i].to)
            fclose(workers[i].to);
        if (workers[i].from)
            fclose(workers[i].from);
        if (workers[i].pid > 0)
            waitpid(workers[i].pid, NULL, 0);
    }
    struct hearth_error err;
    if (r == 0 && hearth_evict(h, id, true, hearth_deadline_in(10000), &err))
        r = bench_fail(folder, err.message);
    return r;
}

static void idle(pid_t pid, struct bench_rows *rows) {
    uint64_t first = smaps_rollup(pid, "Pss_Anon"), ticks = cpu_ticks_of(pid);
    printf("idle for %d s ...\n", IDLE_SECONDS);
    fflush(stdout);
    sleep(IDLE_SECONDS);
    ticks = cpu_ticks_of(pid) - ticks;
    uint64_t second = smaps_rollup(pid, "Pss_Anon");
    struct bench_row *row = bench_row_add(rows, "daemon idle: Pss_Anon", "MiB", 10, 4);
    row->value = (double)second / (1 << 20);
    row->spread = fabs((double)second - (double)first) / (1 << 20);
    row = bench_row_add(rows, "daemon idle: CPU over 60 s", "tick", 0, 0);
    row->value = (double)ticks;
}

int core_memory(const struct bench_options *o, struct bench_rows *rows) {
    char folder[4096];
    struct bench_daemon daemon = {0};
    struct hearth *h = NULL;
    struct hearth_error err;
    snprintf(folder, sizeof(folder), "%.4000s/shared", o->place);
    int r = make_artifact(folder, ARTIFACT_BYTES, 2);
    r = r ? r : daemon_start(&daemon, o->bin_dir, o->place, 0, NULL);
    if (r == 0 && hearth_connect(daemon.socket, hearth_deadline_in(5000), &h, &err))
        r = bench_fail("hearthd", err.message);
    r = r ? r : share(o, folder, h, daemon.socket, rows);
    hearth_close(h);
    if (r == 0)
        idle(daemon.pid, rows);
    daemon_stop(&daemon);
    remove_artifact(folder);
    return r;
}
