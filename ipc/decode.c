/* ipc/decode.c: packets to requests, one function a message. Everything in a packet is a claim until it is checked. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/error.h"
#include "util/text.h"

#define LOAD_FLAGS (HEARTH_LOAD_NO_WAIT | HEARTH_LOAD_PROGRESS | HEARTH_LOAD_BACKGROUND | HEARTH_LOAD_PIN)

/* Copies a string into the scratch memory, behind what is there; NULL when it is out of range. All strings of a packet
 * fit, unless they overlap: a packet of 64 KiB may not stand for gigabytes of text. */
static const char *unpack(struct ipc_scratch *scratch, size_t *used, const struct wire_in *in,
                          struct hearth_wire_str s) {
    char *to = scratch->strings + *used;
    if (*used >= sizeof(scratch->strings) || wire_get_str(in, s, to, sizeof(scratch->strings) - *used) < 0)
        return NULL;
    *used += (size_t)s.length + 1;
    return to;
}

static bool unpack_list(struct ipc_scratch *scratch, size_t *used, const struct wire_in *in, struct hearth_wire_list l,
                        const char **out) {
    const void *entries;
    if (l.count > HEARTH_LIST_MAX || wire_get_list(in, l, sizeof(struct hearth_wire_str), &entries) < 0)
        return false;
    for (uint32_t i = 0; i < l.count; i++) {
        struct hearth_wire_str s;
        memcpy(&s, (const char *)entries + i * sizeof(s), sizeof(s));
        out[i] = unpack(scratch, used, in, s);
        if (!out[i])
            return false;
    }
    return true;
}

static bool unpack_digests(struct ipc_scratch *scratch, size_t *used, const struct wire_in *in,
                           struct hearth_wire_list l) {
    const void *entries;
    if (l.count > HEARTH_LIST_MAX || wire_get_list(in, l, sizeof(struct hearth_wire_digest), &entries) < 0)
        return false;
    for (uint32_t i = 0; i < l.count; i++) {
        struct hearth_wire_digest d;
        memcpy(&d, (const char *)entries + i * sizeof(d), sizeof(d));
        scratch->digests[i].path = unpack(scratch, used, in, d.path);
        if (!scratch->digests[i].path)
            return false;
        memcpy(scratch->digests[i].sha256, d.sha256, sizeof(d.sha256));
    }
    return true;
}

static bool decode_load(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    struct ipc_server *s = p->server;
    struct hearth_msg_load m;
    wire_fixed(in, &m, sizeof(m));
    if (!s->scratch)
        s->scratch = malloc(sizeof(*s->scratch));
    if (!s->scratch) {
        struct hearth_error err;
        error_set(&err, HEARTH_E_NO_MEMORY, "the daemon has no memory to take the request");
        ipc_reply_error(p, in->header.serial, &err);
        return true;
    }
    size_t used = 0;
    struct ipc_load request = {
        .flags = m.flags,
        .verify = (enum hearth_verify)m.verify,
        .ref = unpack(s->scratch, &used, in, m.ref),
        .include = s->scratch->include,
        .n_include = m.include.count,
        .exclude = s->scratch->exclude,
        .n_exclude = m.exclude.count,
        .digests = s->scratch->digests,
        .n_digests = m.digests.count,
        .seen = m.seen & HEARTH_SEEN_VALID,
        .seen_device = m.seen_device,
        .seen_inode = m.seen_inode,
        .seen_bytes = m.seen_size,
    };
    *why = "a LOAD has strings or lists that do not fit the packet";
    if (!request.ref || !unpack_list(s->scratch, &used, in, m.include, s->scratch->include) ||
        !unpack_list(s->scratch, &used, in, m.exclude, s->scratch->exclude) ||
        !unpack_digests(s->scratch, &used, in, m.digests))
        return false;
    *why = "a LOAD has an empty reference, flags or a policy that do not exist, or a reserved field that is not 0";
    if (request.ref[0] == '\0' || m.flags & ~LOAD_FLAGS || m.verify > HEARTH_VERIFY_ALWAYS ||
        m.seen & ~HEARTH_SEEN_VALID || m.reserved)
        return false;
    if (m.ref.length >= PATH_MAX) { /* and so every reply that repeats it fits a packet */
        struct hearth_error err;
        error_set(&err, HEARTH_E_INVALID, "the reference is longer than a path may be");
        error_expected(&err, "at most %d bytes", PATH_MAX - 1);
        error_found(&err, "%u bytes", m.ref.length);
        ipc_reply_error(p, in->header.serial, &err);
        return true;
    }
    s->handler.load(s->user, p, in->header.serial, &request);
    return true;
}

