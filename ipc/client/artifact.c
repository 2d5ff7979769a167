/* ipc/client/artifact.c: attaching to artifacts, and what is attached.
 *
 * ATTACH brings a lease, the index and as many files as one packet holds; the rest comes by FILES, round by round, each
 * read before the next is asked for. An artifact is one allocation.
 */
#include <inttypes.h>
#include <string.h>

#include "ipc/client/client.h"
#include "util/memfd.h"

struct fds_request {
    struct request request;
    uint64_t id;
    size_t n;       /* FILES: how many were asked for. ATTACHED: how many the artifact has. */
    uint32_t flags; /* of the ATTACH */
    bool streaming; /* ATTACHED: it is still loading */
    struct fdlist fds;
};

static enum taken take_fds(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    struct fds_request *q = (struct fds_request *)r;
    struct hearth_msg_fds m;
    wire_fixed(in, &m, sizeof(m));
    if (in->header.type != HEARTH_MSG_FDS || m.id != q->id || m.n_fds != q->n || fds->count != q->n)
        return TAKEN_WRONG;
    q->fds = *fds;
    fds->count = 0;
    return TAKEN_FINAL;
}

static enum taken take_attached(struct request *r, const struct wire_in *in, struct fdlist *fds) {
    struct fds_request *q = (struct fds_request *)r;
    struct hearth_msg_attached m;
    wire_fixed(in, &m, sizeof(m));
    q->streaming = m.flags & HEARTH_ATTACHED_STREAMING;
    if (in->header.type != HEARTH_MSG_ATTACHED || m.id != q->id || m.n_fds > m.n_files ||
        fds->count != (uint64_t)m.n_fds + 1 + q->streaming || (q->streaming && !(q->flags & HEARTH_ATTACH_STREAM)))
        return TAKEN_WRONG;
    q->n = m.n_files;
    q->fds = *fds;
    fds->count = 0;
    return TAKEN_FINAL;
}

/* Fetches files `numbers[0..n)`, none of which is here. At most one packet's worth. */
static int fetch_round(struct hearth_artifact *a, const uint32_t *numbers, size_t n, uint64_t deadline,
                       struct hearth_error *err) {
    struct hearth *h = a->h;
    struct fds_request q = {.request = {.take = take_fds, .brings_fds = true}, .id = a->id, .n = n};
    int code = request_ready(h, &q.request, deadline, err);
    if (code)
        return code;
    struct hearth_msg_files *m = request_begin(h, &q.request, HEARTH_MSG_FILES, sizeof(*m));
    void *list;
    m->id = a->id;
    m->files = wire_put_list(&h->out, n, sizeof(*numbers), &list);
    memcpy(list, numbers, n * sizeof(*numbers)); /* one packet's worth always fits */
    code = request_call(h, &q.request, deadline, err);
    if (code)
        return code;
    for (size_t i = 0; i < n; i++) {
        struct mapped_file *f = &a->files[numbers[i]];
        if (f->fd < 0) /* a callback may have fetched it meanwhile */
            f->fd = fdlist_steal(&q.fds, i);
    }
    fdlist_deinit(&q.fds);
    return 0;
}

int artifact_need_file(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err) {
    if (file >= a->index.n_files)
        return error_set(err, HEARTH_E_INVALID, "the artifact has no file %zu: there are %zu", file, a->index.n_files);
    if (a->files[file].fd < 0) {
        uint32_t number = (uint32_t)file;
        int code = fetch_round(a, &number, 1, deadline, err);
        if (code)
            return code;
    }
    return map_check_file(a, file, err);
}

static int fetch_all(struct hearth_artifact *a, uint64_t deadline, struct hearth_error *err) {
    uint32_t numbers[HEARTH_PACKET_FDS_MAX];
    for (size_t next = 0; next < a->index.n_files;) {
        size_t n = 0;
        for (; next < a->index.n_files && n < HEARTH_PACKET_FDS_MAX; next++)
            if (a->files[next].fd < 0)
                numbers[n++] = (uint32_t)next;
        int code = n > 0 ? fetch_round(a, numbers, n, deadline, err) : 0;
        if (code)
            return code;
    }
    return 0;
}

