/* cli/lookup.c: which artifacts an argument means, among those the daemon has.
 *
 * Names are compared; what they name need not exist, for what is evicted may be long gone from storage. The file system
 * is asked two things: whether an argument that looks like an id is a path, and where a ".." in a path leads. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/path.h"

struct list {
    struct hearth_info *items;
    size_t n;
    bool no_memory;
};

static void collect(void *user, const struct hearth_info *info) {
    struct list *l = user;
    struct hearth_info *grown = reallocarray(l->items, l->n + 1, sizeof(*grown));
    if (!grown) {
        l->no_memory = true;
        return;
    }
    l->items = grown;
    l->items[l->n++] = *info;
}

static int by_reference(const void *a, const void *b) {
    const struct hearth_info *x = a, *y = b;
    int order = strcmp(x->ref, y->ref);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* `ref`: "" for all. */
static int list(struct cli *c, struct hearth *h, const char *ref, struct hearth_info **out, size_t *n,
                struct hearth_error *err) {
    struct list l = {0};
    int r = hearth_list_of(h, ref, collect, &l, c->deadline, err);
    if (r == 0 && l.no_memory)
        r = error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
    if (r != 0) {
        free(l.items);
        return r;
    }
    if (l.n > 0)
        qsort(l.items, l.n, sizeof(*l.items), by_reference);
    *out = l.items;
    *n = l.n;
    return 0;
}

int cli_list(struct cli *c, struct hearth *h, struct hearth_info **out, size_t *n, struct hearth_error *err) {
    return list(c, h, "", out, n, err);
}

static bool names(const struct hearth_info *info, const char *argument, const char *path, uint64_t id) {
    if (id != 0)
        return info->id == id;
    if (strcmp(info->ref, argument) == 0)
        return true;
    if (info->ref[0] != '/')
        return false;
    char ref[HEARTH_REF_MAX];
    memcpy(ref, info->ref, sizeof(ref));
    path_settle(ref);
    return strcmp(ref, path) == 0;
}

int cli_lookup(struct cli *c, struct hearth *h, const char *argument, struct hearth_info **out, size_t *n,
               struct hearth_error *err) {
    uint64_t id = 0;
    char path[HEARTH_REF_MAX];
    if (!argument_is_id(argument, &id)) {
        id = 0;
        bool hub = strncmp(argument, "hf/", 3) == 0; /* what of it still stands there is known to the library */
        int r = hub ? hearth_ref_from_argument(argument, path, sizeof(path), err)
                    : absolute_path(argument, path, sizeof(path), err);
        if (r != 0)
            return r;
        path_settle(path);
    }
    _cleanup_free_ struct hearth_info *all = NULL;
    size_t n_all;
    int r = cli_list(c, h, &all, &n_all, err);
    if (r != 0)
        return r;
    size_t found = 0;
    for (size_t i = 0; i < n_all; i++)
        if (names(&all[i], argument, path, id))
            all[found++] = all[i];
    if (found == 0 && id == 0 && argument[0] != '/') { /* the daemon may know it as SOURCE/PATH */
        free(steal_ptr(&all));
        if (list(c, h, argument, &all, &found, NULL) != 0)
            found = 0;
    }
    if (found == 0) {
        error_set(err, HEARTH_E_NOT_FOUND, "the daemon has no artifact %s", argument);
        error_hint(err, "`hearth ls` lists what it has");
        return HEARTH_E_NOT_FOUND;
    }
    *out = steal_ptr(&all);
    *n = found;
    return 0;
}
