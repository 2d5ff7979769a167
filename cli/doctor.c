/* cli/doctor.c: hearth doctor [PATH...]
 *
 * Looks at everything that decides how well hearth works on this machine, for this user, and says what is lacking, what
 * that costs, and what mends it. It needs no daemon, changes nothing, and exits with 1 only where hearth would not
 * work.
 */
#include "cli/doctor.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "util/clock.h"

static const char *const level_names[] = {"ok", "note", "warning", "problem"}; /* by enum level */

/* ---- what it says ---- */

static enum level worst(const struct doctor *d) {
    enum level level = LEVEL_OK;
    for (size_t i = 0; i < d->n_findings; i++)
        level = d->findings[i].level > level ? d->findings[i].level : level;
    return level;
}

static void text_or_null(struct json *j, const char *key, const char *text) {
    json_key(j, key);
    if (text)
        json_str(j, text);
    else
        json_nil(j);
}

static void rate_or_null(struct json *j, const char *key, double rate) {
    json_key(j, key);
    if (rate > 0)
        json_double(j, rate / 1e9);
    else
        json_nil(j);
}

static void print_json(const struct doctor *d) {
    struct json j;
    document_begin(&j);
    document_text(&j, "verdict", level_names[worst(d)]);
    json_key(&j, "findings");
    json_array_begin(&j);
    for (size_t i = 0; i < d->n_findings; i++) {
        const struct finding *f = &d->findings[i];
        json_object_begin(&j);
        document_text(&j, "check", f->check);
        document_text(&j, "level", level_names[f->level]);
        document_text(&j, "found", f->found);
        text_or_null(&j, "cost", f->cost);
        text_or_null(&j, "mend", f->mend);
        if (strcmp(f->check, CHECK_STORAGE) == 0) {
            rate_or_null(&j, "direct_gb_per_s", f->direct);
            rate_or_null(&j, "buffered_gb_per_s", f->buffered);
        }
        json_object_end(&j);
    }
    json_array_end(&j);
    json_key(&j, "gb_per_s");
    json_object_begin(&j);
    rate_or_null(&j, "memory_fresh", d->rates.fresh);
    rate_or_null(&j, "memory_again", d->rates.again);
    rate_or_null(&j, "memory_small_pages", d->rates.small);
    rate_or_null(&j, "memory_huge_pages", d->rates.huge);
    rate_or_null(&j, "sha256", d->rates.sha256);
    json_object_end(&j);
    json_object_end(&j);
}

static void print_text(const struct doctor *d) {
    struct table *t = table_new("lll");
    unsigned counts[4] = {0};
    for (size_t i = 0; i < d->n_findings; i++) {
        const struct finding *f = &d->findings[i];
        const struct { const char *label, *text; } more[] = {{"costs", f->cost}, {"mend", f->mend}};
        counts[f->level]++;
        table_cell(t, "%s", level_names[f->level]);
        table_cell(t, "%s", f->check);
        table_cell(t, "%s", f->found);
        for (size_t k = 0; k < 2; k++)
            if (more[k].text) {
                table_cell(t, "%s", "");
                table_cell(t, "%s", "");
                table_cell(t, "%s: %s", more[k].label, more[k].text);
            }
    }
    table_print(t, 0, stdout);
    table_free(t);
    if (d->rates.sha256 > 0)
        printf("\nSHA-256 on one thread: %.2f GB/s\n", d->rates.sha256 / 1e9);
    printf("\n%u problem%s, %u warning%s, %u note%s\n", counts[LEVEL_PROBLEM], counts[LEVEL_PROBLEM] == 1 ? "" : "s",
           counts[LEVEL_WARNING], counts[LEVEL_WARNING] == 1 ? "" : "s", counts[LEVEL_NOTE],
           counts[LEVEL_NOTE] == 1 ? "" : "s");
}

/* ---- the verb ---- */

static void look(struct cli *c, struct doctor *d) {
    struct kernel_calls calls;
    struct utsname name;
    struct rlimit limit = {0, 0};
    measure_memory(d); /* first: what comes first is what the kernel has */
    uname(&name);
    probe_calls(&calls);
    check_kernel(d, name.release, &calls);
    check_uring(d, probe_uring());
    check_huge_pages(d);
    check_memory_limits(d);
    check_swap(d, probe_locking());
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        check_locking(d, limit.rlim_cur);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        check_descriptors(d, limit.rlim_cur, limit.rlim_max);
    check_socket(d);
    check_daemon(d, c->deadline);
    check_page_reporting(d); /* behind the daemon, which may have a reserve */
    if (!d->reached)
        check_state_directory(d);
    for (size_t i = 0; i < c->options.n_operands; i++)
        check_path(d, c->options.operands[i]);
}

static int doctor(struct cli *c, struct hearth_error *err) {
    struct doctor d = {.root = "", .socket = c->options.socket};
    (void)err;
    look(c, &d);
    if (c->options.json)
        print_json(&d);
    else
        print_text(&d);
    c->status = worst(&d) == LEVEL_PROBLEM ? EXIT_FAILED : EXIT_DONE;
    doctor_deinit(&d);
    return 0;
}

const struct verb verb_doctor = {
    .name = "doctor",
    .operands = "[PATH...]",
    .summary = "Say what this machine lacks, what that costs, and what mends it",
    .about = "Looks at the kernel, io_uring, huge pages, memory and its limits, swap, open files, the socket and the "
             "daemon;\n"
             "of each PATH, at the file system it is on. Measures memory and hashing, and reads up to 512 MiB of each "
             "PATH.\n"
             "Changes nothing, and needs no daemon. Exit status 1: hearth would not work like this.",
    .examples = "  hearth doctor\n"
                "  hearth doctor /models\n"
                "  hearth doctor --json | jq '.findings[] | select(.level != \"ok\")'\n",
    .options = OPTIONS_DAEMON,
    .operands_max = SIZE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .run = doctor,
};
