/* daemon/budget.c: see budget.h. */
#include "daemon/budget.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "util/error.h"
#include "util/memory_limit.h"
#include "util/text.h"

#define DEFAULT_SHARE_PERCENT 80
/* Descriptors that are not artifacts': connections, their queued replies, rings, pipes to parsers, files being read. */
#define FDS_KEPT_SHARE 4
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20) /* unless a pool has larger ones */

int budget_set(struct budget *b, uint64_t bytes, bool pool, struct hearth_error *err) {
    uint64_t page = 0, free_pool = pool ? memory_pool_free("", &page) : 0;
    if (!bytes) {
        struct memory_limit memory;
        int r = memory_limit_read("", &memory, err);
        if (r)
            return r;
        bytes = (memory.available + b->used.bytes) / 100 * DEFAULT_SHARE_PERCENT + free_pool;
    }
    b->limit.bytes = bytes;
    b->huge_page = page > HUGE_PAGE_BYTES ? page : HUGE_PAGE_BYTES;
    return 0;
}

int budget_init(struct budget *b, uint64_t bytes, bool pool, struct hearth_error *err) {
    struct rlimit nofile;
    if (getrlimit(RLIMIT_NOFILE, &nofile) < 0)
        return error_errno(err, errno, "the limit on descriptors cannot be read");
    /* No select(2) is used here or in any library linked, so that numbers above 1023 are safe. */
    nofile.rlim_cur = nofile.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &nofile) < 0)
        return error_errno(err, errno, "the limit on descriptors cannot be raised");
    *b = (struct budget){.limit.fds = nofile.rlim_cur - nofile.rlim_cur / FDS_KEPT_SHARE};
    return budget_set(b, bytes, pool, err);
}

struct charge budget_estimate(const struct budget *b, const struct artifact *a) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    /* The index beside the files. */
    struct charge c = {.fds = a->n_files + 1 + BUDGET_FDS_WAITING};
    for (size_t i = 0; i < a->n_files; i++) {
        uint64_t bytes = a->files[i].identity.bytes;
        uint64_t unit = bytes >= b->huge_page ? b->huge_page : page;
        if (__builtin_add_overflow(c.bytes, (bytes + unit - 1) / unit * unit, &c.bytes) || bytes > UINT64_MAX - unit)
            return (struct charge){.bytes = UINT64_MAX, .fds = c.fds};
    }
    return c;
}

bool budget_could_fit(const struct budget *b, struct charge c) {
    return c.bytes <= b->limit.bytes && c.fds <= b->limit.fds;
}

static bool fits(uint64_t asked, uint64_t used, uint64_t limit) {
    return used <= limit && asked <= limit - used;
}

int budget_charge(struct budget *b, struct charge c, const char *what, struct hearth_error *err) {
    char asked[16], used[16], limit[16];
    if (!fits(c.bytes, b->used.bytes, b->limit.bytes)) {
        format_size(c.bytes, asked, sizeof(asked));
        format_size(b->used.bytes, used, sizeof(used));
        format_size(b->limit.bytes, limit, sizeof(limit));
        error_set(err, HEARTH_E_TOO_LARGE, "%.256s needs %s, and %s of the budget of %s are in use", what, asked, used,
                  limit);
        error_at(err, what, HEARTH_NO_OFFSET);
        error_expected(err, "at most %" PRIu64 " bytes",
                       b->limit.bytes > b->used.bytes ? b->limit.bytes - b->used.bytes : 0);
        error_found(err, "%" PRIu64 " bytes", c.bytes);
        if (budget_could_fit(b, c))
            error_hint(err, "evict something (hearth ls; hearth evict ID), or raise `budget`");
        else
            error_hint(err, "raise `budget` above %s, or load fewer files with --include", asked);
        return HEARTH_E_TOO_LARGE;
    }
    if (!fits(c.fds, b->used.fds, b->limit.fds)) {
        error_set(err, HEARTH_E_NO_FDS,
                  "%.256s needs %" PRIu64 " descriptors, and %" PRIu64 " of %" PRIu64 " are in use", what, c.fds,
                  b->used.fds, b->limit.fds);
        error_at(err, what, HEARTH_NO_OFFSET);
        error_expected(err, "at most %" PRIu64 " descriptors",
                       b->limit.fds > b->used.fds ? b->limit.fds - b->used.fds : 0);
        error_found(err, "%" PRIu64 " descriptors", c.fds);
        error_hint(err, "raise the hard limit on open files (ulimit -Hn, LimitNOFILE=), or evict something");
        return HEARTH_E_NO_FDS;
    }
    b->used.bytes += c.bytes;
    b->used.fds += c.fds;
    return 0;
}

uint64_t budget_room(const struct budget *b) {
    return b->limit.bytes > b->used.bytes ? b->limit.bytes - b->used.bytes : 0;
}

void budget_refund(struct budget *b, struct charge c) {
    b->used.bytes -= c.bytes;
    b->used.fds -= c.fds;
}

void budget_settle(struct budget *b, struct charge *charged, struct charge actual) {
    budget_refund(b, *charged);
    b->used.bytes += actual.bytes;
    b->used.fds += actual.fds;
    *charged = actual;
}
