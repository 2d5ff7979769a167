/* daemon/requests.c: what clients ask for, and what they are told.
 *
 * A request is decoded and charged by ipc/; here it becomes a step of an artifact, a lease, or a line of status. Every
 * function ends its request by exactly one final reply, now, through daemon_answers, or as the client reads (LIST).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "daemon/internal.h"
#include "daemon/stream.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/text.h"

/* ---- small things ---- */

static void attach_or_refuse(struct daemon *d, struct client *c, uint32_t serial, struct generation *g, uint32_t flags);

static void reply_no_memory(struct ipc_peer *p, uint32_t serial) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_NO_MEMORY, "no memory for the request");
    ipc_reply_error(p, serial, &err);
}

/* The client of a peer that asks for more than a LIST. NULL when there is no memory. */
static struct client *user_of(struct daemon *d, struct ipc_peer *p) {
    struct client *c = client_of(&d->clients, p);
    if (c)
        c->uses = true;
    return c;
}

/* The generation of this id, if the client may do that with it. Else answers: one that it may not know of is not there.
 */
static struct generation *find(struct daemon *d, struct ipc_peer *p, uint32_t serial, uint64_t id, enum right right) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    char text[32];
    struct generation *g = artifacts_find(d->artifacts, id);
    int r = g ? access_check(d, p, g, right, &err) : HEARTH_E_NOT_FOUND;
    if (r == 0)
        return g;
    if (r != HEARTH_E_NOT_FOUND) {
        ipc_reply_error(p, serial, &err);
        return NULL;
    }
    snprintf(text, sizeof(text), "%012llx", (unsigned long long)id);
    error_set(&err, HEARTH_E_NOT_FOUND, "there is no artifact %s here", text);
    error_hint(&err, "hearth ls lists those there are; an artifact that was evicted gets a new id with the next load");
    ipc_reply_error(p, serial, &err);
    return NULL;
}

/* ---- load, watch ---- */

static void on_load(void *user, struct ipc_peer *p, uint32_t serial, const struct ipc_load *request) {
    struct daemon *d = user;
    struct hearth_error err = HEARTH_ERROR_INIT;
    _cleanup_free_ struct artifact_digest *digests = calloc(request->n_digests + 1, sizeof(*digests));
    if (!digests) {
        reply_no_memory(p, serial);
        return;
    }
    for (size_t i = 0; i < request->n_digests; i++) {
        digests[i].path = request->digests[i].path;
        memcpy(digests[i].sha256, request->digests[i].sha256, sizeof(digests[i].sha256));
    }
    struct load_spec spec = {
        .include = (char **)(uintptr_t)request->include,
        .n_include = request->n_include,
        .exclude = (char **)(uintptr_t)request->exclude,
        .n_exclude = request->n_exclude,
        .digests = digests,
        .n_digests = request->n_digests,
        .verify = request->verify,
        .seen = {request->seen, request->seen_device, request->seen_inode, request->seen_bytes},
    };
    char path[PATH_MAX];
    const char *root;
    uint64_t id;
    bool pin = request->flags & HEARTH_LOAD_PIN;
    if (parse_id(request->ref, &id)) { /* as it was asked for the first time, where this request says nothing else */
        struct generation *g = find(d, p, serial, id, pin ? RIGHT_PIN : RIGHT_LOAD);
        if (!g)
            return;
        struct load_spec first = *g->spec;
        first.verify = spec.verify ? spec.verify : first.verify;
        if (!spec.n_include && !spec.n_exclude && !spec.n_digests)
            spec = first;
        spec.ref = first.ref;
        spec.root = first.root;
        spec.seen = (struct artifact_seen){0}; /* it is not for a path that it was asked */
    } else if (access_reference(d, p, request->ref, pin ? RIGHT_PIN : RIGHT_LOAD, path, &root, &err)) {
        ipc_reply_error(p, serial, &err);
        return;
    } else {
        spec.ref = path;
        spec.root = (char *)(uintptr_t)root;
    }
    spec.verify = spec.verify ? spec.verify : d->options.verify;
    struct client *c = user_of(d, p);
    if (!c) {
        reply_no_memory(p, serial);
    } else {
        const struct waiter w = {.client = c,
                                 .uid = access_owner(p),
                                 .serial = serial,
                                 .progress = request->flags & HEARTH_LOAD_PROGRESS,
                                 .no_wait = request->flags & HEARTH_LOAD_NO_WAIT,
                                 .background = request->flags & HEARTH_LOAD_BACKGROUND,
                                 .pin = pin};
        d->used_ns = clock_now();
        artifacts_load(d->artifacts, &spec, &w);
    }
}