static int fetch_paths(struct hearth_artifact *a, const char *const *paths, size_t n_paths, uint64_t deadline,
                       struct hearth_error *err) {
    _cleanup_free_ uint32_t *numbers = calloc(n_paths, sizeof(*numbers));
    _cleanup_free_ bool *wanted = calloc(a->index.n_files + 1, sizeof(*wanted));
    if (!numbers || !wanted)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a list of files");
    size_t n = 0, file = 0;
    for (size_t i = 0; i < n_paths; i++) {
        /* Whoever asks for many usually asks in the index's order. */
        int code = index_find_file(a, paths[i], file, &file, err);
        if (code)
            return code;
        if (!wanted[file])
            numbers[n++] = (uint32_t)file;
        wanted[file] = true;
    }
    for (size_t done = 0; done < n;) {
        size_t round = n - done < HEARTH_PACKET_FDS_MAX ? n - done : HEARTH_PACKET_FDS_MAX;
        int code = fetch_round(a, numbers + done, round, deadline, err);
        if (code)
            return code;
        done += round;
    }
    return 0;
}

static void artifact_free(struct hearth_artifact *a) {
    *a->previous = a->next;
    if (a->next)
        a->next->previous = a->previous;
    for (size_t i = a->index.n_files; i-- > 0;) { /* backwards: what is mapped next then finds its old place */
        map_release(a, i);
        close_fd(a->files[i].fd);
    }
    stream_end(a);
    index_unmap(&a->index);
    free(a);
}

/* Makes an artifact of an ATTACHED. On failure the caller still has the lease. */
static int artifact_new(struct hearth *h, struct fds_request *q, struct hearth_artifact **out,
                        struct hearth_error *err) {
    struct mapped_index index;
    int code = index_map(q->fds.fds[0], q->streaming ? SEALS_FILLING : SEALS_FINAL, &index, err);
    if (code)
        return code;
    struct hearth_artifact *a = NULL;
    if (index.n_files != q->n) {
        code = error_set(err, HEARTH_E_PROTOCOL, "hearthd sent an index of another artifact");
        error_expected(err, "%zu files", q->n);
        error_found(err, "%zu files", index.n_files);
    } else {
        a = malloc(sizeof(*a) + index.n_files * sizeof(a->files[0])); /* each is far smaller than its entry */
        if (!a)
            code = error_set(err, HEARTH_E_NO_MEMORY, "no memory for an artifact of %zu files", index.n_files);
    }
    if (code) {
        index_unmap(&index);
        return code;
    }
    *a = (struct hearth_artifact){.h = h, .id = q->id, .index = index, .progress.index_fd = -1};
    size_t before = q->streaming ? 2 : 1;
    for (size_t i = 0; i < index.n_files; i++)
        a->files[i] = (struct mapped_file){.fd = i + before < q->fds.count ? fdlist_steal(&q->fds, i + before) : -1};
    a->next = h->artifacts;
    a->previous = &h->artifacts;
    if (a->next)
        a->next->previous = &a->next;
    h->artifacts = a;
    if (q->streaming)
        code = stream_begin(a, q->fds.fds[0], q->fds.fds[1], q->flags & HEARTH_ATTACH_SPECULATIVE, err);
    if (code)
        artifact_free(a);
    else
        *out = a;
    return code;
}

static int attach(struct hearth *h, uint64_t id, uint32_t flags, uint64_t deadline, struct hearth_artifact **out,
                  struct hearth_error *err) {
    struct fds_request q = {
        .request = {.take = take_attached, .brings_fds = true, .cancellable = flags & HEARTH_ATTACH_STREAM},
        .id = id,
        .flags = flags};
    *out = NULL;
    int code = request_ready(h, &q.request, deadline, err);
    if (code)
        return code;
    struct hearth_msg_attach *m = request_begin(h, &q.request, HEARTH_MSG_ATTACH, sizeof(*m));
    m->id = id;
    m->flags = flags;
    code = request_call(h, &q.request, deadline, err);
    if (code)
        return code;
    code = artifact_new(h, &q, out, err);
    if (code)
        connection_give_up(h, HEARTH_MSG_DETACH, id);
    fdlist_deinit(&q.fds);
    return code;
}

