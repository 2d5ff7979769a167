/* ipc/client/admin.c: looking after a daemon: list, status, evict, stop. */
#include <string.h>

#include "ipc/client/client.h"

static bool info_take(const struct wire_in *in, const struct hearth_msg_info *m, struct hearth_info *out) {
    *out = (struct hearth_info){
        .id = m->id,
        .state = (enum hearth_state)m->state,
        .verified = (enum hearth_verified)m->verified,
        .backing = (enum hearth_backing)m->backing,
        .flags = m->flags,
        .bytes = m->bytes,
        .resident_bytes = m->resident_bytes,
        .huge_bytes = m->huge_bytes,
        .bytes_done = m->bytes_done,
        .from_disk = m->from_disk,
        .from_page_cache = m->from_page_cache,
        .from_resident = m->from_resident,
        .seconds_ns = m->seconds_ns,
        .n_files = m->n_files,
        .leases = m->leases,
        .waits_for = (enum hearth_wait)m->waits_for,
        .lacks = m->lacks,
    };
    for (int i = 0; i < HEARTH_PHASES; i++)
        out->phases[i] = m->phases[i];
    return wire_get_str(in, m->ref, out->ref, sizeof(out->ref)) == 0;
}

bool info_decode(const struct wire_in *in, struct hearth_info *out) {
    struct hearth_msg_info m;
    wire_fixed(in, &m, sizeof(m));
    return info_take(in, &m, out);
}

struct list {
    struct request request;
    void (*each)(void *user, const struct hearth_info *info);
    void *user;
};

static enum taken take_item(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    struct list *list = (struct list *)r;
    if (in->header.type != HEARTH_MSG_INFO)
        return request_take_done(r, in, fds);
    struct hearth_info info;
    if (!info_decode(in, &info))
        return TAKEN_WRONG;
    list->each(list->user, &info);
    return TAKEN_PART;
}

int hearth_list_of(struct hearth *h, const char *ref, void (*each)(void *user, const struct hearth_info *info),
                   void *user, uint64_t deadline, struct hearth_error *err) {
    struct list list = {.request.take = take_item, .each = each, .user = user};
    if (strlen(ref) >= HEARTH_REF_MAX)
        return error_set(err, HEARTH_E_INVALID, "the reference is too long");
    int code = request_ready(h, &list.request, deadline, err);
    if (code)
        return code;
    struct hearth_msg_list *m = request_begin(h, &list.request, HEARTH_MSG_LIST, sizeof(*m));
    m->ref = wire_put_str(&h->out, ref);
    return request_call(h, &list.request, deadline, err);
}

int hearth_list(struct hearth *h, void (*each)(void *user, const struct hearth_info *info), void *user,
                uint64_t deadline, struct hearth_error *err) {
    return hearth_list_of(h, "", each, user, deadline, err);
}

struct retrospect {
    struct request request;
    void (*each)(void *user, const struct hearth_past *past);
    void *user;
};

static enum taken take_past(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    struct retrospect *l = (struct retrospect *)r;
    if (in->header.type != HEARTH_MSG_PAST)
        return request_take_done(r, in, fds);
    struct hearth_msg_past m;
    struct hearth_past past;
    wire_fixed(in, &m, sizeof(m));
    past.ended_ns = m.ended_ns;
    if (!info_take(in, &m.info, &past.info) || wire_take_error(in, &m.error, &past.error) < 0)
        return TAKEN_WRONG;
    l->each(l->user, &past);
    return TAKEN_PART;
}

int hearth_history(struct hearth *h, const char *ref, uint32_t limit,
                   void (*each)(void *user, const struct hearth_past *past), void *user, uint64_t deadline,
                   struct hearth_error *err) {
    struct retrospect l = {.request.take = take_past, .each = each, .user = user};
    if (limit == 0 || (ref && strlen(ref) >= HEARTH_REF_MAX))
        return error_set(err, HEARTH_E_INVALID, "a history needs a limit of at least 1, and a reference below %u bytes",
                         HEARTH_REF_MAX);
    int code = request_ready(h, &l.request, deadline, err);
    if (code)
        return code;
    struct hearth_msg_history *m = request_begin(h, &l.request, HEARTH_MSG_HISTORY, sizeof(*m));
    m->limit = limit;
    m->ref = wire_put_str(&h->out, ref ? ref : "");
    return request_call(h, &l.request, deadline, err);
}

