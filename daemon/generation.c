/* daemon/generation.c: see generation.h. */
#include "daemon/generation.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/clock.h"

static uint64_t newest;

uint64_t generation_random_id(void) {
    uint64_t id;
    if (getrandom(&id, sizeof(id), 0) != sizeof(id))
        id = clock_now() * UINT64_C(0x9e3779b97f4a7c15);
    return id & ((UINT64_C(1) << 48) - 1);
}

struct hearth_span span_since(struct hearth_span s, uint64_t start) {
    return (struct hearth_span){s.start_ns > start ? s.start_ns - start : 0, s.end_ns > start ? s.end_ns - start : 0};
}

struct generation *generation_new(uint64_t id, const struct load_spec *spec) {
    struct generation *g = calloc(1, sizeof(*g));
    if (!g || !(g->spec = load_spec_copy(spec))) {
        free(g);
        return NULL;
    }
    g->id = id;
    g->number = ++newest;
    g->state = HEARTH_STATE_RESOLVING;
    g->start_ns = clock_now();
    TAILQ_INIT(&g->waiters);
    return g;
}

uint64_t generation_newest(void) {
    return newest;
}

struct generation *generation_free(struct generation *g) {
    load_spec_free(g->spec);
    artifact_free(g->artifact);
    if (g->lookup)
        store_lookup_drop(g->lookup);
    records_free(g->records, g->n_files);
    resident_free(g->resident);
    resident_free(g->retirement.resident);
    free(g->reason);
    free(g->spares.fds);
    free(g);
    return NULL;
}

bool generation_streams(const struct generation *g) {
    return g->load && load_streams(g->load);
}

void generation_info(const struct generation *g, uint64_t now, struct hearth_msg_info *out) {
    bool under_way = g->state < HEARTH_STATE_RESIDENT;
    *out = (struct hearth_msg_info){
        .id = g->id,
        .state = g->state,
        .flags = (g->stale ? HEARTH_INFO_STALE : 0) | (generation_streams(g) ? HEARTH_INFO_STREAMS : 0),
        .bytes = g->bytes,
        .n_files = g->n_files,
        .leases = g->leases,
        .seconds_ns = under_way ? now - g->start_ns : g->seconds_ns,
    };
    if (g->state == HEARTH_STATE_QUEUED) {
        out->waits_for = g->waits;
        out->lacks = g->lacks;
    }
    out->flags |= g->pinned ? HEARTH_INFO_PINNED : 0;
    out->flags |= g->preload ? HEARTH_INFO_PRELOAD : 0;
    out->flags |= under_way && g->background ? HEARTH_INFO_BACKGROUND : 0;
    out->phases[HEARTH_PHASE_RESOLVE] = g->resolved;
    if (g->load)
        out->bytes_done = load_progress(g->load);
    const struct resident *r = g->resident;
    if (g->state == HEARTH_STATE_GONE) {
        out->flags |= HEARTH_INFO_HELD;
        out->resident_bytes = g->charged.bytes;
    }
    if (!r)
        return;
    out->verified = r->verified;
    out->backing = r->backing;
    out->flags |= r->direct_io ? HEARTH_INFO_DIRECT_IO : 0;
    out->resident_bytes = g->charged.bytes;
    out->huge_bytes = r->huge_bytes;
    out->bytes_done = r->bytes;
    out->from_disk = r->from_disk;
    out->from_page_cache = r->from_page_cache;
    memcpy(out->phases, r->phases, sizeof(out->phases));
}

void generation_info_for(const struct generation *g, const struct waiter *w, uint64_t now,
                         struct hearth_msg_info *out) {
    generation_info(g, now, out);
    if (w->shared)
        out->flags |= HEARTH_INFO_SHARED;
    out->seconds_ns = now - w->start_ns;
    if (w->found_resident) { /* the request cost a look at the files, and no more */
        out->from_resident = g->bytes;
        out->from_disk = out->from_page_cache = 0;
        memset(out->phases, 0, sizeof(out->phases));
        out->phases[HEARTH_PHASE_RESOLVE] = w->resolve;
    } else if (g->state == HEARTH_STATE_RESIDENT) {
        uint64_t sealed = out->phases[HEARTH_PHASE_SEAL].end_ns;
        out->phases[HEARTH_PHASE_PUBLISH] = (struct hearth_span){sealed, now - g->start_ns};
    }
}

bool generation_is_stale(const struct generation *g, const struct load_spec *spec, const struct artifact *now) {
    if (!g->resident)
        return false;
    const struct artifact *then = g->resident->artifact;
    size_t shared = 0;
    /* Both are sorted by path. */
    for (size_t i = 0, j = 0; i < then->n_files && j < now->n_files;) {
        int order = strcmp(then->files[i].path, now->files[j].path);
        if (order == 0) {
            if (!file_identity_equal(&then->files[i].identity, &now->files[j].identity))
                return true;
            shared++;
        }
        i += order <= 0;
        j += order >= 0;
    }
    return load_spec_same_files(g->spec, spec) && (shared != then->n_files || shared != now->n_files);
}
