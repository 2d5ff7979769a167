/* daemon/share.h: what one user's loads may take of another's.
 *
 * Where several users have artifacts here, each has an equal share of the budget. A load evicts what the same user
 * loaded, and of what others did only as much as they hold beyond their shares: so nobody can empty another's memory,
 * and memory that nobody else wants is not left unused. An artifact is the user's whose request began its load; the
 * daemon's own user and root are one, and so are preloads.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include "daemon/budget.h"
#include "daemon/generation.h"

/* Users beyond so many have nothing that others' loads may take. */
#define SHARES_MAX 64u
struct shares {
    uid_t asks;
    struct charge each;
    struct {
        uid_t owner;
        struct charge held;
    } of[SHARES_MAX];
    size_t n;
};

/* What everybody holds now, seen by a load of `for_whom`. */
void shares_count(struct shares *s, const struct generation *for_whom);
/* Whether it may take g's place. Then g counts as gone from here on. */
bool shares_give(struct shares *s, const struct generation *g);
