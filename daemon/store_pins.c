/* daemon/store_pins.c: the table of pins. A list of patterns is kept as its strings, each with its NUL; a list of
 * digests as 32 bytes and a string each. What is read back is checked as a client's words are: it has lain on a disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store.h"
#include "daemon/store_job.h"
#include "util/cleanup.h"

#define DIGEST_BYTES 32u

struct put {
    struct store_job job;
    char *ref;
    struct load_spec *spec; /* NULL: it is removed */
};

struct load_pins {
    struct store_job job;
    store_pins_done done;
    void *user;
    struct store_pin *pins;
    size_t n;
};

/* ---- lists as bytes ---- */

struct bytes {
    char *at;
    size_t n;
};

static bool append(struct bytes *b, const void *what, size_t n) {
    char *more = realloc(b->at, b->n + n);
    if (!more)
        return false;
    memcpy(more + b->n, what, n);
    b->at = more;
    b->n += n;
    return true;
}

static int bind_strings(sqlite3_stmt *s, int column, char *const *strings, size_t n) {
    struct bytes b = {0};
    for (size_t i = 0; i < n; i++)
        if (!append(&b, strings[i], strlen(strings[i]) + 1)) {
            free(b.at);
            return SQLITE_NOMEM;
        }
    return sqlite3_bind_blob(s, column, b.at, (int)b.n, free);
}

static int bind_digests(sqlite3_stmt *s, int column, const struct load_spec *spec) {
    struct bytes b = {0};
    for (size_t i = 0; i < spec->n_digests; i++)
        if (!append(&b, spec->digests[i].sha256, DIGEST_BYTES) ||
            !append(&b, spec->digests[i].path, strlen(spec->digests[i].path) + 1)) {
            free(b.at);
            return SQLITE_NOMEM;
        }
    return sqlite3_bind_blob(s, column, b.at, (int)b.n, free);
}

/* The next string of a list, behind `skip` bytes; NULL at its end, or where it is none. Moves *at on. */
static const char *next_string(const char **at, const char *end, size_t skip) {
    if ((size_t)(end - *at) <= skip)
        return NULL;
    const char *string = *at + skip, *nul = memchr(string, '\0', (size_t)(end - string));
    if (!nul)
        return NULL;
    *at = nul + 1;
    return string;
}

/* At most HEARTH_LIST_MAX, as in a request. */
static size_t column_strings(sqlite3_stmt *s, int column, char **out) {
    const char *at = sqlite3_column_blob(s, column), *end = at ? at + sqlite3_column_bytes(s, column) : NULL;
    size_t n = 0;
    for (const char *string; at && n < HEARTH_LIST_MAX && (string = next_string(&at, end, 0)); n++)
        out[n] = (char *)(uintptr_t)string;
    return n;
}

static size_t column_digests(sqlite3_stmt *s, int column, struct artifact_digest *out) {
    const char *at = sqlite3_column_blob(s, column), *end = at ? at + sqlite3_column_bytes(s, column) : NULL;
    size_t n = 0;
    while (at && n < HEARTH_LIST_MAX) {
        const char *digest = at, *path = next_string(&at, end, DIGEST_BYTES);
        if (!path)
            break;
        memcpy(out[n].sha256, digest, DIGEST_BYTES);
        out[n++].path = path;
    }
    return n;
}

/* ---- all of them ---- */

static void free_pin(struct store_pin *pin) {
    free((char *)(uintptr_t)pin->ref);
    load_spec_free((struct load_spec *)(uintptr_t)pin->spec);
}

