/* ipc/reply.c: answers, as packets. Each is built in the server's one buffer and sent or queued at once. Each is far
 * smaller than a packet may be: a reference is no longer than a path (decode.c), and all else is our own. */
#include <errno.h>
#include <string.h>

#include "ipc/internal.h"
#include "util/error.h"

static struct wire_out *out_of(struct ipc_peer *p) {
    return &p->server->out;
}

static void finish(struct ipc_peer *p) {
    peer_answered(p);
    wire_end(out_of(p));
    send_packet(p, SEND_QUEUED);
}

void ipc_reply_error(struct ipc_peer *p, uint32_t serial, const struct hearth_error *err) {
    peer_answered(p);
    count_error(p->server, err->code);
    wire_error(out_of(p), serial, err);
    send_packet(p, SEND_QUEUED);
}

static void put_info(struct ipc_peer *p, uint32_t serial, enum hearth_msg_type type, const struct hearth_msg_info *info,
                     const char *ref) {
    struct hearth_msg_info *m = wire_begin(out_of(p), type, serial, sizeof(*m));
    *m = *info;
    m->ref = wire_put_str(out_of(p), ref);
}

void ipc_reply_info(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref) {
    put_info(p, serial, HEARTH_MSG_INFO, info, ref);
    finish(p);
}

void ipc_reply_progress(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref) {
    put_info(p, serial, HEARTH_MSG_PROGRESS, info, ref);
    wire_end(out_of(p));
    send_packet(p, SEND_DROPPABLE);
}

void ipc_reply_item(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_info *info, const char *ref) {
    put_info(p, serial, HEARTH_MSG_INFO, info, ref);
    wire_end(out_of(p));
    send_packet(p, SEND_QUEUED);
}

void ipc_reply_past(struct ipc_peer *p, uint32_t serial, int64_t ended_ns, const struct hearth_msg_info *info,
                    const char *ref, const struct hearth_error *err) {
    struct hearth_msg_past *m = wire_begin(out_of(p), HEARTH_MSG_PAST, serial, sizeof(*m));
    m->ended_ns = ended_ns;
    m->info = *info;
    m->info.ref = wire_put_str(out_of(p), ref);
    m->error.code = err->code;
    m->error.sys_errno = err->sys_errno;
    m->error.offset = err->offset;
    m->error.message = wire_put_str(out_of(p), err->message);
    m->error.file = wire_put_str(out_of(p), err->file);
    m->error.expected = wire_put_str(out_of(p), err->expected);
    m->error.found = wire_put_str(out_of(p), err->found);
    m->error.hint = wire_put_str(out_of(p), err->hint);
    wire_end(out_of(p));
    send_packet(p, SEND_QUEUED);
}

void ipc_reply_done(struct ipc_peer *p, uint32_t serial, uint64_t count) {
    struct hearth_msg_done *m = wire_begin(out_of(p), HEARTH_MSG_DONE, serial, sizeof(*m));
    m->count = count;
    finish(p);
}

static struct hearth_wire_str put_text(struct ipc_peer *p, const char *text) {
    return wire_put_str(out_of(p), text ? text : "");
}

void ipc_reply_status(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_status_reply *fixed,
                      const struct ipc_status_texts *texts) {
    struct hearth_msg_status_reply *m = wire_begin(out_of(p), HEARTH_MSG_STATUS_REPLY, serial, sizeof(*m));
    *m = *fixed;
    m->version = put_text(p, texts->version);
    m->socket = put_text(p, texts->socket);
    m->reader = put_text(p, texts->reader);
    m->direct_io = put_text(p, texts->direct_io);
    m->backing = put_text(p, texts->backing);
    m->configuration = put_text(p, texts->configuration);
    m->swap = put_text(p, texts->swap);
    m->state = put_text(p, texts->state);
    m->stalled = put_text(p, texts->stalled);
    finish(p);
}

static bool refuse_fds(struct ipc_peer *p, uint32_t serial, int r) {
    struct hearth_error err;
    switch (r) {
    case -EBUSY:
        error_set(&err, HEARTH_E_BUSY, "descriptors that were sent earlier have not been read");
        error_hint(&err, "read them, then ask again");
        break;
    case -EAGAIN:
        error_set(&err, HEARTH_E_BUSY, "replies that were sent earlier have not been read");
        error_hint(&err, "read them, then ask again");
        break;
    case -EDQUOT:
        error_set(&err, HEARTH_E_BUSY, "other clients of this user have not read the descriptors they asked for");
        error_expected(&err, "at most %u unread descriptors of one user", p->server->unread_fds_uid_max);
        error_hint(&err, "try again in some seconds, or raise the daemon's limit of open files (LimitNOFILE=)");
        break;
    default: /* -ETOOMANYREFS */
        error_set(&err, HEARTH_E_BUSY, "too many descriptors are on their way to clients that do not read them");
        error_hint(&err, "try again, or raise the daemon's limit of open files (LimitNOFILE=)");
        break;
    }
    ipc_reply_error(p, serial, &err);
    return false;
}

static bool reply_fds(struct ipc_peer *p, uint32_t serial, enum hearth_msg_type type, const void *m, size_t bytes,
                      const struct fdlist *fds) {
    if (p->doomed || p->closing)
        return false;
    int r = send_charge_fds(p, (unsigned)fds->count);
    if (r == 0) {
        memcpy(wire_begin(out_of(p), type, serial, bytes), m, bytes);
        wire_end(out_of(p));
        r = send_fds(p, fds);
    }
    if (r < 0)
        return refuse_fds(p, serial, r);
    peer_answered(p);
    return !p->doomed;
}

bool ipc_reply_attached(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_attached *m,
                        const struct fdlist *fds) {
    return reply_fds(p, serial, HEARTH_MSG_ATTACHED, m, sizeof(*m), fds);
}

bool ipc_reply_fds(struct ipc_peer *p, uint32_t serial, const struct hearth_msg_fds *m, const struct fdlist *fds) {
    return reply_fds(p, serial, HEARTH_MSG_FDS, m, sizeof(*m), fds);
}
