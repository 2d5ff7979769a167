/* ipc/client/request.c: requests, and which reply belongs to which. */
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "ipc/client/client.h"
#include "util/clock.h"

static void unlink_request(struct hearth *h, const struct request *r) {
    for (struct request **p = &h->requests; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            return;
        }
}

static struct request *find_request(const struct hearth *h, uint32_t serial) {
    struct request *r = h->requests;
    while (r && r->serial != serial)
        r = r->next;
    return r;
}

/* Calls back: r may be gone afterwards. */
static void finish(struct hearth *h, struct request *r, const struct hearth_error *err) {
    unlink_request(h, r);
    r->finished = true;
    r->code = err ? (int)err->code : 0;
    if (err && r->err)
        *r->err = *err;
    if (r->done)
        r->done(r, err);
}

void request_fail_all(struct hearth *h, const struct hearth_error *why) {
    while (h->requests)
        finish(h, h->requests, why);
}

void request_forget_all(struct hearth *h) {
    while (h->requests) {
        struct request *r = h->requests;
        h->requests = r->next;
        if (r->done) /* others lie on the stack of a call that will never return in this process */
            free(r);
    }
}

/* A daemon that never stops sending must not keep a call beyond its deadline. */
static bool is_over(uint64_t deadline) {
    return deadline != HEARTH_NO_DEADLINE && clock_now() >= deadline;
}

int request_not_ours(const struct hearth *h, struct hearth_error *err) {
    error_set(err, HEARTH_E_INVALID, "this connection belongs to the process that forked this one");
    error_found(err, "process %d uses a connection of process %d", (int)getpid(), (int)h->pid);
    error_hint(err, "connect again in the child");
    return HEARTH_E_INVALID;
}

int request_ready(struct hearth *h, const struct request *r, uint64_t deadline, struct hearth_error *err) {
    if (h->pid != getpid())
        return request_not_ours(h, err);
    while (r->brings_fds && h->fds_serial != 0 && h->dead.code == HEARTH_OK) {
        int code = connection_turn(h, deadline, err);
        if (!code && h->fds_serial != 0 && is_over(deadline))
            code = connection_late(h, err);
        if (code)
            return code;
    }
    return connection_dead(h, err);
}

uint32_t request_serial(struct hearth *h) {
    if (++h->last_serial == 0)
        h->last_serial = 1;
    return h->last_serial;
}

void *request_begin(struct hearth *h, struct request *r, enum hearth_msg_type type, size_t fixed_bytes) {
    r->serial = request_serial(h);
    return wire_begin(&h->out, type, r->serial, fixed_bytes);
}

int request_start(struct hearth *h, struct request *r, uint64_t deadline, struct hearth_error *err) {
    int code = connection_send(h, deadline, err);
    if (code)
        return code;
    r->next = h->requests;
    h->requests = r;
    if (r->brings_fds)
        h->fds_serial = r->serial;
    return 0;
}

int request_call(struct hearth *h, struct request *r, uint64_t deadline, struct hearth_error *err) {
    r->err = err;
    int code = request_start(h, r, deadline, err);
    if (code)
        return code;
    while (!r->finished) {
        code = connection_turn(h, deadline, err);
        if (!code && !r->finished && is_over(deadline))
            code = connection_late(h, err);
        if (code && !r->finished) {
            unlink_request(h, r);
            if (r->cancellable)
                connection_give_up(h, HEARTH_MSG_CANCEL, r->serial);
            return code;
        }
    }
    return r->code;
}

static int lost_fds(struct hearth_error *err) {
    error_set(err, HEARTH_E_NO_FDS, "this process has too many open files to receive the artifact's");
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        error_found(err, "a limit of %" PRIu64 " open files (at most %" PRIu64 ")", (uint64_t)limit.rlim_cur,
                    (uint64_t)limit.rlim_max);
    error_hint(err, "raise the limit (ulimit -n, LimitNOFILE=), or attach fewer files");
    return HEARTH_E_NO_FDS;
}

/* The lease that a reply brings to nobody. */
static void return_lease(struct hearth *h, const struct wire_in *in) {
    if (in->header.type != HEARTH_MSG_ATTACHED)
        return;
    struct hearth_msg_attached m;
    wire_fixed(in, &m, sizeof(m));
    connection_give_up(h, HEARTH_MSG_DETACH, m.id);
}

static int wrong(const struct hearth *h, const struct wire_in *in, const char *what, struct hearth_error *err) {
    error_set(err, HEARTH_E_PROTOCOL, "hearthd sent %s", what);
    error_found(err, "type %u, serial %" PRIu32 ", %" PRIu32 " bytes", in->header.type, in->header.serial,
                in->header.bytes);
    error_at(err, h->path, HEARTH_NO_OFFSET);
    error_hint(err, "do the library (%s) and hearthd come from the same release?", hearth_version());
    return HEARTH_E_PROTOCOL;
}

int request_handle(struct hearth *h, size_t bytes, struct fdlist *fds, bool lost, struct hearth_error *err) {
    struct wire_in in = {0};
    if (wire_open(&in, h->in, bytes) < 0)
        return wrong(h, &in, "a packet that contradicts its header", err);
    uint32_t serial = in.header.serial;
    bool is_error = in.header.type == HEARTH_MSG_ERROR;
    struct hearth_error failure;
    if (is_error && wire_get_error(&in, &failure) < 0)
        return wrong(h, &in, "an error whose texts lie outside of the packet", err);
    if (is_error && serial == 0) { /* the last words before it hangs up */
        *err = failure;
        return (int)err->code;
    }
    if (serial == 0 || (int32_t)(serial - h->last_serial) > 0)
        return wrong(h, &in, "a reply to a request that was never made", err);

    bool fds_due = serial == h->fds_serial;
    if (fds_due)
        h->fds_serial = 0;
    else if (fds->count > 0 || lost)
        return wrong(h, &in, "descriptors that nobody asked for", err);

    struct request *r = find_request(h, serial);
    if (!r) {
        return_lease(h, &in);
        return 0;
    }
    if (is_error) {
        finish(h, r, &failure);
        return 0;
    }
    if (lost) {
        return_lease(h, &in);
        (void)lost_fds(&failure);
        finish(h, r, &failure);
        return 0;
    }
    switch (r->take(r, &in, fds)) {
    case TAKEN_PART:
        return 0;
    case TAKEN_FINAL:
        finish(h, r, NULL);
        return 0;
    case TAKEN_WRONG:
    default:
        return wrong(h, &in, "a reply that does not fit its request", err);
    }
}

enum taken request_take_done(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    (void)r;
    (void)fds;
    return in->header.type == HEARTH_MSG_DONE ? TAKEN_FINAL : TAKEN_WRONG;
}
