/* ipc/account.c: see account.h. */
#include "ipc/account.h"

#include <assert.h>
#include <stdlib.h>

static struct account *find(struct account *list, uid_t uid) {
    while (list && list->uid != uid)
        list = list->next;
    return list;
}

struct account *account_enter(struct account **list, uid_t uid) {
    struct account *a = find(*list, uid);
    if (!a) {
        a = calloc(1, sizeof(*a));
        if (!a)
            return NULL;
        *a = (struct account){.uid = uid, .next = *list};
        *list = a;
    }
    a->peers++;
    return a;
}

struct account *account_leave(struct account **list, struct account *a) {
    if (!a || --a->peers > 0)
        return NULL;
    assert(a->requests == 0 && a->queued_bytes == 0 && a->unread_fds == 0);
    while (*list != a)
        list = &(*list)->next;
    *list = a->next;
    free(a);
    return NULL;
}

unsigned account_peers(const struct account *list, uid_t uid) {
    while (list && list->uid != uid)
        list = list->next;
    return list ? list->peers : 0;
}
