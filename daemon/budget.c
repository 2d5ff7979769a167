/* daemon/budget.c: see budget.h. */
#include "daemon/budget.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "util/error.h"
#include "util/memory_limit.h"
#include "util/text.h"

#define DEFAULT_SHARE_PERCENT 80
/* Descriptors that are not artifacts': connections, their queued replies, rings, pipes to parsers, files being read. */
#define FDS_KEPT_SHARE 5
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

struct charge charge_plus(struct charge a, struct charge b) {
    struct charge c;
    if (__builtin_add_overflow(a.bytes, b.bytes, &c.bytes))
        c.bytes = UINT64_MAX;
    if (__builtin_add_overflow(a.fds, b.fds, &c.fds))
        c.fds = UINT64_MAX;
    return c;
}

struct charge charge_minus(struct charge a, struct charge b) {
    return (struct charge){a.bytes > b.bytes ? a.bytes - b.bytes : 0, a.fds > b.fds ? a.fds - b.fds : 0};
}

bool charge_is_none(struct charge c) {
    return c.bytes == 0 && c.fds == 0;
}

bool charge_fits(struct charge c, struct charge limit) {
    return c.bytes <= limit.bytes && c.fds <= limit.fds;
}

struct charge budget_lacking(const struct budget *b, struct charge more) {
    return charge_minus(charge_plus(b->used, more), b->limit);
}

/* "40.0 GiB of the budget of 48.0 GiB are pinned, and 2.0 GiB more are in use" */
static void describe_bytes(const struct budget *b, struct charge pinned, struct charge busy, char *text, size_t size) {
    char limit[16], kept[16], more[16];
    format_size(b->limit.bytes, limit, sizeof(limit));
    format_size(pinned.bytes, kept, sizeof(kept));
    format_size(busy.bytes, more, sizeof(more));
    if (pinned.bytes && busy.bytes)
        snprintf(text, size, "%s of the budget of %s are pinned or in other users' shares, and %s more are in use",
                 kept, limit, more);
    else if (pinned.bytes)
        snprintf(text, size, "%s of the budget of %s are pinned or in other users' shares", kept, limit);
    else
        snprintf(text, size, "%s of the budget of %s are in use", more, limit);
}

static int refuse_bytes(const struct budget *b, struct charge c, struct charge pinned, struct charge busy,
                        const char *what, struct hearth_error *err) {
    char asked[16], others[128];
    uint64_t left = charge_minus(b->limit, charge_plus(pinned, busy)).bytes;
    format_size(c.bytes, asked, sizeof(asked));
    describe_bytes(b, pinned, busy, others, sizeof(others));
    error_set(err, HEARTH_E_TOO_LARGE, "%.256s needs %s, and %s", what, asked, others);
    error_at(err, what, HEARTH_NO_OFFSET);
    error_expected(err, "at most %" PRIu64 " bytes", left);
    error_found(err, "%" PRIu64 " bytes", c.bytes);
    if (c.bytes > b->limit.bytes)
        error_hint(err, "raise `budget` above %s, or load fewer files with --include", asked);
    else if (pinned.bytes)
        error_hint(err, "unpin something (hearth ls; hearth unpin REF), or raise `budget`");
    else
        error_hint(err, "evict something (hearth ls; hearth evict ID), or raise `budget`");
    return HEARTH_E_TOO_LARGE;
}

static int refuse_fds(const struct budget *b, struct charge c, struct charge pinned, struct charge busy,
                      const char *what, struct hearth_error *err) {
    uint64_t left = charge_minus(b->limit, charge_plus(pinned, busy)).fds;
    error_set(err, HEARTH_E_NO_FDS,
              "%.256s needs %" PRIu64 " descriptors, and of %" PRIu64 ", %" PRIu64
              " are pinned or in other users' shares and %" PRIu64 " in use otherwise",
              what, c.fds, b->limit.fds, pinned.fds, busy.fds);
    error_at(err, what, HEARTH_NO_OFFSET);
    error_expected(err, "at most %" PRIu64 " descriptors", left);
    error_found(err, "%" PRIu64 " descriptors", c.fds);
    error_hint(err, "raise the hard limit on open files (ulimit -Hn, LimitNOFILE=), or %s something",
               pinned.fds ? "unpin" : "evict");
    return HEARTH_E_NO_FDS;
}

int budget_charge(struct budget *b, struct charge c, const char *what, struct hearth_error *err) {
    struct charge lacking = budget_lacking(b, c);
    if (lacking.bytes)
        return refuse_bytes(b, c, (struct charge){0, 0}, b->used, what, err);
    if (lacking.fds)
        return refuse_fds(b, c, (struct charge){0, 0}, b->used, what, err);
    b->used = charge_plus(b->used, c);
    return 0;
}

int budget_refuse(const struct budget *b, struct charge c, struct charge pinned, struct charge busy, const char *what,
                  struct hearth_error *err) {
    struct charge with_pins = charge_plus(c, pinned);
    if (with_pins.bytes > b->limit.bytes)
        return refuse_bytes(b, c, pinned, busy, what, err);
    if (with_pins.fds > b->limit.fds)
        return refuse_fds(b, c, pinned, busy, what, err);
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
