/* daemon/sources.c: see sources.h. */
#include "daemon/sources.h"

#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/error.h"
#include "util/path.h"
#include "util/text.h"

static const char *const names[RIGHTS] = {"none", "attach", "load", "pin", "evict", "administer"};

const char *right_name(enum right r) {
    return (unsigned)r < RIGHTS ? names[r] : "unknown";
}

/* ---- making them ---- */

struct sources *sources_free(struct sources *all) {
    for (size_t i = 0; all && i < all->n; i++) {
        free(all->list[i].path);
        free(all->list[i].grants);
    }
    free(all ? all->list : NULL);
    free(all);
    return NULL;
}

static bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* No path, no id, and not the built-in source. */
static int check_name(const char *name, struct hearth_error *err) {
    uint64_t id;
    size_t n = strlen(name);
    bool good = n > 0 && n <= SOURCE_NAME_MAX && is_alphanumeric(name[0]);
    for (size_t i = 1; good && i < n; i++)
        good = is_alphanumeric(name[i]) || strchr("-_.", name[i]);
    if (good && !parse_id(name, &id) && strcmp(name, "hf") != 0)
        return 0;
    error_set(err, HEARTH_E_INVALID, "'%.64s' cannot be the name of a source", name);
    error_expected(err,
                   "a letter or digit, then letters, digits, '-', '_' and '.': at most %u, not 12 hex digits, not hf",
                   SOURCE_NAME_MAX);
    error_found(err, "%s", name);
    return HEARTH_E_INVALID;
}

int sources_add(struct sources **all, const char *name, struct source **out, struct hearth_error *err) {
    int r = check_name(name, err);
    if (r)
        return r;
    for (size_t i = 0; *all && i < (*all)->n; i++)
        if (strcmp((*all)->list[i].name, name) == 0) {
            error_set(err, HEARTH_E_INVALID, "there is a source %s already", name);
            error_expected(err, "each source once");
            error_found(err, "%s", name);
            return HEARTH_E_INVALID;
        }
    if (!*all && !(*all = calloc(1, sizeof(**all))))
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a source");
    if ((*all)->n == SOURCES_MAX) {
        error_set(err, HEARTH_E_INVALID, "there are too many sources");
        error_expected(err, "at most %u", SOURCES_MAX);
        return HEARTH_E_INVALID;
    }
    struct source *grown = reallocarray((*all)->list, (*all)->n + 1, sizeof(*grown));
    if (!grown)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a source");
    (*all)->list = grown;
    *out = &grown[(*all)->n++];
    **out = (struct source){0};
    strcpy((*out)->name, name);
    return 0;
}

/* ---- asking them ---- */

const struct source *sources_of_path(const struct sources *all, const char *path) {
    const struct source *found = NULL;
    size_t longest = 0;
    for (size_t i = 0; all && i < all->n; i++) {
        const char *root = all->list[i].path;
        size_t n = root ? strlen(root) : 0;
        if (n > longest && strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0')) {
            found = &all->list[i];
            longest = n;
        }
    }
    return found && !path_leads_back(path) ? found : NULL;
}

const struct source *sources_of_name(const struct sources *all, const char *reference, const char **rest) {
    size_t n = strcspn(reference, "/");
    for (size_t i = 0; all && i < all->n; i++)
        if (strlen(all->list[i].name) == n && memcmp(all->list[i].name, reference, n) == 0) {
            *rest = reference + n + (reference[n] == '/');
            return &all->list[i];
        }
    return NULL;
}

static bool is_meant(const struct grant *g, const struct who *who) {
    if (g->kind != GRANT_GROUP)
        return g->kind == GRANT_EVERYBODY || g->id == who->uid;
    for (size_t i = 0; i < who->n_groups; i++)
        if (who->groups[i] == g->id)
            return true;
    return false;
}

enum right source_right(const struct source *s, const struct who *who) {
    enum right best = RIGHT_NONE;
    for (size_t i = 0; i < s->n_grants; i++)
        if (s->grants[i].right > best && is_meant(&s->grants[i], who))
            best = s->grants[i].right;
    return best;
}

enum right sources_right(const struct sources *all, const struct who *who) {
    enum right best = RIGHT_NONE;
    for (size_t i = 0; all && i < all->n; i++) {
        enum right r = source_right(&all->list[i], who);
        best = r > best ? r : best;
    }
    return best;
}
