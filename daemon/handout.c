/* daemon/handout.c: see handout.h. */
#include "daemon/handout.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/error.h"
#include "util/memfd.h"

void handout_init(struct handout *h, unsigned spares_max) {
    *h = (struct handout){.spares_max = spares_max};
    TAILQ_INIT(&h->recent);
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

int handout_take(struct handout *h, struct generation *g, bool index, const uint32_t *files, size_t n,
                 struct fdlist *out, struct hearth_error *err) {
    for (size_t i = 0; i < n + index; i++) {
        size_t slot = slot_of(index, files, i);
        int fd = -1;
        if (g->spares.fds && slot < g->spares.count && g->spares.fds[slot] >= 0) {
            fd = g->spares.fds[slot];
            g->spares.fds[slot] = -1;
            h->spares--;
        } else {
            fd = memfd_reopen_readonly(original(g, slot));
        }
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

void handout_refill(struct handout *h, struct generation *g, bool index, const uint32_t *files, size_t n) {
    struct spares *s = &g->spares;
    if (!s->fds) {
        size_t slots = g->resident->n_blobs + 1;
        s->count = slots < SPARES_PER_GENERATION ? (unsigned)slots : SPARES_PER_GENERATION;
        s->fds = malloc(s->count * sizeof(*s->fds));
        if (!s->fds)
            return;
        for (unsigned i = 0; i < s->count; i++)
            s->fds[i] = -1;
    }
    if (s->listed)
        TAILQ_REMOVE(&h->recent, g, spares.recent);
    TAILQ_INSERT_HEAD(&h->recent, g, spares.recent);
    s->listed = true;
    for (size_t i = 0; i < n + index; i++) {
        size_t slot = slot_of(index, files, i);
        if (slot >= s->count || s->fds[slot] >= 0)
            continue;
        make_room(h, g);
        if (h->spares >= h->spares_max)
            return;
        int fd = memfd_reopen_readonly(original(g, slot));
        if (fd < 0)
            return;
        s->fds[slot] = fd;
        h->spares++;
    }
}

void handout_drop(struct handout *h, struct generation *g) {
    struct spares *s = &g->spares;
    for (unsigned i = 0; s->fds && i < s->count; i++)
        if (s->fds[i] >= 0) {
            close(s->fds[i]);
            s->fds[i] = -1;
            h->spares--;
        }
    if (s->listed)
        TAILQ_REMOVE(&h->recent, g, spares.recent);
    s->listed = false;
}