/* What this version cannot take (a row that somebody damaged) is left out, not an error. */
static int take_pin(void *user, sqlite3_stmt *s) {
    struct load_pins *l = user;
    const char *ref = (const char *)sqlite3_column_text(s, 0);
    int verify = sqlite3_column_int(s, 2);
    _cleanup_free_ char **patterns = calloc(2 * HEARTH_LIST_MAX, sizeof(*patterns));
    _cleanup_free_ struct artifact_digest *digests = calloc(HEARTH_LIST_MAX, sizeof(*digests));
    if (!patterns || !digests)
        return SQLITE_NOMEM;
    struct load_spec spec = {
        .ref = (char *)(uintptr_t)sqlite3_column_text(s, 1),
        .include = patterns,
        .n_include = column_strings(s, 3, patterns),
        .exclude = patterns + HEARTH_LIST_MAX,
        .n_exclude = column_strings(s, 4, patterns + HEARTH_LIST_MAX),
        .digests = digests,
        .n_digests = column_digests(s, 5, digests),
        .verify = (enum hearth_verify)verify,
    };
    if (!ref || !spec.ref || verify <= HEARTH_VERIFY_DEFAULT || verify > HEARTH_VERIFY_ALWAYS)
        return SQLITE_OK;
    struct store_pin *more = reallocarray(l->pins, l->n + 1, sizeof(*more));
    if (!more)
        return SQLITE_NOMEM;
    l->pins = more;
    struct store_pin pin = {.ref = strdup(ref), .spec = load_spec_copy(&spec)};
    if (!pin.ref || !pin.spec) {
        free_pin(&pin);
        return SQLITE_NOMEM;
    }
    l->pins[l->n++] = pin;
    return SQLITE_OK;
}

static int run_load(struct store_job *j, sqlite3 *db) {
    return store_run(db, "SELECT ref, path, verify, include, exclude, digests FROM pins ORDER BY id", NULL, take_pin,
                     j);
}

static void done_load(struct store_job *j, bool ran) {
    const struct load_pins *l = (struct load_pins *)j;
    l->done(l->user, ran ? l->pins : NULL, ran ? l->n : 0);
}

static void destroy_load(struct store_job *j) {
    struct load_pins *l = (struct load_pins *)j;
    for (size_t i = 0; i < l->n; i++)
        free_pin(&l->pins[i]);
    free(l->pins);
    free(l);
}

int store_pins_load(struct store *s, store_pins_done done, void *user) {
    struct load_pins *l = calloc(1, sizeof(*l));
    if (!l)
        return HEARTH_E_NO_MEMORY;
    l->job = (struct store_job){.run = run_load, .done = done_load, .destroy = destroy_load, .patient = true};
    l->done = done;
    l->user = user;
    store_queue(s, &l->job);
    return 0;
}

/* ---- one of them ---- */

static int bind_put(void *user, sqlite3_stmt *s) {
    const struct put *p = user;
    int r = sqlite3_bind_text(s, 1, p->ref, -1, SQLITE_STATIC);
    if (r || !p->spec)
        return r;
    r = sqlite3_bind_text(s, 2, p->spec->ref, -1, SQLITE_STATIC);
    r = r ? r : sqlite3_bind_int(s, 3, (int)p->spec->verify);
    r = r ? r : bind_strings(s, 4, p->spec->include, p->spec->n_include);
    r = r ? r : bind_strings(s, 5, p->spec->exclude, p->spec->n_exclude);
    return r ? r : bind_digests(s, 6, p->spec);
}

static int run_put(struct store_job *j, sqlite3 *db) {
    struct put *p = (struct put *)j;
    static const char put[] =
        "INSERT INTO pins(ref, path, verify, include, exclude, digests) VALUES(?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT(ref) DO UPDATE SET path = ?2, verify = ?3, include = ?4, exclude = ?5, digests = ?6";
    return store_run(db, p->spec ? put : "DELETE FROM pins WHERE ref = ?1", bind_put, NULL, p);
}

static void destroy_put(struct store_job *j) {
    struct put *p = (struct put *)j;
    load_spec_free(p->spec);
    free(p->ref);
    free(p);
}

/* What there is no memory for is lost, like all that cannot be written. */
static void queue_put(struct store *s, const char *ref, const struct load_spec *spec) {
    struct put *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    p->job = (struct store_job){.run = run_put, .destroy = destroy_put, .durable = true};
    p->ref = strdup(ref);
    p->spec = spec ? load_spec_copy(spec) : NULL;
    if (p->ref && (p->spec || !spec))
        store_queue(s, &p->job);
    else
        destroy_put(&p->job);
}

void store_pin_put(struct store *s, const char *ref, const struct load_spec *spec) {
    queue_put(s, ref, spec);
}

void store_pin_remove(struct store *s, const char *ref) {
    queue_put(s, ref, NULL);
}
