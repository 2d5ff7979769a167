/* cli/doctor_memory.c: huge pages, the limits of memory, swap, and a host that takes memory back. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/error.h"
#include "util/huge_pages.h"
#include "util/kernel_file.h"
#include "util/memory_limit.h"
#include "util/page_reporting.h"
#include "util/text.h"

#define LITTLE_BYTES (UINT64_C(1) << 30)
#define LOCKED_BYTES (UINT64_C(1) << 40)
#define NOTHING_BYTES (UINT64_C(64) << 20)
/* From here on fresh memory waits for the host, and not only for the kernel to zero it. */
#define SUPPLY_FACTOR 2.0

/* ---- huge pages ---- */

static void cost_of_small_pages(const struct doctor *d, struct finding *f) {
    if (d->rates.small > 0 && d->rates.huge > 0)
        finding_cost(f, "memory comes at %.1f GB/s on small pages, and at %.1f GB/s on huge ones", d->rates.small / 1e9,
                     d->rates.huge / 1e9);
    else
        finding_cost(f, "loading takes more CPU time, and programs that map artifacts meet more page faults");
}

static void check_shared_huge_pages(struct doctor *d) {
    struct huge_pages h;
    struct finding *f;
    char size[16];
    huge_pages_read(d->root, (uint64_t)sysconf(_SC_PAGESIZE), &h);
    format_size(h.bytes, size, sizeof(size));
    switch (h.shmem) {
    case SHMEM_HUGE_GIVEN:
        finding_add(d, "huge pages", LEVEL_OK, "of %s for shared memory: shmem_enabled is %s", size, h.word);
        return;
    case SHMEM_HUGE_COLLAPSE:
        f = finding_add(d, "huge pages", LEVEL_NOTE,
                        "of %s for shared memory, by MADV_COLLAPSE: shmem_enabled is never", size);
        finding_cost(f, "programs that map an artifact without libhearth get small pages of it");
        break;
    case SHMEM_HUGE_DENIED:
        f = finding_add(d, "huge pages", LEVEL_WARNING, "none for shared memory: shmem_enabled is deny");
        cost_of_small_pages(d, f);
        break;
    default:
        f = finding_add(d, "huge pages", LEVEL_WARNING, "this kernel has none for shared memory");
        cost_of_small_pages(d, f);
        return;
    }
    finding_mend(f, "echo advise | sudo tee " HUGE_PAGES_FOLDER "/shmem_enabled");
}

static void check_pool(struct doctor *d) {
    uint64_t page;
    char free_bytes[16], size[16];
    uint64_t free_pool = memory_pool_free(d->root, &page);
    if (page > 0)
        finding_add(d, "hugetlb pool", LEVEL_OK, "%s free, in pages of %s", format_size(free_pool, free_bytes, 16),
                    format_size(page, size, sizeof(size)));
    else
        finding_add(d, "hugetlb pool", LEVEL_OK, "none; only backing = hugetlb would use one");
}

void check_huge_pages(struct doctor *d) {
    char path[PATH_MAX], word[32];
    check_shared_huge_pages(d);
    snprintf(path, sizeof(path), "%s" HUGE_PAGES_FOLDER "/enabled", d->root);
    if (kernel_word(path, word, sizeof(word)) && strcmp(word, "never") == 0) {
        struct finding *f =
            finding_add(d, "huge pages, private", LEVEL_NOTE, "none: transparent_hugepage/enabled is never");
        finding_cost(f, "a reserve is made of small pages, and takes longer to fill");
        finding_mend(f, "echo madvise | sudo tee " HUGE_PAGES_FOLDER "/enabled");
    }
    check_pool(d);
}

/* ---- limits ---- */

