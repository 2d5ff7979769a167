/* daemon/handout.c: see handout.h. */
#include "daemon/handout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/memfd.h"

void handout_init(struct handout *h, unsigned spares_max) {
    *h = (struct handout){.spares_max = spares_max, .own_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    TAILQ_INIT(&h->recent);
}

void handout_deinit(struct handout *h) {
    h->own_fds = close_fd(h->own_fds);
}

/* The description that a slot's are made from: slot 0 is the index. */
static int original(const struct generation *g, size_t slot) {
    return slot == 0 ? g->resident->index_fd : g->resident->blobs[slot - 1].fd;
}

/* The slot of the i-th descriptor of a request. */
static size_t slot_of(bool index, const uint32_t *files, size_t i) {
    if (index)
        return i == 0 ? 0 : slot_of(false, files, i - 1);
    return (files ? files[i] : i) + 1;
}

/* What a slot without a spare holds. */
enum { NEVER_TAKEN = -1, TAKEN = -2 };

static bool has_spares(struct generation *g) {
    struct spares *s = &g->spares;
    if (s->fds)
        return true;
    size_t slots = g->resident->n_blobs + 1;
    s->count = slots < SPARES_PER_GENERATION ? (unsigned)slots : SPARES_PER_GENERATION;
    s->fds = malloc(s->count * sizeof(*s->fds));
    for (unsigned i = 0; s->fds && i < s->count; i++)
        s->fds[i] = NEVER_TAKEN;
    return s->fds;
}

static void list_first(struct handout *h, struct generation *g) {
    if (g->spares.listed)
        TAILQ_REMOVE(&h->recent, g, spares.recent);
    TAILQ_INSERT_HEAD(&h->recent, g, spares.recent);
    g->spares.listed = g->spares.due = h->taken = h->due = true;
}

int handout_take(struct handout *h, struct generation *g, bool index, const uint32_t *files, size_t n,
                 struct fdlist *out, struct hearth_error *err) {
    bool spares = has_spares(g);
    if (spares)
        list_first(h, g);
    for (size_t i = 0; i < n + index; i++) {
        size_t slot = slot_of(index, files, i);
        int *spare = spares && slot < g->spares.count ? &g->spares.fds[slot] : NULL;
        int fd = spare ? *spare : -1;
        h->spares -= fd >= 0;
        if (fd < 0)
            fd = memfd_reopen_in(h->own_fds, original(g, slot));
        if (spare)
            *spare = TAKEN;
        int r = fd < 0 ? fd : fdlist_push(out, fd);
        if (r < 0)
            return error_errno(err, -r, "a descriptor cannot be made for the client");
    }
    return 0;
}

static void make_room(struct handout *h, const struct generation *keep) {
    struct generation *oldest;
    while (h->spares >= h->spares_max && (oldest = TAILQ_LAST(&h->recent, recent_list)) && oldest != keep)
        handout_drop(h, oldest);
}

static void refill(struct handout *h, struct generation *g) {
    struct spares *s = &g->spares;
    s->due = false;
    for (unsigned i = 0; i < s->count; i++) {
        if (s->fds[i] != TAKEN)
            continue;
        make_room(h, g);
        int fd = h->spares < h->spares_max ? memfd_reopen_in(h->own_fds, original(g, i)) : -1;
        if (fd < 0)
            return;
        s->fds[i] = fd;
        h->spares++;
    }
}

bool handout_turn(struct handout *h) {
    if (h->taken) {
        h->taken = false;
        return true;
    }
    if (!h->due)
        return false;
    h->due = false;
    /* Those that are due come first. Making room takes others away, from the end. */
    struct generation *g = TAILQ_FIRST(&h->recent);
    for (; g && g->spares.due; g = TAILQ_NEXT(g, spares.recent))
        refill(h, g);
    return false;
}

void handout_drop(struct handout *h, struct generation *g) {
    struct spares *s = &g->spares;
    for (unsigned i = 0; s->fds && i < s->count; i++)
        if (s->fds[i] >= 0) {
            close(s->fds[i]);
            s->fds[i] = NEVER_TAKEN;
            h->spares--;
        }
    if (s->listed)
        TAILQ_REMOVE(&h->recent, g, spares.recent);
    s->listed = s->due = false;
}
