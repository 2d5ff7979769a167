/* ipc/account.h: what each user has charged to it, so that one user's clients cannot take everything.
 *
 * Whatever a peer makes the server hold is charged to the peer's uid before it is held, and refunded when it is not
 * held any more. An account lives as long as something is charged to it; an account that is freed with a balance is a
 * bug, and asserts.
 *
 * Thread rule: the event loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct account {
    uid_t uid;
    unsigned peers;      /* connections */
    unsigned requests;   /* unanswered */
    size_t queued_bytes; /* replies that wait for their clients to read */
    unsigned unread_fds; /* descriptors sent and not yet received: the kernel counts them against our own limit */
    struct account *next;
};

/* The account of a uid with one more peer on it, made if need be; NULL without memory. */
struct account *account_enter(struct account **list, uid_t uid);
/* One peer less; frees the account with its last one. Returns NULL. */
struct account *account_leave(struct account **list, struct account *a);
/* How many peers a uid has now. */
unsigned account_peers(const struct account *list, uid_t uid);