static bool decode_files(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    struct hearth_msg_files m;
    const void *entries;
    wire_fixed(in, &m, sizeof(m));
    *why = "a FILES names no files, more than a packet carries descriptors for, or a list that does not fit the packet";
    if (m.files.count == 0 || m.files.count > HEARTH_PACKET_FDS_MAX ||
        wire_get_list(in, m.files, sizeof(uint32_t), &entries) < 0)
        return false;
    uint32_t files[HEARTH_PACKET_FDS_MAX];
    memcpy(files, entries, m.files.count * sizeof(uint32_t));
    p->server->handler.files(p->server->user, p, in->header.serial, m.id, files, m.files.count);
    return true;
}

static bool decode_hello(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    struct hearth_msg_hello m;
    struct ipc_server *s = p->server;
    char name[sizeof(p->name)];
    wire_fixed(in, &m, sizeof(m));
    *why = "HELLO comes first, once, and names a range of versions";
    if (p->greeted || m.version_min > m.version_max || wire_get_text(in, m.client, name, sizeof(name)) < 0)
        return false;
    if (m.version_min > HEARTH_PROTOCOL_MAX || m.version_max < HEARTH_PROTOCOL_MIN) {
        char text[128];
        snprintf(text, sizeof(text), "no common version of the protocol: the daemon speaks %u to %u",
                 HEARTH_PROTOCOL_MIN, HEARTH_PROTOCOL_MAX);
        peer_refuse(p, in->header.serial, HEARTH_E_UNSUPPORTED, text);
        return true;
    }
    format_printable(name, strlen(name), p->name, sizeof(p->name));
    struct hearth_msg_welcome *w = wire_begin(&s->out, HEARTH_MSG_WELCOME, in->header.serial, sizeof(*w));
    w->version = m.version_max < HEARTH_PROTOCOL_MAX ? m.version_max : HEARTH_PROTOCOL_MAX;
    w->pid = (uint32_t)getpid();
    w->server = wire_put_str(&s->out, s->options.server_version);
    w->mounts = s->options.mounts;
    w->root_device = s->options.root_device;
    w->root_inode = s->options.root_inode;
    p->greeted = true;
    silent_remove(p);
    wire_end(&s->out);
    send_packet(p, SEND_QUEUED);
    return true;
}

static bool decode_history(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    struct hearth_msg_history m;
    char ref[PATH_MAX];
    wire_fixed(in, &m, sizeof(m));
    *why = "a HISTORY asks for no items, has a reserved field that is not 0, or a reference that does not fit";
    if (m.limit == 0 || m.reserved || wire_get_str(in, m.ref, ref, sizeof(ref)) < 0)
        return false;
    p->server->handler.history(p->server->user, p, in->header.serial, ref, m.limit);
    return true;
}

