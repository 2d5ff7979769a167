/* daemon/history.h: HISTORY: what the store has of past loads, page by page, as the client reads.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdint.h>

#include "daemon/client.h"
#include "daemon/store.h"

/* Answers with items and DONE. Of one client, one after the other. `ref`: "" for all. */
void history_ask(struct store *store, struct client *c, uint32_t serial, const char *ref, uint32_t limit);
/* The client has room for more. */
void history_go_on(struct client *c);
/* The client is about to go. */
void history_forget(struct client *c);
