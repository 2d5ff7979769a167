/* ipc/client/load.c: loading, and following loads. */
#include <string.h>
#include <sys/stat.h>

#include "ipc/client/client.h"
#include "util/clock.h"

/* For how long hearth_load_start lets the daemon read what was started before. Its event loop never blocks, so this
 * passes only where it is stopped. */
#define START_WAIT_MS 100

struct load {
    struct request request;
    void (*progress)(void *user, const struct hearth_info *info);
    void *progress_user;
    hearth_done done; /* NULL in blocking calls */
    void *done_user;
    struct hearth_info info;
};

static enum taken take_info(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    (void)fds;
    struct load *load = (struct load *)r;
    struct hearth_info info;
    if (in->header.type != HEARTH_MSG_INFO && in->header.type != HEARTH_MSG_PROGRESS)
        return TAKEN_WRONG;
    if (!info_decode(in, &info))
        return TAKEN_WRONG;
    if (in->header.type == HEARTH_MSG_INFO) {
        load->info = info;
        return TAKEN_FINAL;
    }
    if (load->progress) /* not load->info: it may wait for an answer, and in that wait the load ends and is freed */
        load->progress(load->progress_user, &info);
    return TAKEN_PART;
}

static void put_globs(struct wire_out *w, const char *const *globs, size_t n, struct hearth_wire_list *out) {
    void *entries;
    *out = wire_put_list(w, n, sizeof(struct hearth_wire_str), &entries);
    for (size_t i = 0; entries && i < n; i++)
        ((struct hearth_wire_str *)entries)[i] = wire_put_str(w, globs[i]);
}

static void put_digests(struct wire_out *w, const struct hearth_digest *digests, size_t n,
                        struct hearth_wire_list *out) {
    void *entries;
    *out = wire_put_list(w, n, sizeof(struct hearth_wire_digest), &entries);
    for (size_t i = 0; entries && i < n; i++) {
        struct hearth_wire_digest *d = (struct hearth_wire_digest *)entries + i;
        d->path = wire_put_str(w, digests[i].path);
        memcpy(d->sha256, digests[i].sha256, sizeof(d->sha256));
    }
}

/* Every path leads where it leads for the daemon. Now, not when it connected: a process can change its mounts. */
static bool shares_paths(const struct hearth *h) {
    struct stat mounts, root;
    return h->mounts && stat("/proc/self/ns/mnt", &mounts) == 0 && mounts.st_ino == h->mounts &&
           stat("/", &root) == 0 && root.st_dev == h->root_device && root.st_ino == h->root_inode;
}

/* What is at the path here. Not where there is nothing to tell apart: storage that hangs would hang this process. */
static void tell_seen(const struct hearth *h, const char *ref, struct hearth_msg_load *m) {
    struct stat st;
    if (ref[0] != '/' || shares_paths(h) || stat(ref, &st) < 0)
        return;
    m->seen = HEARTH_SEEN_VALID;
    m->seen_device = st.st_dev;
    m->seen_inode = st.st_ino;
    m->seen_size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
}

