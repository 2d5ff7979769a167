/* daemon/status.c: what a daemon says of itself. Everything in it is at hand, or is asked of the kernel's own files: no
 * storage is. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "daemon/internal.h"
#include "util/clock.h"
#include "util/memory_limit.h"
#include "util/text.h"

#define STATE_TEXT_BYTES 1536
/* Storage that has not answered for so long is told of. */
#define STALLED_NS (2 * NS_PER_S)

static const char *direct_io(const struct daemon *d, char *out, size_t size) {
    if (!d->loads_direct && !d->loads_buffered)
        return "unknown";
    if (!d->loads_buffered)
        return "yes";
    snprintf(out, size, "%s: %s", d->loads_direct ? "partly" : "no", d->not_direct);
    return out;
}

/* What storage has not answered for some seconds, "" when there is nothing. Paths are for those who may do everything.
 */
static const char *stalled(const struct daemon *d, struct ipc_peer *p, char *out, size_t size) {
    struct stalled s;
    uint64_t now = clock_now(), since;
    char took[16], at[32] = "";
    bool found = engine_stalled(d->engine, STALLED_NS, &s);
    const char *path = s.path, *ref = resolver_oldest(d->resolver, &since);
    if (ref && since + STALLED_NS <= now && (!found || since < s.since_ns)) {
        found = true;
        path = ref;
        s.since_ns = since;
        s.offset = HEARTH_NO_OFFSET;
    }
    if (!found)
        return "";
    if (s.offset != HEARTH_NO_OFFSET)
        snprintf(at, sizeof(at), " at %" PRIu64, s.offset);
    format_duration(now - s.since_ns, took, sizeof(took));
    snprintf(out, size, "%.1000s%s, for %s", access_who(p) ? "a file" : path, at, took);
    return out;
}

/* Swap may be switched on and off at any time; to ask is to read one file of the kernel's. */
static const char *describe_swap(const struct daemon *d, uint64_t swappable, char *out, size_t size) {
    char bytes[16];
    if (!memory_swap_is_on(""))
        return "off";
    if (d->swap_forbidden)
        return "kept out by MemorySwapMax=0";
    if (swappable == 0)
        return "kept out: what is resident is locked";
    snprintf(out, size, "%s of what is resident can be swapped out", format_size(swappable, bytes, sizeof(bytes)));
    return out;
}

void daemon_status(void *user, struct ipc_peer *p, uint32_t serial) {
    struct daemon *d = user;
    struct hearth_msg_status_reply m = {
        .pid = (uint32_t)getpid(),
        .clients = ipc_server_peers(d->server),
        .leases = d->leases,
        .budget_bytes = d->budget.limit.bytes,
        .uptime_ns = clock_now() - d->start_ns,
        .reserve_bytes = d->options.reserve,
        .reserve_held_bytes = engine_held(d->engine),
        .fds_used = d->budget.used.fds,
        .fds_limit = d->budget.limit.fds,
        .queued = artifacts_queued(d->artifacts),
        .flags = d->pins_known ? 0 : HEARTH_STATUS_STARTING,
    };
    uint64_t swappable = 0;
    for (struct generation *g = NULL; (g = artifacts_next(d->artifacts, g));) {
        m.artifacts += g->state <= HEARTH_STATE_RESIDENT;
        bool gone = g->state == HEARTH_STATE_GONE;
        m.resident_bytes += g->resident || gone ? g->charged.bytes : 0;
        m.held_bytes += gone ? g->charged.bytes : 0;
        m.pinned_bytes += g->resident && g->pinned ? g->charged.bytes : 0;
        swappable += g->resident ? g->resident->swappable_bytes : 0;
    }
    char direct[96], waits[1100], swap[64], state[STATE_TEXT_BYTES];
    store_describe(d->store, state, sizeof(state));
    const struct ipc_status_texts texts = {.version = HEARTH_VERSION,
                                           .socket = ipc_server_path(d->server),
                                           .reader = d->reader,
                                           .direct_io = direct_io(d, direct, sizeof(direct)),
                                           .backing = d->backing,
                                           .configuration = d->configuration,
                                           .swap = describe_swap(d, swappable, swap, sizeof(swap)),
                                           .state = state,
                                           .stalled = stalled(d, p, waits, sizeof(waits))};
    ipc_reply_status(p, serial, &m, &texts);
}