static void on_watch(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct daemon *d = user;
    bool only = flags & HEARTH_WATCH_ONLY, all = only && id == 0;
    struct generation *g = all ? NULL : find(d, p, serial, id, RIGHT_ATTACH);
    if (!g && !all)
        return;
    struct client *c = only ? client_of(&d->clients, p) : user_of(d, p);
    const struct waiter w = {.client = c, .serial = serial, .progress = true, .background = only};
    if (!c)
        reply_no_memory(p, serial);
    else if (all)
        artifacts_watch_all(d->artifacts, &w);
    else
        artifacts_watch(d->artifacts, g, &w);
}

static void on_cancel(void *user, struct ipc_peer *p, uint32_t serial) {
    struct daemon *d = user;
    struct client *c = ipc_peer_data(p);
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_CANCELLED, "the client took its request back");
    if (c)
        artifacts_forget(d->artifacts, c, serial, &err);
}

static void answer_progress(void *user, const struct waiter *w, const struct generation *g) {
    const struct client *c = w->client;
    struct hearth_msg_info info;
    if (w->all && access_right(user, access_who(c->peer), g) < RIGHT_ATTACH)
        return;
    generation_info_for(g, w, clock_now(), &info);
    ipc_reply_progress(c->peer, w->serial, &info, g->spec->ref);
}

static void answer_finished(void *user, const struct waiter *w, const struct generation *g,
                            const struct hearth_error *err) {
    struct daemon *d = user;
    const struct client *c = w->client;
    struct hearth_msg_info info;
    d->used_ns = clock_now();
    if (err) {
        ipc_reply_error(c->peer, w->serial, err);
    } else if (w->attach) {
        attach_or_refuse(d, w->client, w->serial, artifacts_find(d->artifacts, g->id), w->attach);
    } else if (w->evicts) {
        ipc_reply_done(c->peer, w->serial, 1);
    } else {
        generation_info_for(g, w, d->used_ns, &info);
        ipc_reply_info(c->peer, w->serial, &info, g->spec->ref);
    }
}

static void loaded(void *user, const struct generation *g) {
    struct daemon *d = user;
    const struct resident *r = g->resident;
    char id[ID_TEXT_BYTES], size[16], took[16];
    const struct log_field fields[] = {{"ARTIFACT", format_id(g->id, id)},
                                       {"REF", g->spec->ref},
                                       {"VERIFIED", hearth_verified_name(r->verified)},
                                       {"BACKING", hearth_backing_name(r->backing)},
                                       {"DIRECT_IO", r->direct_io       ? "yes"
                                                     : r->not_direct[0] ? r->not_direct
                                                                        : "no"},
                                       {NULL, NULL}};
    d->used_ns = clock_now();
    d->loads_direct += r->direct_io;
    if (r->not_direct[0]) {
        d->loads_buffered++;
        memcpy(d->not_direct, r->not_direct, sizeof(d->not_direct));
    }
    metrics_load(&d->metrics, r, g->seconds_ns);
    log_fields(LOG_INFO, fields, "loaded %s: %s in %s, %.2f GB/s", id, format_size(r->bytes, size, sizeof(size)),
               format_duration(g->seconds_ns, took, sizeof(took)),
               (double)r->bytes / (double)(g->seconds_ns ? g->seconds_ns : 1));
}