static int build_load(struct hearth *h, struct load *load, const char *ref, const struct hearth_load_options *options,
                      struct hearth_error *err) {
    static const struct hearth_load_options defaults;
    const struct hearth_load_options *o = options ? options : &defaults;
    size_t length = strlen(ref);
    if (length == 0 || length >= HEARTH_REF_MAX) {
        error_set(err, HEARTH_E_INVALID, "this cannot be a reference");
        error_at(err, ref, HEARTH_NO_OFFSET);
        error_expected(err, "1 to %d bytes", HEARTH_REF_MAX - 1);
        error_found(err, "%zu bytes", length);
        return HEARTH_E_INVALID;
    }
    /* The daemon would hang up, and with the connection all its leases would go. */
    if (o->n_include > HEARTH_LIST_MAX || o->n_exclude > HEARTH_LIST_MAX || o->n_digests > HEARTH_LIST_MAX) {
        error_set(err, HEARTH_E_INVALID, "the request has too many globs or digests");
        error_expected(err, "at most %u of each", HEARTH_LIST_MAX);
        error_found(err, "%zu to include, %zu to exclude, %zu digests", o->n_include, o->n_exclude, o->n_digests);
        return HEARTH_E_INVALID;
    }
    if ((unsigned)o->verify > HEARTH_VERIFY_ALWAYS)
        return error_set(err, HEARTH_E_INVALID, "there is no policy %u to verify by", (unsigned)o->verify);
    load->request.take = take_info;
    load->request.cancellable = true;
    load->progress = o->progress;
    load->progress_user = o->user;
    struct hearth_msg_load *m = request_begin(h, &load->request, HEARTH_MSG_LOAD, sizeof(*m));
    m->flags = (o->no_wait ? HEARTH_LOAD_NO_WAIT : 0) | (o->progress ? HEARTH_LOAD_PROGRESS : 0) |
               (o->background ? HEARTH_LOAD_BACKGROUND : 0) | (o->pin ? HEARTH_LOAD_PIN : 0);
    m->verify = o->verify;
    tell_seen(h, ref, m);
    m->ref = wire_put_str(&h->out, ref);
    put_globs(&h->out, o->include, o->n_include, &m->include);
    put_globs(&h->out, o->exclude, o->n_exclude, &m->exclude);
    put_digests(&h->out, o->digests, o->n_digests, &m->digests);
    return 0;
}

int hearth_load(struct hearth *h, const char *ref, const struct hearth_load_options *options, uint64_t deadline,
                struct hearth_info *out, struct hearth_error *err) {
    struct load load = {0};
    int code = request_ready(h, &load.request, deadline, err);
    code = code ? code : build_load(h, &load, ref, options, err);
    code = code ? code : request_call(h, &load.request, deadline, err);
    if (code == 0 && out)
        *out = load.info;
    return code;
}

static void load_done(struct request *r, const struct hearth_error *err) {
    _cleanup_free_ struct load *load = (struct load *)r;
    load->done(load->done_user, err ? NULL : &load->info, err);
}

int hearth_load_start(struct hearth *h, const char *ref, const struct hearth_load_options *options, hearth_done done,
                      void *user, struct hearth_error *err) {
    _cleanup_free_ struct load *load = calloc(1, sizeof(*load));
    if (!load)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a request");
    int code = request_ready(h, &load->request, 0, err);
    if (code)
        return code;
    load->request.done = load_done;
    load->done = done;
    load->done_user = user;
    code = build_load(h, load, ref, options, err);
    code = code ? code : request_start(h, &load->request, hearth_deadline_in(START_WAIT_MS), err);
    if (code == HEARTH_E_TIMEOUT) {
        error_set(err, HEARTH_E_BUSY, "hearthd does not read its requests");
        error_at(err, h->path, HEARTH_NO_OFFSET);
        return HEARTH_E_BUSY;
    }
    if (code == 0)
        (void)steal_ptr(&load);
    return code;
}

static int watch(struct hearth *h, uint64_t id, uint32_t flags,
                 void (*progress)(void *user, const struct hearth_info *info), void *user, uint64_t deadline,
                 struct hearth_info *out, struct hearth_error *err) {
    struct load load = {
        .request = {.take = take_info, .cancellable = true}, .progress = progress, .progress_user = user};
    int code = request_ready(h, &load.request, deadline, err);
    if (code)
        return code;
    struct hearth_msg_watch *m = request_begin(h, &load.request, HEARTH_MSG_WATCH, sizeof(*m));
    m->id = id;
    m->flags = flags;
    code = request_call(h, &load.request, deadline, err);
    if (code == 0 && out)
        *out = load.info;
    return code;
}

int hearth_watch(struct hearth *h, uint64_t id, void (*progress)(void *user, const struct hearth_info *info),
                 void *user, uint64_t deadline, struct hearth_info *out, struct hearth_error *err) {
    return watch(h, id, 0, progress, user, deadline, out, err);
}

int hearth_look_on(struct hearth *h, uint64_t id, void (*progress)(void *user, const struct hearth_info *info),
                   void *user, uint64_t deadline, struct hearth_info *out, struct hearth_error *err) {
    return watch(h, id, HEARTH_WATCH_ONLY, progress, user, deadline, out, err);
}
