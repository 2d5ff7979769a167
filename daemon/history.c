/* daemon/history.c: see history.h. */
#include "daemon/history.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"

/* As many as are fetched and sent at a time: at most 1 MiB, of the 8 that may wait for a client. */
#define PAGE_ITEMS 64u

struct retrospect {
    STAILQ_ENTRY(retrospect) link;
    struct store *store;
    struct client *client;
    uint32_t serial, left;
    uint64_t count;
    int64_t before;            /* the number of the one that was sent last */
    char *ref;                 /* NULL: all */
    struct store_query *query; /* NULL: waits for its turn, or for room */
};

static void take_page(void *user, const struct store_past *items, size_t n);

static void remove_first(struct client *c) {
    struct retrospect *r = STAILQ_FIRST(&c->retrospects);
    STAILQ_REMOVE_HEAD(&c->retrospects, link);
    free(r->ref);
    free(r);
}

static void fail(struct client *c, uint32_t serial) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_NO_MEMORY, "no memory to look at past loads");
    ipc_reply_error(c->peer, serial, &err);
}

void history_go_on(struct client *c) {
    for (struct retrospect *r; (r = STAILQ_FIRST(&c->retrospects)) && !r->query;) {
        size_t page = r->left < PAGE_ITEMS ? r->left : PAGE_ITEMS;
        if (store_history_find(r->store, r->ref, r->before, page, take_page, r, &r->query) == 0)
            return;
        fail(c, r->serial);
        remove_first(c);
    }
}

static void take_page(void *user, const struct store_past *items, size_t n) {
    struct retrospect *r = user;
    struct client *c = r->client;
    bool last = n < PAGE_ITEMS || r->left <= n;
    r->query = NULL;
    for (size_t i = 0; i < n; i++)
        ipc_reply_past(c->peer, r->serial, items[i].ended_ns, &items[i].info, items[i].ref, &items[i].error);
    r->count += n;
    r->left -= (uint32_t)n;
    if (!last) {
        r->before = items[n - 1].number;
        ipc_peer_await_room(c->peer);
        return;
    }
    ipc_reply_done(c->peer, r->serial, r->count);
    remove_first(c);
    history_go_on(c);
}

void history_ask(struct store *store, struct client *c, uint32_t serial, const char *ref, uint32_t limit) {
    struct retrospect *r = calloc(1, sizeof(*r));
    if (!r || (ref[0] && !(r->ref = strdup(ref)))) {
        free(r);
        fail(c, serial);
        return;
    }
    r->store = store;
    r->client = c;
    r->serial = serial;
    r->left = limit;
    r->before = INT64_MAX;
    STAILQ_INSERT_TAIL(&c->retrospects, r, link);
    history_go_on(c);
}

void history_forget(struct client *c) {
    while (!STAILQ_EMPTY(&c->retrospects)) {
        struct retrospect *r = STAILQ_FIRST(&c->retrospects);
        if (r->query)
            store_query_drop(r->query);
        remove_first(c);
    }
}