static bool decode_request(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    const struct ipc_handler *h = &p->server->handler;
    void *user = p->server->user;
    uint32_t serial = in->header.serial;
    char ref[PATH_MAX];
    union {
        struct hearth_msg_watch watch;
        struct hearth_msg_attach attach;
        struct hearth_msg_list list;
        struct hearth_msg_status status;
        struct hearth_msg_evict evict;
        struct hearth_msg_stop stop;
        struct hearth_msg_pin pin;
    } m;
    *why = "a request has flags that do not exist, or a reserved field that is not 0";
    switch (in->header.type) {
    case HEARTH_MSG_LOAD:
        return decode_load(p, in, why);
    case HEARTH_MSG_FILES:
        return decode_files(p, in, why);
    case HEARTH_MSG_HISTORY:
        return decode_history(p, in, why);
    case HEARTH_MSG_WATCH:
        wire_fixed(in, &m.watch, sizeof(m.watch));
        if (m.watch.flags & ~HEARTH_WATCH_ONLY || m.watch.reserved)
            return false;
        h->watch(user, p, serial, m.watch.id, m.watch.flags);
        return true;
    case HEARTH_MSG_ATTACH:
        wire_fixed(in, &m.attach, sizeof(m.attach));
        if (m.attach.flags & ~(HEARTH_ATTACH_ALL | HEARTH_ATTACH_STREAM | HEARTH_ATTACH_SPECULATIVE) ||
            (m.attach.flags & HEARTH_ATTACH_SPECULATIVE && !(m.attach.flags & HEARTH_ATTACH_STREAM)) ||
            m.attach.reserved)
            return false;
        h->attach(user, p, serial, m.attach.id, m.attach.flags);
        return true;
    case HEARTH_MSG_LIST:
        wire_fixed(in, &m.list, sizeof(m.list));
        if (m.list.flags || m.list.reserved || wire_get_str(in, m.list.ref, ref, sizeof(ref)) < 0)
            return false;
        h->list(user, p, serial, ref);
        return true;
    case HEARTH_MSG_STATUS:
        wire_fixed(in, &m.status, sizeof(m.status));
        if (m.status.flags || m.status.reserved)
            return false;
        h->status(user, p, serial);
        return true;
    case HEARTH_MSG_EVICT:
        wire_fixed(in, &m.evict, sizeof(m.evict));
        if (m.evict.flags & ~(HEARTH_EVICT_FORCE | HEARTH_EVICT_CANCEL) || m.evict.reserved)
            return false;
        h->evict(user, p, serial, m.evict.id, m.evict.flags);
        return true;
    case HEARTH_MSG_PIN:
        wire_fixed(in, &m.pin, sizeof(m.pin));
        if (m.pin.flags & ~HEARTH_PIN_UNPIN || m.pin.reserved)
            return false;
        h->pin(user, p, serial, m.pin.id, m.pin.flags);
        return true;
    case HEARTH_MSG_STOP:
        wire_fixed(in, &m.stop, sizeof(m.stop));
        if (m.stop.flags || m.stop.reserved)
            return false;
        h->stop(user, p, serial);
        return true;
    default: {
        struct hearth_error err;
        error_set(&err, HEARTH_E_UNSUPPORTED, "this daemon does not know requests of type %u", in->header.type);
        ipc_reply_error(p, serial, &err);
        return true;
    }
    }
}

/* What has no reply: what a client gives up, and hints. */
static bool decode_notice(struct ipc_peer *p, const struct wire_in *in, const char **why) {
    const struct ipc_handler *h = &p->server->handler;
    if (in->header.type == HEARTH_MSG_DETACH) {
        struct hearth_msg_detach m;
        wire_fixed(in, &m, sizeof(m));
        h->detach(p->server->user, p, m.id);
        return true;
    }
    if (in->header.type == HEARTH_MSG_WANT) {
        struct hearth_msg_want m;
        wire_fixed(in, &m, sizeof(m));
        *why = "a WANT has a reserved field that is not 0";
        if (m.reserved)
            return false;
        h->want(p->server->user, p, &m);
        return true;
    }
    struct hearth_msg_cancel m;
    wire_fixed(in, &m, sizeof(m));
    *why = "a CANCEL names no request, or has a reserved field that is not 0";
    if (m.serial == 0 || m.reserved)
        return false;
    h->cancel(p->server->user, p, m.serial);
    return true;
}

bool decode(struct ipc_peer *p, size_t bytes, const char **why) {
    struct wire_in in;
    *why = "the header contradicts the packet";
    if (wire_open(&in, p->server->in, bytes) < 0 || in.header.reserved != 0)
        return false;
    *why = "a request needs a serial that is not 0";
    if (in.header.serial == 0)
        return false;
    if (in.header.type == HEARTH_MSG_HELLO)
        return decode_hello(p, &in, why);
    *why = "HELLO must come first";
    if (!p->greeted)
        return false;
    *why = "replies are for the daemon to send";
    if (in.header.type >= HEARTH_MSG_ERROR && in.header.type <= HEARTH_MSG_PAST)
        return false;
    if (in.header.type == HEARTH_MSG_DETACH || in.header.type == HEARTH_MSG_CANCEL || in.header.type == HEARTH_MSG_WANT)
        return decode_notice(p, &in, why);
    peer_asked(p);
    if (p->requests > REQUESTS_MAX || p->account->requests > REQUESTS_UID_MAX) {
        struct hearth_error err;
        bool own = p->requests > REQUESTS_MAX;
        error_set(&err, HEARTH_E_BUSY, "%s as many requests under way as it may",
                  own ? "this connection has" : "this user has");
        error_expected(&err, "at most %u", own ? REQUESTS_MAX : REQUESTS_UID_MAX);
        error_hint(&err, "wait for replies, then ask again");
        ipc_reply_error(p, in.header.serial, &err);
        return true;
    }
    return decode_request(p, &in, why);
}
