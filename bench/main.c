/* bench/main.c: hearth-bench NAME [--json FILE] [--dir DIR] [--size SIZE] [--rounds N] [--only PART]: see
 * docs/bench.md. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench/core.h"
#include "bench/daemon.h"
#include "util/text.h"

struct bench_row *bench_row_add(struct bench_rows *r, const char *name, const char *unit, double required,
                                double goal) {
    static char names[BENCH_ROWS_MAX][96];
    size_t i = r->n < BENCH_ROWS_MAX ? r->n++ : BENCH_ROWS_MAX - 1;
    snprintf(names[i], sizeof(names[i]), "%s", name);
    r->rows[i] =
        (struct bench_row){.name = names[i], .unit = unit, .required = required, .goal = goal, .applies = true};
    return &r->rows[i];
}

static const struct part {
    const char *bench, *name;
    int (*run)(const struct bench_options *o, struct bench_rows *rows);
} parts[] = {
    {"core", "attach", core_attach},       {"core", "load", core_load},         {"core", "memory", core_memory},
    {"daemon", "cache", daemon_cache},     {"daemon", "scale", daemon_scale},   {"daemon", "pressure", daemon_pressure},
    {"daemon", "reserve", daemon_reserve}, {"daemon", "stream", daemon_stream}, {"daemon", "urgent", daemon_urgent},
};
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static int usage(void) {
    fputs("usage: hearth-bench NAME [--json FILE] [--dir DIR] [--size SIZE] [--rounds N] [--only PART]\n", stderr);
    for (size_t i = 0; i < N_PARTS; i++)
        fprintf(stderr, "    %s --only %s\n", parts[i].bench, parts[i].name);
    return 2;
}

static bool chosen(const struct part *p, const char *bench, const char *only) {
    return strcmp(p->bench, bench) == 0 && (!only[0] || strcmp(p->name, only) == 0);
}

static uint64_t available_memory(void) {
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %llu", &kib) != 1)
        ;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* The artifact, the same again for raw reads, and what is held for the daemon; on disk once. */
static int fits(const struct bench_options *o) {
    struct statvfs fs;
    char a[16], b[16];
    uint64_t memory = available_memory(), need = 3 * o->bytes + (UINT64_C(1) << 30);
    if (memory < need) {
        printf("does not fit this machine: needs %s of memory, %s available; try --size\n",
               format_size(need, a, sizeof(a)), format_size(memory, b, sizeof(b)));
        return -1;
    }
    if (statvfs(o->place, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < o->bytes + (UINT64_C(1) << 30)) {
        printf("does not fit this machine: needs %s of disk in %s; try --size or --dir\n",
               format_size(o->bytes + (UINT64_C(1) << 30), a, sizeof(a)), o->place);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct option longs[] = {
        {"json", required_argument, NULL, 'j'}, {"dir", required_argument, NULL, 'd'},
        {"size", required_argument, NULL, 's'}, {"rounds", required_argument, NULL, 'r'},
        {"only", required_argument, NULL, 'o'}, {0}};
    struct bench_options o = {.bytes = UINT64_C(4) << 30, .rounds_max = ROUNDS_MAX};
    const char *only = "", *parent = "/var/tmp";
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'j')
            o.json = optarg;
        else if (c == 'd')
            parent = optarg;
        else if (c == 's' && parse_size(optarg, &o.bytes) == 0 && o.bytes >= 4 << 20)
            o.bytes -= o.bytes % (4 << 20);
        else if (c == 'r' && atoi(optarg) > 0)
            o.rounds_max = (unsigned)atoi(optarg);
        else if (c == 'o')
            only = optarg;
        else
            return usage();
    }
    size_t n_chosen = 0;
    for (size_t i = 0; optind == argc - 1 && i < N_PARTS; i++)
        n_chosen += chosen(&parts[i], argv[optind], only);
    if (n_chosen == 0)
        return usage();
    char self[PATH_MAX], place[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    o.bin_dir = self;
    snprintf(place, sizeof(place), "%.4000s/hearth-bench-XXXXXX", parent);
    if (!mkdtemp(place)) {
        bench_fail(place, strerror(errno));
        return 1;
    }
    o.place = place;
    static struct bench_rows rows;
    int r = fits(&o);
    for (size_t i = 0; r == 0 && i < N_PARTS; i++)
        if (chosen(&parts[i], argv[optind], only))
            r = parts[i].run(&o, &rows);
    char log[PATH_MAX + 16];
    snprintf(log, sizeof(log), "%s/hearthd.log", place);
    unlink(log);
    rmdir(place);
    return bench_report(rows.rows, rows.n, o.json) || r != 0;
}
