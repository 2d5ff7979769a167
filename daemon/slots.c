/* daemon/slots.c: see slots.h. Storages are few, and are kept once they are known. */
#include "daemon/slots.h"

#include <assert.h>
#include <stdlib.h>

#include "util/error.h"

struct storage {
    LIST_ENTRY(storage) link;
    uint64_t device;
    unsigned wanted, let_go; /* loads */
    unsigned background;     /* of those wanted */
};

static struct storage *find(const struct slots *s, uint64_t device) {
    struct storage *t;
    LIST_FOREACH(t, &s->storages, link)
    if (t->device == device)
        return t;
    return NULL;
}

int slots_check(const struct slots *s, uint64_t device, bool background, const char *what, struct hearth_error *err) {
    const struct storage *t = find(s, device);
    if (t && t->let_go >= LET_GO_MAX) {
        error_set(err, HEARTH_E_BUSY, "the storage of %.256s does not answer: %u cancelled loads still wait for it",
                  what, t->let_go);
        error_at(err, what, HEARTH_NO_OFFSET);
        error_expected(err, "fewer than %u loads that were cancelled and cannot end", LET_GO_MAX);
        error_found(err, "%u", t->let_go);
        error_hint(err, "see what is wrong with that storage; loads from elsewhere go on");
        return HEARTH_E_BUSY;
    }
    if (!t)
        return 0;
    unsigned places = s->at_once;
    if (background && places > 1)
        places--;
    else if (!background && places <= t->background) /* there is one only, and it is taken */
        places = t->background + 1;
    return t->wanted >= places ? SLOTS_WAIT : 0;
}

int slots_take(struct slots *s, uint64_t device, bool background, struct hearth_error *err) {
    struct storage *t = find(s, device);
    if (!t) {
        t = calloc(1, sizeof(*t));
        if (!t)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory to start a load");
        t->device = device;
        LIST_INSERT_HEAD(&s->storages, t, link);
    }
    t->wanted++;
    t->background += background;
    s->running++;
    return 0;
}

void slots_hasten(struct slots *s, uint64_t device) {
    find(s, device)->background--;
}

void slots_let_go(struct slots *s, uint64_t device, bool background) {
    struct storage *t = find(s, device);
    t->wanted--;
    t->background -= background;
    t->let_go++;
    s->let_go++;
}

void slots_give_back(struct slots *s, uint64_t device, bool let_go, bool background) {
    struct storage *t = find(s, device);
    *(let_go ? &t->let_go : &t->wanted) -= 1;
    t->background -= background && !let_go;
    s->let_go -= let_go;
    s->running--;
}

void slots_deinit(struct slots *s) {
    assert(s->running == 0);
    for (struct storage *t; (t = LIST_FIRST(&s->storages));) {
        LIST_REMOVE(t, link);
        free(t);
    }
}
