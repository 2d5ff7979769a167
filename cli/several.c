/* cli/several.c: what verbs have in common that do one thing to several artifacts: evict, cancel, wait, unpin.
 *
 * Everything is looked up before anything is done, so that a mistyped name does nothing. The first refusal ends it.
 * What was done before a failure is still reported: the document carries both, always. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

struct chosen {
    struct hearth_info *items;
    size_t n;
};

/* Adds what is not there yet: two arguments may name one artifact. */
static int add(struct chosen *all, const struct hearth_info *found, size_t n, struct hearth_error *err) {
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < all->n; k++)
            known |= all->items[k].id == found[i].id;
        if (known)
            continue;
        struct hearth_info *grown = reallocarray(all->items, all->n + 1, sizeof(*grown));
        if (!grown)
            return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
        all->items = grown;
        all->items[all->n++] = found[i];
    }
    return 0;
}

/* Those of an argument's artifacts that the verb is about. */
static int choose(struct cli *c, struct hearth *h, const struct several *verb, const char *argument, struct chosen *all,
                  struct hearth_error *err) {
    _cleanup_free_ struct hearth_info *found = NULL;
    size_t n = 0, kept = 0;
    int r = cli_lookup(c, h, argument, &found, &n, err);
    if (r != 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (!verb->concerns || verb->concerns(&found[i]))
            found[kept++] = found[i];
    if (kept > 0)
        return add(all, found, kept, err);
    error_set(err, HEARTH_E_NOT_FOUND, "%.256s is %s: %s", argument, hearth_state_name(found[0].state),
              verb->concerns_none);
    error_at(err, found[0].ref, HEARTH_NO_OFFSET);
    return HEARTH_E_NOT_FOUND;
}

static void print_json(const char *done, const struct hearth_info *items, size_t n,
                       const struct hearth_error *failure) {
    struct json j;
    document_begin(&j);
    json_key(&j, done);
    json_array_begin(&j);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&j);
        document_id(&j, items[i].id);
        json_path(&j, "ref", items[i].ref, strlen(items[i].ref));
        document_number(&j, "bytes", items[i].bytes);
        json_object_end(&j);
    }
    json_array_end(&j);
    if (failure)
        json_error(&j, failure);
    json_object_end(&j);
}

static void print_text(const char *done, const struct hearth_info *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char id[ID_TEXT_BYTES], size[16], ref[4 * HEARTH_REF_MAX + 8];
        printf("%s %s  %s  %s\n", done, format_id(items[i].id, id), format_size(items[i].bytes, size, sizeof(size)),
               format_printable(items[i].ref, strlen(items[i].ref), ref, sizeof(ref)));
    }
}

int cli_several(struct cli *c, const struct several *verb, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    int r = cli_connect(c, false, &h, err);
    struct chosen all = {0};
    for (size_t i = 0; r == 0 && i < c->options.n_operands; i++)
        r = choose(c, h, verb, c->options.operands[i], &all, err);
    size_t done = 0;
    while (r == 0 && done < all.n) {
        r = verb->act(c, h, &all.items[done], err);
        done += r == 0;
    }
    if (c->options.json)
        print_json(verb->done, all.items, done, r ? err : NULL);
    else
        print_text(verb->done, all.items, done);
    c->error_in_output = true;
    free(all.items);
    return r;
}