static void pinned(void *user, const struct load_spec *spec, bool now) {
    struct daemon *d = user;
    if (now)
        store_pin_put(d->store, spec->ref, spec);
    else
        store_pin_remove(d->store, spec->ref);
    log_info("%s %s", spec->ref, now ? "is pinned" : "is not pinned any more");
}

static void dropped(void *user, struct generation *g) {
    struct daemon *d = user;
    d->metrics.evictions++;
    handout_drop(&d->handout, g);
}

/* ---- attach, files, detach ---- */

static void unlease(struct daemon *d, struct client *c, struct lease *l) {
    struct generation *g = l->g;
    if (--l->count == 0)
        client_lease_remove(c, l);
    d->leases--;
    d->used_ns = clock_now();
    artifacts_unlease(g);
}

/* Takes a lease into *out; the error otherwise. */
static int lease(struct daemon *d, struct client *c, struct generation *g, bool streams, struct lease **out,
                 struct hearth_error *err) {
    struct lease *l = client_lease(c, g);
    int r;
    if (l && l->count == UINT32_MAX)
        return error_set(err, HEARTH_E_BUSY, "this connection holds too many leases on one artifact");
    if ((r = streams ? artifacts_lease_stream(g, err) : artifacts_lease(g, err)))
        return r;
    if (!l && (r = client_lease_add(c, g, &l, err))) {
        artifacts_unlease(g);
        return r;
    }
    l->count++;
    d->leases++;
    *out = l;
    return 0;
}

/* Descriptors of what is resident, or still loading. */
static int take(struct daemon *d, struct generation *g, bool index, const uint32_t *files, size_t n, struct fdlist *out,
                struct hearth_error *err) {
    return g->resident ? handout_take(&d->handout, g, index, files, n, out, err)
                       : stream_take(g, index, files, n, out, err);
}

/* Attaches what can be attached now. */
static int attach(struct daemon *d, struct client *c, uint32_t serial, struct generation *g, uint32_t flags,
                  struct hearth_error *err) {
    _cleanup_(fdlist_deinit) struct fdlist fds = FDLIST_NULL;
    struct lease *l = NULL;
    uint64_t start_ns = clock_now();
    bool streams = flags & HEARTH_ATTACH_STREAM && generation_streams(g);
    int r = lease(d, c, g, streams, &l, err);
    if (r)
        return r;
    size_t n = flags & HEARTH_ATTACH_ALL ? g->n_files : 0, room = HEARTH_PACKET_FDS_MAX - 1 - streams;
    n = n < room ? n : room;
    r = take(d, g, true, NULL, n, &fds, err);
    if (r) {
        unlease(d, c, l);
        return r;
    }
    const struct hearth_msg_attached m = {
        .id = g->id, .n_files = g->n_files, .n_fds = (uint32_t)n, .flags = streams ? HEARTH_ATTACHED_STREAMING : 0};
    l->speculative |= streams && flags & HEARTH_ATTACH_SPECULATIVE;
    if (ipc_reply_attached(c->peer, serial, &m, &fds))
        metrics_attach(&d->metrics, clock_now() - start_ns);
    else
        unlease(d, c, l); /* the client has been told otherwise */
    return 0;
}

static void attach_or_refuse(struct daemon *d, struct client *c, uint32_t serial, struct generation *g,
                             uint32_t flags) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    int r = attach(d, c, serial, g, flags, &err);
    if (r == HEARTH_E_BUSY && flags & HEARTH_ATTACH_STREAM && g->load && !generation_streams(g)) /* it ends just now */
        artifacts_watch(d->artifacts, g, &(struct waiter){.client = c, .serial = serial, .attach = flags});
    else if (r)
        ipc_reply_error(c->peer, serial, &err);
}

static void on_attach(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct daemon *d = user;
    struct generation *g = find(d, p, serial, id, RIGHT_ATTACH);
    if (!g)
        return;
    struct client *c = user_of(d, p);
    if (!c)
        reply_no_memory(p, serial);
    else if (flags & HEARTH_ATTACH_STREAM && g->state < HEARTH_STATE_RESIDENT)
        artifacts_watch(d->artifacts, g, &(struct waiter){.client = c, .serial = serial, .attach = flags});
    else
        attach_or_refuse(d, c, serial, g, flags);
}

