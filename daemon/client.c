/* daemon/client.c: see client.h. */
#include "daemon/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"

struct client *client_of(struct client_list *all, struct ipc_peer *p) {
    struct client *c = ipc_peer_data(p);
    if (c)
        return c;
    c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->peer = p;
    c->leases = c->inline_leases;
    c->capacity = LEASES_INLINE;
    STAILQ_INIT(&c->listings);
    STAILQ_INIT(&c->retrospects);
    LIST_INSERT_HEAD(all, c, link);
    ipc_peer_set_data(p, c);
    return c;
}

void client_free(struct client *c) {
    LIST_REMOVE(c, link);
    while (!STAILQ_EMPTY(&c->listings))
        client_list_remove(c);
    ipc_peer_set_data(c->peer, NULL);
    if (c->leases != c->inline_leases)
        free(c->leases);
    free(c);
}

struct lease *client_lease(struct client *c, const struct generation *g) {
    for (unsigned i = 0; i < c->n_leases; i++)
        if (c->leases[i].g == g)
            return &c->leases[i];
    return NULL;
}

int client_lease_add(struct client *c, struct generation *g, struct lease **out, struct hearth_error *err) {
    if (c->n_leases == c->capacity) {
        struct lease *more = malloc(2 * c->capacity * sizeof(*more));
        if (!more)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory for one more lease");
        memcpy(more, c->leases, c->n_leases * sizeof(*more));
        if (c->leases != c->inline_leases)
            free(c->leases);
        c->leases = more;
        c->capacity *= 2;
    }
    *out = &c->leases[c->n_leases++];
    **out = (struct lease){.g = g};
    return 0;
}

void client_lease_remove(struct client *c, struct lease *l) {
    *l = c->leases[--c->n_leases];
}

int client_list_add(struct client *c, uint32_t serial, const char *ref) {
    struct listing *l = malloc(sizeof(*l));
    if (!l)
        return -ENOMEM;
    *l = (struct listing){.serial = serial, .ref = ref ? strdup(ref) : NULL, .newest = generation_newest()};
    if (ref && !l->ref) {
        free(l);
        return -ENOMEM;
    }
    STAILQ_INSERT_TAIL(&c->listings, l, link);
    return 0;
}

void client_list_remove(struct client *c) {
    struct listing *l = STAILQ_FIRST(&c->listings);
    STAILQ_REMOVE_HEAD(&c->listings, link);
    free(l->ref);
    free(l);
}

const char *client_pid(const struct ipc_peer *p, char buffer[CLIENT_PID_BYTES]) {
    int pid = (int)ipc_peer_cred(p).pid;
    snprintf(buffer, CLIENT_PID_BYTES, pid > 0 ? "pid %d" : "in another pid namespace", pid);
    return buffer;
}

void client_holders(const struct client_list *all, const struct generation *g, char *buffer, size_t size) {
    struct client *c;
    size_t used = 0;
    unsigned more = 0;
    buffer[0] = '\0';
    LIST_FOREACH(c, all, link) {
        char one[128], pid[CLIENT_PID_BYTES];
        if (!client_lease(c, g))
            continue;
        int n = snprintf(one, sizeof(one), "%s%.64s (%s)", used ? ", " : "", ipc_peer_name(c->peer),
                         client_pid(c->peer, pid));
        if (more || used + (size_t)n + sizeof(", 4294967295 more") > size) {
            more++;
            continue;
        }
        memcpy(buffer + used, one, (size_t)n + 1);
        used += (size_t)n;
    }
    if (more)
        snprintf(buffer + used, size - used, "%s%u more", used ? ", " : "", more);
}