static void add_limit(void *user, const struct memory_limit *m) {
    struct doctor *d = user;
    char available[16], limit[16];
    format_size(m->available, available, sizeof(available));
    format_size(m->limit, limit, sizeof(limit));
    /* Version 1 has no word for "no limit", but the largest number of whole pages. */
    if (m->limit >= (UINT64_C(1) << 62))
        return;
    enum level level = m->available < NOTHING_BYTES  ? LEVEL_PROBLEM
                       : m->available < LITTLE_BYTES ? LEVEL_WARNING
                                                     : LEVEL_OK;
    struct finding *f = finding_add(d, m->of_machine ? "memory" : "memory limit", level, "%s of %s available%s%s",
                                    available, limit, m->of_machine ? "" : ": ", m->of_machine ? "" : m->source);
    if (level == LEVEL_OK)
        return;
    finding_cost(f, "what hearthd may load is bounded by it");
    if (!m->of_machine)
        finding_mend(f, "raise MemoryMax= of the unit, docker run --memory, or the limit in %s", m->source);
}

void check_memory_limits(struct doctor *d) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    if (memory_limit_each(d->root, add_limit, d, &err))
        finding_add(d, "memory", LEVEL_WARNING, "%s", err.message);
}

/* ---- swap ---- */

bool probe_locking(void) {
    /* Nothing of it is ever touched, so that it is only counted. */
    void *at = mmap(NULL, LOCKED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool may = at != MAP_FAILED && mlock2(at, LOCKED_BYTES, MLOCK_ONFAULT) == 0;
    if (at != MAP_FAILED)
        munmap(at, LOCKED_BYTES);
    return may;
}

void check_swap(struct doctor *d, bool may_lock) {
    char path[PATH_MAX], used[16], size[16];
    struct finding *f;
    snprintf(path, sizeof(path), "%s/proc/meminfo", d->root);
    uint64_t total = kernel_keyed(path, "SwapTotal") * 1024, left = kernel_keyed(path, "SwapFree") * 1024;
    format_size(total, size, sizeof(size));
    format_size(total > left ? total - left : 0, used, sizeof(used));
    if (!memory_swap_is_on(d->root)) {
        finding_add(d, "swap", LEVEL_OK, "there is none: what is resident stays in memory");
        return;
    }
    if (memory_swap_is_forbidden(d->root)) {
        finding_add(d, "swap", LEVEL_OK, "%s of %s used; kept out of it by a control group's memory.swap.max = 0", used,
                    size);
        return;
    }
    if (may_lock) {
        finding_add(d, "swap", LEVEL_OK, "%s of %s used; hearthd may lock what is resident, and does", used, size);
        return;
    }
    f = finding_add(d, "swap", LEVEL_WARNING, "%s of %s used, and what is resident may be swapped out", used, size);
    finding_cost(f, "a warm start may wait for the disk");
    finding_mend(f, "ulimit -l unlimited, or systemctl enable --now hearthd.socket: its unit has MemorySwapMax=0");
}

/* ---- the host ---- */

void check_page_reporting(struct doctor *d) {
    const struct doctor_rates *r = &d->rates;
    if (!page_reporting(d->root)) {
        finding_add(d, "free memory", LEVEL_OK, "it is not given back to a host: a reserve would not pay");
        return;
    }
    char reserve[16];
    if (d->reserve > 0) {
        finding_add(d, "free memory", LEVEL_OK, "the host takes it back; the daemon's reserve is %s",
                    format_size(d->reserve, reserve, sizeof(reserve)));
        return;
    }
    bool measured = r->fresh > 0 && r->again > 0;
    bool slow = measured && r->again > SUPPLY_FACTOR * r->fresh;
    struct finding *f = finding_add(d, "free memory", slow ? LEVEL_WARNING : LEVEL_NOTE,
                                    "the host takes it back (free page reporting), and supplies it again when used");
    if (measured)
        finding_cost(f, "memory came at %.1f GB/s, and at %.1f GB/s when it had just been freed%s", r->fresh / 1e9,
                     r->again / 1e9, slow ? ": cold loads wait for the host" : "; it was not cold this time");
    else
        finding_cost(f, "a cold load may wait for the host, for seconds per GiB");
    finding_mend(f, "reserve = SIZE in hearthd.conf, SIZE being the largest artifact that is loaded cold");
}