static void on_files(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, const uint32_t *files, size_t n) {
    struct daemon *d = user;
    struct hearth_error err;
    struct fdlist fds = FDLIST_NULL;
    struct generation *g = find(d, p, serial, id, RIGHT_ATTACH);
    if (!g)
        return;
    error_clear(&err);
    struct client *c = ipc_peer_data(p);
    if (!c || !client_lease(c, g))
        error_set(&err, HEARTH_E_INVALID, "this connection has no lease on the artifact: attach it first");
    else if (g->state == HEARTH_STATE_FAILED)
        err = *g->reason;
    else if (!g->resident && !g->load)
        error_set(&err, HEARTH_E_NOT_FOUND, "the artifact has failed to load, and was evicted");
    for (size_t i = 0; i < n && !err.code; i++)
        if (files[i] >= g->n_files)
            error_set(&err, HEARTH_E_INVALID, "the artifact has %u files, and number %u was asked for", g->n_files,
                      files[i]);
    if (n > HEARTH_PACKET_FDS_MAX && !err.code)
        error_set(&err, HEARTH_E_INVALID, "%zu files were asked for; one reply holds %u", n, HEARTH_PACKET_FDS_MAX);
    if (err.code || take(d, g, false, files, n, &fds, &err)) {
        ipc_reply_error(p, serial, &err);
    } else {
        const struct hearth_msg_fds m = {.id = id, .n_fds = (uint32_t)n};
        ipc_reply_fds(p, serial, &m, &fds);
    }
    fdlist_deinit(&fds);
}

static void on_want(void *user, struct ipc_peer *p, const struct hearth_msg_want *m) {
    struct daemon *d = user;
    struct client *c = ipc_peer_data(p);
    struct generation *g = artifacts_find(d->artifacts, m->id);
    if (c && g && g->load && client_lease(c, g) && m->file < g->n_files)
        load_want(g->load, m->file, m->offset, m->length);
}

/* Who was to see that, and might not look again, is hung up on. */
static void failed(void *user, const struct generation *g, const struct hearth_error *err) {
    struct daemon *d = user;
    if ((unsigned)err->code < METRICS_CODES)
        d->metrics.failures[err->code]++;
    struct client *c;
    if (!g->leases)
        return;
    LIST_FOREACH(c, &d->clients, link) {
        const struct lease *l = client_lease(c, g);
        if (l && l->speculative)
            ipc_peer_dismiss(c->peer, err);
    }
}

static void on_detach(void *user, struct ipc_peer *p, uint64_t id) {
    struct daemon *d = user;
    struct client *c = ipc_peer_data(p);
    struct generation *g = artifacts_find(d->artifacts, id);
    struct lease *l = c && g ? client_lease(c, g) : NULL;
    if (l)
        unlease(d, c, l);
}

static void on_gone(void *user, struct ipc_peer *p) {
    struct daemon *d = user;
    struct client *c = ipc_peer_data(p);
    if (!c)
        return;
    if (c->uses)
        d->used_ns = clock_now();
    history_forget(c);
    artifacts_forget(d->artifacts, c, 0, NULL);
    while (c->n_leases)
        unlease(d, c, &c->leases[0]);
    client_free(c);
}

const struct artifacts_events daemon_answers = {.progress = answer_progress,
                                                .finished = answer_finished,
                                                .failed = failed,
                                                .loaded = loaded,
                                                .pinned = pinned,
                                                .dropped = dropped};

/* ---- list, status ---- */

#define LISTED_A_TURN 64

/* Where to go on: behind the one that was listed last, or, if that is gone, where it was. */
static struct generation *resume(struct daemon *d, const struct listing *l) {
    struct generation *g = artifacts_next(d->artifacts, artifacts_find(d->artifacts, l->id));
    while (g && g->number <= l->number)
        g = artifacts_next(d->artifacts, g);
    return g;
}