struct status {
    struct request request;
    struct hearth_status *out;
};

static enum taken take_status(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    (void)fds;
    if (in->header.type != HEARTH_MSG_STATUS_REPLY)
        return TAKEN_WRONG;
    struct hearth_status *s = ((struct status *)r)->out;
    struct hearth_msg_status_reply m;
    wire_fixed(in, &m, sizeof(m));
    s->pid = m.pid;
    s->clients = m.clients;
    s->artifacts = m.artifacts;
    s->leases = m.leases;
    s->budget_bytes = m.budget_bytes;
    s->resident_bytes = m.resident_bytes;
    s->uptime_ns = m.uptime_ns;
    s->reserve_bytes = m.reserve_bytes;
    s->reserve_held_bytes = m.reserve_held_bytes;
    s->held_bytes = m.held_bytes;
    s->pinned_bytes = m.pinned_bytes;
    s->fds_used = m.fds_used;
    s->fds_limit = m.fds_limit;
    s->queued = m.queued;
    s->flags = m.flags;
    bool ok = wire_get_text(in, m.version, s->version, sizeof(s->version)) == 0 &&
              wire_get_text(in, m.socket, s->socket, sizeof(s->socket)) == 0 &&
              wire_get_text(in, m.reader, s->reader, sizeof(s->reader)) == 0 &&
              wire_get_text(in, m.direct_io, s->direct_io, sizeof(s->direct_io)) == 0 &&
              wire_get_text(in, m.backing, s->backing, sizeof(s->backing)) == 0 &&
              wire_get_text(in, m.configuration, s->configuration, sizeof(s->configuration)) == 0 &&
              wire_get_text(in, m.swap, s->swap, sizeof(s->swap)) == 0 &&
              wire_get_text(in, m.state, s->state, sizeof(s->state)) == 0 &&
              wire_get_text(in, m.stalled, s->stalled, sizeof(s->stalled)) == 0;
    return ok ? TAKEN_FINAL : TAKEN_WRONG;
}

int hearth_get_status(struct hearth *h, uint64_t deadline, struct hearth_status *out, struct hearth_error *err) {
    struct status status = {.request.take = take_status, .out = out};
    int code = request_ready(h, &status.request, deadline, err);
    if (code)
        return code;
    request_begin(h, &status.request, HEARTH_MSG_STATUS, sizeof(struct hearth_msg_status));
    return request_call(h, &status.request, deadline, err);
}

static int evict(struct hearth *h, uint64_t id, uint32_t flags, uint64_t deadline, struct hearth_error *err) {
    struct request r = {.take = request_take_done};
    int code = request_ready(h, &r, deadline, err);
    if (code)
        return code;
    struct hearth_msg_evict *m = request_begin(h, &r, HEARTH_MSG_EVICT, sizeof(*m));
    m->id = id;
    m->flags = flags;
    return request_call(h, &r, deadline, err);
}

int hearth_evict(struct hearth *h, uint64_t id, bool force, uint64_t deadline, struct hearth_error *err) {
    return evict(h, id, force ? HEARTH_EVICT_FORCE : 0, deadline, err);
}

int hearth_cancel(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err) {
    return evict(h, id, HEARTH_EVICT_CANCEL, deadline, err);
}

static int pin(struct hearth *h, uint64_t id, uint32_t flags, uint64_t deadline, struct hearth_error *err) {
    struct request r = {.take = request_take_done};
    int code = request_ready(h, &r, deadline, err);
    if (code)
        return code;
    struct hearth_msg_pin *m = request_begin(h, &r, HEARTH_MSG_PIN, sizeof(*m));
    m->id = id;
    m->flags = flags;
    return request_call(h, &r, deadline, err);
}

int hearth_pin(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err) {
    return pin(h, id, 0, deadline, err);
}

int hearth_unpin(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_error *err) {
    return pin(h, id, HEARTH_PIN_UNPIN, deadline, err);
}

int hearth_stop(struct hearth *h, uint64_t deadline, struct hearth_error *err) {
    struct request r = {.take = request_take_done};
    int code = request_ready(h, &r, deadline, err);
    if (code)
        return code;
    request_begin(h, &r, HEARTH_MSG_STOP, sizeof(struct hearth_msg_stop));
    return request_call(h, &r, deadline, err);
}
