/* daemon/client.h: what the daemon remembers of one connection: its leases, and the LISTs that it has not read yet.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <hearth/error.h>

#include "daemon/generation.h"
#include "ipc/server.h"

struct lease {
    struct generation *g;
    uint32_t count;
    bool speculative; /* it uses bytes that are not proven: if the load fails, it is hung up on */
};

/* A LIST under way: those that were there when it began, oldest first. What comes and goes meanwhile moves nothing. */
struct listing {
    STAILQ_ENTRY(listing) link;
    uint32_t serial;
    char *ref;           /* only those of this path; NULL: all */
    uint64_t newest;     /* the last one to be listed, by number */
    uint64_t id, number; /* of the one that was listed last */
    uint64_t count;      /* listed so far */
};

#define LEASES_INLINE 8u

struct client {
    LIST_ENTRY(client) link;
    struct ipc_peer *peer;
    struct lease *leases; /* in no order; `inline_leases` until they are more */
    unsigned n_leases, capacity;
    bool uses;                       /* has asked for more than a LIST: the daemon is in use until this client ends */
    STAILQ_HEAD(, listing) listings; /* as they were asked for; they are answered one after another */
    STAILQ_HEAD(, retrospect) retrospects; /* likewise: daemon/history.c */
    struct lease inline_leases[LEASES_INLINE];
};
LIST_HEAD(client_list, client);

/* The client of a peer: made and put in the list at its first request. NULL when there is no memory. */
struct client *client_of(struct client_list *all, struct ipc_peer *p);
/* It must have no leases. */
void client_free(struct client *c);

/* The client's lease on g, or NULL. */
struct lease *client_lease(struct client *c, const struct generation *g);
/* Room for one more; a count of 0. Errors: NO_MEMORY. */
int client_lease_add(struct client *c, struct generation *g, struct lease **out, struct hearth_error *err);
void client_lease_remove(struct client *c, struct lease *l);

/* Adds a LIST of all there is now, or of all with this path. 0, or -ENOMEM. */
int client_list_add(struct client *c, uint32_t serial, const char *ref);
/* Removes the first. */
void client_list_remove(struct client *c);

/* For people: "pid 12". The kernel has no number for a process whose pid namespace is not inside of ours. */
#define CLIENT_PID_BYTES 32
const char *client_pid(const struct ipc_peer *p, char buffer[CLIENT_PID_BYTES]);
/* Names those who hold g, "python3 (pid 12), 3 more": at most `size` bytes. */
void client_holders(const struct client_list *all, const struct generation *g, char *buffer, size_t size);
