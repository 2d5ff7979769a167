/* daemon/metrics.c: see metrics.h. */
#include "daemon/metrics.h"

#include <inttypes.h>

#include <hearth/hearth.h>

#include "util/clock.h"

/* Upper bounds in seconds. A load may be a few KiB of the page cache, or a TiB from a network. */
static const double load_bounds[] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600};
static const double attach_bounds[] = {5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.1};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT(load_bounds) <= HISTOGRAM_BUCKETS_MAX, "buckets");

static void observe(struct histogram *h, uint64_t ns, const double *bounds, size_t n) {
    size_t i = 0;
    while (i < n && (double)ns > bounds[i] * (double)NS_PER_S)
        i++;
    h->buckets[i]++;
    h->sum_ns += ns;
}

void metrics_load(struct metrics *m, const struct resident *r, uint64_t ns) {
    observe(&m->load, ns, load_bounds, COUNT(load_bounds));
    for (int i = 0; i < HEARTH_PHASES; i++)
        if (r->phases[i].end_ns)
            observe(&m->phases[i], r->phases[i].end_ns - r->phases[i].start_ns, load_bounds, COUNT(load_bounds));
    m->read_disk += r->from_disk;
    m->read_page_cache += r->from_page_cache;
}

void metrics_attach(struct metrics *m, uint64_t ns) {
    observe(&m->attach, ns, attach_bounds, COUNT(attach_bounds));
}

/* ---- the text ---- */

static void about(FILE *to, const char *name, const char *type, const char *help) {
    fprintf(to, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\n", name, help, name, type);
}

static void value(FILE *to, const char *name, const char *type, const char *help, uint64_t v) {
    about(to, name, type, help);
    fprintf(to, "hearth_%s %" PRIu64 "\n", name, v);
}

/* `label`: "" or `phase="read"`. */
static void histogram(FILE *to, const char *name, const char *label, const struct histogram *h, const double *bounds,
                      size_t n) {
    const char *comma = *label ? "," : "", *open = *label ? "{" : "", *close = *label ? "}" : "";
    uint64_t below = 0;
    for (size_t i = 0; i < n; i++) {
        below += h->buckets[i];
        fprintf(to, "hearth_%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, label, comma, bounds[i], below);
    }
    below += h->buckets[n];
    fprintf(to, "hearth_%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, label, comma, below);
    fprintf(to, "hearth_%s_sum%s%s%s %.9f\n", name, open, label, close, (double)h->sum_ns / (double)NS_PER_S);
    fprintf(to, "hearth_%s_count%s%s%s %" PRIu64 "\n", name, open, label, close, below);
}

static void histograms(FILE *to, const struct metrics *m) {
    char label[64];
    about(to, "load_seconds", "histogram", "Time from a request to its artifact being resident, of loads that read.");
    histogram(to, "load_seconds", "", &m->load, load_bounds, COUNT(load_bounds));
    about(to, "load_phase_seconds", "histogram", "Time of each phase of these loads. Phases overlap.");
    for (unsigned i = 0; i < HEARTH_PHASES; i++) {
        snprintf(label, sizeof(label), "phase=\"%s\"", hearth_phase_name((enum hearth_phase)i));
        histogram(to, "load_phase_seconds", label, &m->phases[i], load_bounds, COUNT(load_bounds));
    }
    about(to, "attach_seconds", "histogram", "Time that the daemon worked on one attach.");
    histogram(to, "attach_seconds", "", &m->attach, attach_bounds, COUNT(attach_bounds));
}

static void by_code(FILE *to, const char *name, const char *help, const uint64_t *counts) {
    about(to, name, "counter", help);
    for (int i = HEARTH_OK + 1; i < METRICS_CODES; i++)
        fprintf(to, "hearth_%s{reason=\"%s\"} %" PRIu64 "\n", name, hearth_code_name((enum hearth_code)i), counts[i]);
}

void metrics_write(const struct metrics *m, FILE *to) {
    about(to, "build_info", "gauge", "Always 1; the version of hearthd.");
    fprintf(to, "hearth_build_info{version=\"%s\"} 1\n", HEARTH_VERSION);
    about(to, "uptime_seconds", "gauge", "How long the daemon has been running.");
    fprintf(to, "hearth_uptime_seconds %.3f\n", (double)m->uptime_ns / (double)NS_PER_S);

    about(to, "artifacts", "gauge", "Artifacts by state.");
    for (unsigned i = HEARTH_STATE_RESOLVING; i < METRICS_STATES; i++)
        fprintf(to, "hearth_artifacts{state=\"%s\"} %" PRIu64 "\n", hearth_state_name((enum hearth_state)i),
                m->artifacts[i]);
    value(to, "resident_bytes", "gauge", "Memory of resident artifacts.", m->resident_bytes);
    value(to, "budget_bytes", "gauge", "Memory that artifacts may hold.", m->budget_bytes);
    value(to, "budget_used_bytes", "gauge", "Of that, in use: loads under way and memory on its way back included.",
          m->budget_used_bytes);
    value(to, "budget_fds", "gauge", "File descriptors that artifacts may hold.", m->budget_fds);
    value(to, "budget_used_fds", "gauge", "Of those, in use.", m->budget_used_fds);
    value(to, "reserve_bytes", "gauge", "Memory that is to be held ready for loads.", m->reserve_bytes);
    value(to, "reserve_held_bytes", "gauge", "Of that, held now.", m->reserve_held_bytes);
    value(to, "leases", "gauge", "Leases that clients hold.", m->leases);
    value(to, "clients", "gauge", "Connections.", m->clients);

    histograms(to, m);
    about(to, "read_bytes_total", "counter", "Bytes that loads read, by where they came from.");
    fprintf(to, "hearth_read_bytes_total{origin=\"disk\"} %" PRIu64 "\n", m->read_disk);
    fprintf(to, "hearth_read_bytes_total{origin=\"page_cache\"} %" PRIu64 "\n", m->read_page_cache);
    value(to, "evictions_total", "counter",
          "Resident artifacts that were given up: on request, for room, or because their files changed.", m->evictions);
    by_code(to, "load_failures_total", "Loads that failed, by the code of their error.", m->failures);
    by_code(to, "refusals_total", "Requests and connections that were answered with an error, by its code.",
            m->refusals);
}