/* Sends as much of a LIST as the socket takes, a bounded number of items a turn. True when that was the end of it. */
static bool list_some(struct daemon *d, struct ipc_peer *p, struct listing *l) {
    uint64_t now = clock_now();
    struct generation *g = resume(d, l);
    const struct who *who = access_who(p);
    for (unsigned i = 0; i < LISTED_A_TURN && ipc_peer_has_room(p); i++) {
        struct hearth_msg_info info;
        if (!g || g->number > l->newest) {
            ipc_reply_done(p, l->serial, l->count);
            return true;
        }
        if ((!l->ref || strcmp(g->spec->ref, l->ref) == 0) && access_right(d, who, g) >= RIGHT_ATTACH) {
            generation_info(g, now, &info);
            ipc_reply_item(p, l->serial, &info, g->spec->ref);
            l->count++;
        }
        l->id = g->id;
        l->number = g->number;
        g = artifacts_next(d->artifacts, g);
    }
    return false;
}

static void on_room(void *user, struct ipc_peer *p) {
    struct daemon *d = user;
    struct client *c = ipc_peer_data(p);
    struct listing *l = c ? STAILQ_FIRST(&c->listings) : NULL;
    if (l && list_some(d, p, l))
        client_list_remove(c);
    if (c && !STAILQ_EMPTY(&c->listings))
        ipc_peer_await_room(p);
    if (c)
        history_go_on(c);
}

static void on_list(void *user, struct ipc_peer *p, uint32_t serial, const char *ref) {
    struct daemon *d = user;
    struct client *c = client_of(&d->clients, p);
    struct hearth_error err = HEARTH_ERROR_INIT;
    char path[PATH_MAX];
    if (ref[0] && access_path(d, ref, path, &err))
        ipc_reply_error(p, serial, &err);
    else if (!c || client_list_add(c, serial, ref[0] ? path : NULL))
        reply_no_memory(p, serial);
    else if (!STAILQ_NEXT(STAILQ_FIRST(&c->listings), link))
        on_room(d, p); /* else its turn will come */
}

static void on_history(void *user, struct ipc_peer *p, uint32_t serial, const char *ref, uint32_t limit) {
    struct daemon *d = user;
    struct client *c = client_of(&d->clients, p);
    struct hearth_error err = HEARTH_ERROR_INIT;
    char path[PATH_MAX];
    uint64_t id;
    if (access_who(p)) {
        error_set(&err, HEARTH_E_DENIED, "only uid %d and root may see what was loaded: it was for all users",
                  (int)geteuid());
        ipc_reply_error(p, serial, &err);
    } else if (!c) {
        reply_no_memory(p, serial);
    } else if (ref[0] && !parse_id(ref, &id) && access_path(d, ref, path, &err)) {
        ipc_reply_error(p, serial, &err);
    } else {
        history_ask(d->store, c, serial, ref[0] && !parse_id(ref, &id) ? path : ref, limit);
    }
}

void daemon_metrics(void *daemon, struct metrics *out) {
    struct daemon *d = daemon;
    *out = d->metrics;
    for (struct generation *g = NULL; (g = artifacts_next(d->artifacts, g));) {
        out->artifacts[g->state]++;
        out->resident_bytes += g->resident || g->state == HEARTH_STATE_GONE ? g->charged.bytes : 0;
    }
    for (int code = HEARTH_OK + 1; code < METRICS_CODES; code++)
        out->refusals[code] = d->server ? ipc_server_errors(d->server, (enum hearth_code)code) : 0;
    out->budget_bytes = d->budget.limit.bytes;
    out->budget_used_bytes = d->budget.used.bytes;
    out->budget_fds = d->budget.limit.fds;
    out->budget_used_fds = d->budget.used.fds;
    out->reserve_bytes = d->options.reserve;
    out->reserve_held_bytes = engine_held(d->engine);
    out->leases = d->leases;
    out->clients = d->server ? ipc_server_peers(d->server) : 0;
    out->uptime_ns = clock_now() - d->start_ns;
}

/* ---- evict, stop ---- */

