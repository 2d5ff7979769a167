/* daemon/share.c: see share.h. */
#include "daemon/share.h"

#include "daemon/life.h"

static struct charge *held_by(struct shares *s, uid_t owner) {
    for (size_t i = 0; i < s->n; i++)
        if (s->of[i].owner == owner)
            return &s->of[i].held;
    if (s->n == SHARES_MAX)
        return NULL;
    s->of[s->n].owner = owner;
    s->of[s->n].held = (struct charge){0, 0};
    return &s->of[s->n++].held;
}

void shares_count(struct shares *s, const struct generation *for_whom) {
    const struct artifacts *a = for_whom->artifacts;
    const struct generation *g;
    s->asks = for_whom->owner;
    s->n = 0;
    held_by(s, s->asks);
    TAILQ_FOREACH(g, &a->all, link) {
        if (g == for_whom || g->ending || charge_is_none(g->charged))
            continue;
        struct charge *held = held_by(s, g->owner);
        if (held)
            *held = charge_plus(*held, g->charged);
    }
    s->each = a->o.budget->limit;
    s->each.bytes /= s->n;
    s->each.fds /= s->n;
}

bool shares_give(struct shares *s, const struct generation *g) {
    struct charge *held = held_by(s, g->owner);
    if (!held)
        return false;
    struct charge left = charge_minus(*held, g->charged);
    bool beyond = left.bytes >= s->each.bytes || left.fds >= s->each.fds;
    if (g->owner != s->asks && !beyond)
        return false;
    *held = left;
    return true;
}
