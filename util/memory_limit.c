/* util/memory_limit.c: see memory_limit.h.
 *
 * /proc/self/cgroup names this process's group in each hierarchy; /proc/self/mountinfo says where a hierarchy is
 * mounted and which of its groups the mount shows as its root (a container often sees only its own). From the group's
 * directory up to the mount point each directory may state a limit.
 */
#include "util/memory_limit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/kernel_file.h"
#include "util/text.h"

/* How one version of control groups spells it. */
struct spelling {
    const char *reclaimable;
    const char *swap; /* NULL: this version states no limit that would keep all of it out of swap */
    struct {
        const char *limit, *usage;
    } limits[2];
};
static const struct spelling v1 = {"total_inactive_file",
                                   NULL,
                                   {{"memory.limit_in_bytes", "memory.usage_in_bytes"},
                                    {"memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"}}};
static const struct spelling v2 = {
    "inactive_file", "memory.swap.max", {{"memory.max", "memory.current"}, {"memory.high", "memory.current"}}};

/* Called for this process's group, and for each above it up to the mount point. */
typedef void (*visit_group)(void *user, const char *directory, const struct spelling *s);

static bool number_in(const char *directory, const char *name, uint64_t *out) {
    char path[PATH_MAX];
    return snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path) && kernel_number(path, out);
}

/* Visits `directory`, which this cuts shorter and shorter, and all above it down to its first `keep` bytes. */
static void visit_ancestors(char *directory, size_t keep, const struct spelling *s, visit_group visit, void *user) {
    for (;;) {
        visit(user, directory, s);
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < keep)
            return;
        *slash = '\0';
    }
}

/* Paths in mountinfo spell space, tab, newline and backslash as three octal digits. */
static void unescape(char *s) {
    char *to = s;
    for (; *s; s++) {
        unsigned v;
        if (s[0] == '\\' && sscanf(s + 1, "%3o", &v) == 1) {
            *to++ = (char)v;
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static bool has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ',') && (p[n] == '\0' || p[n] == ',' || p[n] == '\n'))
            return true;
    return false;
}

/* This process's group in the hierarchy of the v1 controller "memory", or (v2) in the unified one. */
static bool own_group(const char *root, bool unified, char *out, size_t size) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    _cleanup_free_ char *line = NULL;
    size_t capacity = 0;
    while (f && getline(&line, &capacity, f) > 0) {
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        controllers++;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (unified ? *controllers == '\0' : has_word(controllers, "memory"))
            return snprintf(out, size, "%s", group) < (int)size;
    }
    return false;
}

/* One line: "36 35 98:0 ROOT MOUNTPOINT options ... - TYPE source SUPER_OPTIONS". */
static void visit_mount(const char *root, char *line, visit_group visit, void *user) {
    char *tail = strstr(line, " - ");
    char mount_root[PATH_MAX], mount_point[PATH_MAX], type[32], super_options[1024], group[PATH_MAX];
    if (!tail || sscanf(line, "%*s %*s %*s %4095s %4095s", mount_root, mount_point) != 2 ||
        sscanf(tail + 3, "%31s %*s %1023s", type, super_options) != 2)
        return;
    bool unified = strcmp(type, "cgroup2") == 0;
    if (!unified && (strcmp(type, "cgroup") != 0 || !has_word(super_options, "memory")))
        return;
    if (!own_group(root, unified, group, sizeof(group)))
        return;
    unescape(mount_root);
    unescape(mount_point);
    size_t skip = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    /* A group outside of what is mounted ("/../x", another container's): only the mount's own root can be seen. */
    bool visible =
        strncmp(group, mount_root, skip) == 0 && (group[skip] == '/' || !group[skip]) && !strstr(group, "/..");
    char directory[PATH_MAX * 2];
    snprintf(directory, sizeof(directory), "%s%s%s", root, mount_point, visible ? group + skip : "");
    size_t length = strlen(directory);
    while (length > 0 && directory[length - 1] == '/')
        directory[--length] = '\0';
    visit_ancestors(directory, strlen(root) + strlen(mount_point), unified ? &v2 : &v1, visit, user);
}

static void visit_groups(const char *root, visit_group visit, void *user) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    _cleanup_free_ char *line = NULL;
    size_t capacity = 0;
    while (f && getline(&line, &capacity, f) > 0)
        visit_mount(root, line, visit, user);
}

struct each {
    memory_limit_call call;
    void *user;
};

