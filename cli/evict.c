/* cli/evict.c: hearth evict REF...
 *
 * Everything is looked up before anything is dropped, so that a mistyped name drops nothing. The first refusal ends it.
 * What was evicted before a failure is still reported: the document carries both, always. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

struct victims {
    struct hearth_info *items;
    size_t n;
};

/* Adds what is not there yet: two arguments may name one artifact. */
static int add(struct victims *v, const struct hearth_info *found, size_t n, struct hearth_error *err) {
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < v->n; k++)
            known |= v->items[k].id == found[i].id;
        if (known)
            continue;
        struct hearth_info *grown = reallocarray(v->items, v->n + 1, sizeof(*grown));
        if (!grown)
            return error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
        v->items = grown;
        v->items[v->n++] = found[i];
    }
    return 0;
}

static void print_json(const struct hearth_info *gone, size_t n, const struct hearth_error *failure) {
    struct json j;
    document_begin(&j);
    json_key(&j, "evicted");
    json_array_begin(&j);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&j);
        document_id(&j, gone[i].id);
        json_path(&j, "ref", gone[i].ref, strlen(gone[i].ref));
        document_number(&j, "bytes", gone[i].bytes);
        json_object_end(&j);
    }
    json_array_end(&j);
    if (failure)
        json_error(&j, failure);
    json_object_end(&j);
}

static void print_text(const struct hearth_info *gone, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char id[ID_TEXT_BYTES], size[16], ref[4 * HEARTH_REF_MAX + 8];
        printf("evicted %s  %s  %s\n", format_id(gone[i].id, id), format_size(gone[i].bytes, size, sizeof(size)),
               format_printable(gone[i].ref, strlen(gone[i].ref), ref, sizeof(ref)));
    }
}

static int evict(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    int r = cli_connect(c, false, &h, err);
    struct victims v = {0};
    for (size_t i = 0; r == 0 && i < c->options.n_operands; i++) {
        _cleanup_free_ struct hearth_info *found = NULL;
        size_t n = 0;
        r = cli_lookup(c, h, c->options.operands[i], &found, &n, err);
        if (r == 0)
            r = add(&v, found, n, err);
    }
    size_t done = 0;
    while (r == 0 && done < v.n) {
        r = hearth_evict(h, v.items[done].id, c->options.force, c->deadline, err);
        done += r == 0;
    }
    if (c->options.json)
        print_json(v.items, done, r ? err : NULL);
    else
        print_text(v.items, done);
    c->error_in_output = true;
    free(v.items);
    return r;
}

const struct verb verb_evict = {
    .name = "evict",
    .operands = "REF...",
    .summary = "Drop artifacts from memory",
    .about = "REF is an id, a path, or what `hearth ls` shows as REF: then all its generations. An artifact that\n"
             "programs hold is refused with their names unless --force: then no program can attach it any more, and\n"
             "its memory goes with the last holder. The first refusal ends the command, and what it evicted before\n"
             "stays so; a REF that the daemon does not have evicts nothing.",
    .examples = "  hearth evict /models/llama\n"
                "  hearth evict --force 3f62a1c09b7e\n",
    .options = OPTIONS_DAEMON | OPTION_FORCE,
    .operands_min = 1,
    .operands_max = SIZE_MAX,
    .timeout_ns = 30 * NS_PER_S,
    .run = evict,
};