/* A pin keeps it, or it was to be cancelled and is not under way. */
static int refuses_to_go(const struct generation *g, uint32_t flags, struct hearth_error *err) {
    char id[ID_TEXT_BYTES];
    format_id(g->id, id);
    if (flags & HEARTH_EVICT_CANCEL && g->state >= HEARTH_STATE_RESIDENT)
        return error_set(err, HEARTH_E_BUSY, "artifact %s is %s: there is no load to be cancelled", id,
                         hearth_state_name(g->state));
    if (!g->pinned || flags & HEARTH_EVICT_FORCE)
        return 0;
    error_set(err, HEARTH_E_BUSY, "artifact %s is pinned", id);
    error_expected(err, "no pin");
    error_hint(err, "hearth unpin %s; or evict it with force: then its pin goes, too", id);
    return HEARTH_E_BUSY;
}

static void on_evict(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct daemon *d = user;
    struct hearth_error err = HEARTH_ERROR_INIT;
    char text[ID_TEXT_BYTES], pid[CLIENT_PID_BYTES];
    struct generation *g = find(d, p, serial, id, flags & HEARTH_EVICT_FORCE ? RIGHT_ADMINISTER : RIGHT_EVICT);
    if (!g)
        return;
    struct client *c = user_of(d, p);
    if (!c) {
        reply_no_memory(p, serial);
        return;
    }
    format_id(id, text);
    if (refuses_to_go(g, flags, &err)) {
        ipc_reply_error(p, serial, &err);
        return;
    }
    if (g->leases && !(flags & HEARTH_EVICT_FORCE)) {
        error_set(&err, HEARTH_E_BUSY, "artifact %s is held by %u lease%s", text, g->leases, g->leases > 1 ? "s" : "");
        error_expected(&err, "no leases");
        client_holders(&d->clients, g, err.found, sizeof(err.found));
        error_hint(&err, "end its holders, or evict it with force: they keep what they have, and nobody new gets it");
        ipc_reply_error(p, serial, &err);
        return;
    }
    struct ipc_cred who = ipc_peer_cred(p);
    log_info("evicting %s (%s), asked by pid %d, uid %d%s", text, hearth_state_name(g->state), (int)who.pid,
             (int)who.uid, g->leases ? ", by force" : "");
    error_set(&err, HEARTH_E_CANCELLED, "the load was cancelled: artifact %s was evicted by a client (%s)", text,
              client_pid(p, pid));
    artifacts_evict(g, &err, &(struct waiter){.client = c, .serial = serial, .evicts = true});
}

static void on_pin(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    struct daemon *d = user;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct generation *g = find(d, p, serial, id, RIGHT_PIN);
    if (!g)
        return;
    d->used_ns = clock_now();
    if (flags & HEARTH_PIN_UNPIN)
        artifacts_unpin(g);
    else if (artifacts_pin(g, &err)) {
        ipc_reply_error(p, serial, &err);
        return;
    }
    ipc_reply_done(p, serial, 0);
}

static void on_stop(void *user, struct ipc_peer *p, uint32_t serial) {
    struct daemon *d = user;
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct ipc_cred who = ipc_peer_cred(p);
    char why[64];
    if (who.uid != 0 && who.uid != geteuid()) {
        error_set(&err, HEARTH_E_DENIED, "only uid %d and root may stop this daemon", (int)geteuid());
        error_found(&err, "uid %d", (int)who.uid);
        ipc_reply_error(p, serial, &err);
        return;
    }
    ipc_reply_done(p, serial, 0);
    snprintf(why, sizeof(why), "asked by pid %d, uid %d", (int)who.pid, (int)who.uid);
    daemon_stop(d, why);
}

const struct ipc_handler daemon_requests = {
    .load = on_load,
    .watch = on_watch,
    .attach = on_attach,
    .files = on_files,
    .detach = on_detach,
    .want = on_want,
    .list = on_list,
    .status = daemon_status,
    .history = on_history,
    .evict = on_evict,
    .pin = on_pin,
    .stop = on_stop,
    .cancel = on_cancel,
    .gone = on_gone,
    .room = on_room,
};