static void state_limit(void *user, const char *directory, const struct spelling *s) {
    const struct each *each = user;
    char stat[PATH_MAX];
    if (snprintf(stat, sizeof(stat), "%s/memory.stat", directory) >= (int)sizeof(stat))
        return;
    uint64_t reclaimable = kernel_keyed(stat, s->reclaimable);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t limit, usage;
        if (!number_in(directory, s->limits[i].limit, &limit) || !number_in(directory, s->limits[i].usage, &usage))
            continue;
        uint64_t used = usage > reclaimable ? usage - reclaimable : 0;
        struct memory_limit m = {.available = limit > used ? limit - used : 0, .limit = limit, .used = used};
        if (snprintf(m.source, sizeof(m.source), "%s/%s", directory, s->limits[i].limit) < (int)sizeof(m.source))
            each->call(each->user, &m);
    }
}

int memory_limit_each(const char *root, memory_limit_call call, void *user, struct hearth_error *err) {
    struct memory_limit machine = {.of_machine = true};
    snprintf(machine.source, sizeof(machine.source), "%s/proc/meminfo", root);
    static const char *const keys[] = {"MemTotal", "MemAvailable"};
    uint64_t values[2] = {0, 0};
    /* Without descriptors, too: that is not to look like no memory. */
    if (!kernel_keys(machine.source, keys, values, 2) && errno != ENOENT)
        return error_errno(err, errno, "cannot read how much memory there is from %s", machine.source);
    uint64_t total = values[0], available = values[1];
    if (total == 0)
        return error_set(err, HEARTH_E_SYSTEM, "cannot read how much memory there is from %s", machine.source);
    machine.limit = total * 1024;
    machine.available = (available < total ? available : total) * 1024;
    machine.used = machine.limit - machine.available;
    call(user, &machine);
    visit_groups(root, state_limit, &(struct each){call, user});
    return 0;
}

static void take_tightest(void *user, const struct memory_limit *m) {
    struct memory_limit *best = user;
    if (m->available < best->available)
        *best = *m;
}

int memory_limit_read(const char *root, struct memory_limit *out, struct hearth_error *err) {
    struct memory_limit best = {.available = UINT64_MAX};
    int r = memory_limit_each(root, take_tightest, &best, err);
    if (!r)
        *out = best;
    return r;
}

struct group_file {
    const char *name;
    char *out;
    size_t size;
    bool found;
};

/* The first one visited is the process's own. */
static void name_file(void *user, const char *directory, const struct spelling *s) {
    struct group_file *f = user;
    if (s == &v2 && !f->found)
        f->found = snprintf(f->out, f->size, "%s/%s", directory, f->name) < (int)f->size;
}

bool memory_group_file(const char *root, const char *name, char *out, size_t size) {
    struct group_file f = {name, out, size, false};
    visit_groups(root, name_file, &f);
    return f.found;
}

static void find_no_swap(void *user, const char *directory, const struct spelling *s) {
    bool *forbidden = user;
    uint64_t most;
    *forbidden |= s->swap && number_in(directory, s->swap, &most) && most == 0;
}

bool memory_swap_is_on(const char *root) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    return kernel_keyed(path, "SwapTotal") > 0;
}

bool memory_swap_is_forbidden(const char *root) {
    bool forbidden = false;
    visit_groups(root, find_no_swap, &forbidden);
    return forbidden;
}

uint64_t memory_pool_free(const char *root, uint64_t *page) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    uint64_t total = kernel_keyed(path, "HugePages_Total"), size = kernel_keyed(path, "Hugepagesize") * 1024;
    *page = total > 0 ? size : 0;
    return kernel_keyed(path, "HugePages_Free") * *page;
}

int memory_limit_check(const char *root, uint64_t needed, uint64_t beside, struct hearth_error *err) {
    struct memory_limit m;
    int r = memory_limit_read(root, &m, err);
    if (r)
        return r;
    m.available -= beside < m.available ? beside : m.available;
    if (needed <= m.available)
        return 0;
    char need[16], have[16], limit[16], used[16], kept[16];
    r = error_set(err, HEARTH_E_TOO_LARGE, "loading needs %s of memory, and %s allows %s more",
                  format_size(needed, need, sizeof(need)), m.source, format_size(m.available, have, sizeof(have)));
    error_expected(err, "at most %" PRIu64 " bytes (of %s, %s are used, and %s kept free)", m.available,
                   format_size(m.limit, limit, sizeof(limit)), format_size(m.used, used, sizeof(used)),
                   format_size(beside, kept, sizeof(kept)));
    error_found(err, "%" PRIu64 " bytes", needed);
    if (m.of_machine)
        error_hint(err, "evict what is not needed, or free memory elsewhere");
    else
        error_hint(err, "evict what is not needed, or raise the limit in %s", m.source);
    return r;
}