static void cleanup_artifact(struct hearth_artifact **a) {
    hearth_release(*a);
}

int hearth_attach(struct hearth *h, uint64_t id, uint64_t deadline, struct hearth_artifact **out,
                  struct hearth_error *err) {
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    *out = NULL;
    int code = attach(h, id, HEARTH_ATTACH_ALL, deadline, &a, err);
    code = code ? code : fetch_all(a, deadline, err);
    if (code == 0)
        *out = steal_ptr(&a);
    return code;
}

int hearth_attach_files(struct hearth *h, uint64_t id, const char *const *paths, size_t n, uint64_t deadline,
                        struct hearth_artifact **out, struct hearth_error *err) {
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    *out = NULL;
    int code = attach(h, id, 0, deadline, &a, err);
    if (code == 0 && n > 0)
        code = fetch_paths(a, paths, n, deadline, err);
    if (code == 0)
        *out = steal_ptr(&a);
    return code;
}

int hearth_attach_stream(struct hearth *h, uint64_t id, unsigned flags, uint64_t deadline, struct hearth_artifact **out,
                         struct hearth_error *err) {
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    *out = NULL;
    if (flags & ~HEARTH_STREAM_SPECULATIVE)
        return error_set(err, HEARTH_E_INVALID, "flags that do not exist");
    uint32_t asked = HEARTH_ATTACH_ALL | HEARTH_ATTACH_STREAM;
    int code = attach(h, id, asked | (flags ? HEARTH_ATTACH_SPECULATIVE : 0), deadline, &a, err);
    code = code ? code : fetch_all(a, deadline, err);
    if (code == 0)
        *out = steal_ptr(&a);
    return code;
}

struct hearth_artifact *hearth_release(struct hearth_artifact *a) {
    if (!a)
        return NULL;
    if (a->h->pid == getpid())
        connection_give_up(a->h, HEARTH_MSG_DETACH, a->id);
    artifact_free(a);
    return NULL;
}

/* All of its bytes, where it is still loading. */
static int need_whole_file(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err) {
    int code = artifact_need_file(a, file, deadline, err);
    return code ? code : stream_wait(a, file, 0, a->index.files[file].bytes, deadline, err);
}

int hearth_file_fd(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err) {
    return need_whole_file(a, file, deadline, err) ? -1 : a->files[file].fd;
}

int hearth_file_map(struct hearth_artifact *a, size_t file, uint64_t deadline, const void **out,
                    struct hearth_error *err) {
    int code = need_whole_file(a, file, deadline, err);
    return code ? code : map_file(a, file, out, err);
}

static int tensor_data(struct hearth_artifact *a, struct hearth_tensor *t, struct hearth_error *err) {
    const void *start;
    int code = map_file(a, t->file, &start, err);
    if (code == 0)
        t->data = (const char *)start + t->offset;
    return code;
}

int hearth_tensor_at(struct hearth_artifact *a, size_t i, struct hearth_tensor *out, struct hearth_error *err) {
    bool resident;
    int code = index_tensor_at(a, i, out, err);
    bool here = code == 0 && a->progress.header && stream_has(a, out->file, out->offset, out->bytes);
    code = code ? code : stream_look(a, &resident, err);
    if (code == 0 && (here || resident) && a->files[out->file].fd >= 0)
        code = tensor_data(a, out, err);
    return code;
}

int hearth_find_tensor(struct hearth_artifact *a, const char *file, const char *name, uint64_t deadline,
                       struct hearth_tensor *out, struct hearth_error *err) {
    size_t i;
    int code = index_find_tensor(a, file, name, &i, err);
    code = code ? code : index_tensor_at(a, i, out, err);
    code = code ? code : artifact_need_file(a, out->file, deadline, err);
    code = code ? code : stream_wait(a, out->file, out->offset, out->bytes, deadline, err);
    return code ? code : tensor_data(a, out, err);
}
