/* artifact/parse.c: see parse.h. The parent's side of artifact/parse_channel.h.
 *
 * Nothing that the helper says is believed: requests are checked before they are served, its errors are cut and made
 * printable, and its index is looked at only when it has ended, so that what has been checked cannot change.
 */
#include "artifact/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "artifact/format/index_build.h"
#include "artifact/parse_channel.h"
#include "artifact/parse_process.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fdlist.h"
#include "util/memfd.h"
#include "util/text.h"
#include "util/wire.h"

#define MEMORY_DEFAULT (UINT64_C(256) << 20)
#define TIME_DEFAULT (UINT64_C(10) * NS_PER_S)

DEFINE_CLEANUP(struct index_builder *, cleanup_builder, index_builder_free)

struct session {
    const struct parse_request *request;
    struct parse_process process;
    uint64_t memory_limit;
    uint64_t deadline; /* moves on by what is spent in wait_range */
    struct hearth_error *err;
    struct wire_out out;
    _Alignas(8) uint8_t packet[HEARTH_PACKET_MAX];
};

/* ---- the manifest ---- */

static int make_manifest(const struct artifact *a, int *out, struct hearth_error *err) {
    _cleanup_(cleanup_builder) struct index_builder *b = index_builder_new();
    if (!b)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the parser's manifest");
    int r = index_set_ref(b, a->ref, err);
    for (size_t i = 0; r == 0 && i < a->n_files; i++)
        r = index_add_file(b, a->files[i].path, a->files[i].role, a->files[i].identity.bytes, err);
    for (size_t i = 0; r == 0 && i < a->n_skipped; i++)
        r = index_add_skipped(b, a->skipped[i].path, a->skipped[i].reason, err);
    r = r ? r : index_sort(b, err);
    if (r != 0)
        return r;
    _cleanup_close_ int fd = memfd_new("hearth-manifest", 0, 0);
    if (fd < 0)
        return error_errno(err, -fd, "no memory for the parser's manifest");
    r = index_write(b, fd, err);
    int sealed = r == 0 ? memfd_seal_final(fd) : 0;
    if (sealed < 0)
        return error_errno(err, -sealed, "the parser's manifest cannot be sealed");
    if (r == 0)
        *out = steal_fd(&fd);
    return r;
}

static int send_setup(struct session *s, int manifest, uint64_t time_limit) {
    struct parse_msg_setup *setup = wire_begin(&s->out, (enum hearth_msg_type)PARSE_MSG_SETUP, 0, sizeof(*setup));
    setup->memory_bytes = s->memory_limit;
    setup->cpu_seconds = time_limit / NS_PER_S + 1;
    struct fdlist fds = {.count = 1, .fds = {manifest}};
    int r = fdlist_send(s->process.socket, s->out.buffer, (size_t)wire_end(&s->out), &fds);
    /* EPIPE: the helper died already; serve() finds out how. */
    return r == 0 || r == -EPIPE || r == -ECONNRESET
               ? 0
               : error_errno(s->err, -r, "the parser helper cannot be given its task");
}

/* ---- serving the helper ---- */

static int nonsense(const struct session *s, const char *what) {
    return error_set(s->err, HEARTH_E_PARSER, "the parser did not keep to its protocol: %s", what);
}

static int serve_range(struct session *s, const struct wire_in *in) {
    const struct artifact *a = s->request->artifact;
    struct parse_msg_range q;
    wire_fixed(in, &q, sizeof(q));
    if (q.file >= a->n_files)
        return nonsense(s, "it asked for a file that is not in the artifact");
    uint64_t bytes = a->files[q.file].identity.bytes;
    if (q.length == 0 || q.offset > bytes || q.length > bytes - q.offset || (q.flags & ~PARSE_WANT_FD) != 0) {
        char path[sizeof(s->err->file)];
        nonsense(s, "it asked for bytes outside of a file");
        error_at(s->err, artifact_path(a, q.file, path, sizeof(path)), q.offset);
        return HEARTH_E_PARSER;
    }
    uint64_t before = clock_now();
    int r = s->request->wait_range(s->request->user, q.file, q.offset, q.length, s->err);
    s->deadline += clock_now() - before;
    if (r != 0)
        return r;
    struct fdlist fds = FDLIST_NULL;
    if (q.flags & PARSE_WANT_FD) {
        fds.count = 1;
        fds.fds[0] = s->request->file_fd(s->request->user, q.file, s->err);
        if (fds.fds[0] < 0)
            return s->err ? (int)s->err->code : HEARTH_E_SYSTEM;
    }
    wire_begin(&s->out, (enum hearth_msg_type)PARSE_MSG_LANDED, in->header.serial, 0);
    r = fdlist_send(s->process.socket, s->out.buffer, (size_t)wire_end(&s->out), &fds);
    if (r == -EAGAIN)
        return nonsense(s, "it asks but does not read");
    /* EPIPE: it died; the next receive sees that. */
    return r == 0 || r == -EPIPE || r == -ECONNRESET ? 0
                                                     : error_errno(s->err, -r, "the parser helper cannot be answered");
}

static void make_printable(char *text, size_t size) {
    char raw[sizeof(((struct hearth_error *)0)->file)];
    size_t length = strlen(text); /* below the size of the largest text */
    memcpy(raw, text, length);
    format_printable(raw, length, text, size);
}

/* The helper's verdict on the artifact, which is all that it may put into words. */
static int take_error(struct session *s, const struct wire_in *in) {
    struct hearth_error e;
    const struct artifact *a = s->request->artifact;
    if (wire_get_error(in, &e) < 0)
        return nonsense(s, "its error cannot be read");
    size_t i = 0;
    while (i < a->n_files && strcmp(a->files[i].path, e.file) != 0)
        i++;
    make_printable(e.message, sizeof(e.message));
    make_printable(e.expected, sizeof(e.expected));
    make_printable(e.found, sizeof(e.found));
    make_printable(e.hint, sizeof(e.hint));
    if (i < a->n_files)
        artifact_path(a, i, e.file, sizeof(e.file));
    else
        make_printable(e.file, sizeof(e.file));
    switch (e.code) {
    case HEARTH_E_MALFORMED:
    case HEARTH_E_UNSAFE:
    case HEARTH_E_UNSUPPORTED:
    case HEARTH_E_TOO_LARGE:
    case HEARTH_E_CHANGED:
    case HEARTH_E_IO:
        if (s->err)
            *s->err = e;
        return (int)e.code;
    case HEARTH_E_NO_MEMORY: {
        char limit[16];
        error_set(s->err, HEARTH_E_PARSER, "the parser ran out of memory: %s", e.message);
        error_at(s->err, e.file, e.offset);
        error_expected(s->err, "at most %s", format_size(s->memory_limit, limit, sizeof(limit)));
        return HEARTH_E_PARSER;
    }
    default:
        error_set(s->err, HEARTH_E_PARSER, "the parser failed: %s", e.message);
        error_at(s->err, e.file, e.offset);
        return HEARTH_E_PARSER;
    }
}

/* One packet. Sets *done with DONE; returns the error that ends it all otherwise. */
static int serve_packet(struct session *s, size_t bytes, bool *done) {
    struct wire_in in;
    if (wire_open(&in, s->packet, bytes) < 0)
        return nonsense(s, "a packet contradicts itself");
    switch ((int)in.header.type) {
    case PARSE_MSG_RANGE:
        return serve_range(s, &in);
    case PARSE_MSG_DONE:
        *done = true;
        return 0;
    case HEARTH_MSG_ERROR:
        return take_error(s, &in);
    default:
        return nonsense(s, "a packet of a kind that it does not have");
    }
}

/* Until the helper has ended: 0 when it said that it is done and exited cleanly. */
static int serve(struct session *s) {
    bool done = false;
    while (!done) {
        if (clock_now() >= s->deadline)
            return parse_process_timeout(s->err);
        int stop = s->request->stop_fd > 0 ? s->request->stop_fd : -1;
        struct pollfd p[] = {{.fd = s->process.socket, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
        if (poll(p, 2, clock_poll_ms(s->deadline)) < 0 && errno != EINTR)
            return error_errno(s->err, errno, "the parser helper cannot be waited for");
        if (p[1].revents)
            return error_set(s->err, HEARTH_E_CANCELLED, "the parser was stopped");
        struct fdlist fds = FDLIST_NULL;
        long n = fdlist_receive(s->process.socket, s->packet, sizeof(s->packet), &fds);
        bool brought_fds = fds.count > 0;
        fdlist_deinit(&fds);
        if (n == -EAGAIN)
            continue;
        if (n == 0 || n == -ECONNRESET)
            break; /* it has hung up */
        if (n < 0 || brought_fds)
            return nonsense(s, "a packet that is too long or brings descriptors");
        int r = serve_packet(s, (size_t)n, &done);
        if (r != 0)
            return r;
    }
    int r = parse_process_wait(&s->process, s->deadline, s->err);
    return r == 0 && !done ? nonsense(s, "it ended without a word") : r;
}

/* ---- the index ---- */

static bool string_is(const struct hearth_index_header *h, struct hearth_str s, const char *text) {
    const char *pool = (const char *)h + h->strings.offset;
    return s.length == strlen(text) && memcmp(pool + s.offset, text, s.length) == 0;
}

/* The index, which has passed index_check(), is about this artifact and claims nothing that is the daemon's to say. */
static int compare(const struct hearth_index_header *h, const struct artifact *a, struct hearth_error *err) {
    const struct hearth_index_file *f = (const void *)((const char *)h + h->files.offset);
    const struct hearth_index_finding *x = (const void *)((const char *)h + h->findings.offset);
    bool same = h->id == 0 && h->verified == HEARTH_VERIFIED_NONE && h->verdict == HEARTH_VERDICT_OK &&
                string_is(h, h->ref, a->ref) && h->files.count == a->n_files && h->findings.count >= a->n_skipped;
    for (size_t i = 0; same && i < a->n_files; i++)
        same = string_is(h, f[i].path, a->files[i].path) && f[i].role == (uint32_t)a->files[i].role &&
               f[i].bytes == a->files[i].identity.bytes && f[i].verified == HEARTH_VERIFIED_NONE && f[i].flags == 0;
    for (size_t i = 0; same && i < a->n_skipped; i++)
        same = string_is(h, x[i].code, "skipped") && string_is(h, x[i].file, a->skipped[i].path) &&
               string_is(h, x[i].message, a->skipped[i].reason);
    return same ? 0 : error_set(err, HEARTH_E_PARSER, "the parser's index is not that of the artifact");
}

static int check_output(const struct session *s, int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(s->err, errno, "the parser's index cannot be looked at");
    if (st.st_size == 0 || (uint64_t)st.st_size > s->memory_limit)
        return error_set(s->err, HEARTH_E_PARSER, "the parser wrote an index of %" PRIu64 " bytes",
                         (uint64_t)st.st_size);
    size_t bytes = (size_t)st.st_size;
    void *index = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (index == MAP_FAILED)
        return error_errno(s->err, errno, "the parser's index cannot be mapped");
    int r = index_check(index, bytes, s->err);
    r = r ? r : compare(index, s->request->artifact, s->err);
    munmap(index, bytes);
    return r;
}

static int run(struct session *s, int output) {
    uint64_t time_limit = s->request->time_limit > 0 ? s->request->time_limit : TIME_DEFAULT;
    _cleanup_close_ int manifest = -1;
    int r = make_manifest(s->request->artifact, &manifest, s->err);
    if (r != 0)
        return r;
    s->deadline = clock_now() + time_limit;
    r = parse_process_start(&s->process, s->request->helper, output, s->err);
    r = r ? r : send_setup(s, manifest, time_limit);
    r = r ? r : serve(s);
    /* Whatever happened: when it is gone, nobody else can write to the output. */
    parse_process_deinit(&s->process);
    return r ? r : check_output(s, output);
}

int parse_isolated(const struct parse_request *request, int *index_fd, struct hearth_error *err) {
    struct hearth_error own = HEARTH_ERROR_INIT; /* callbacks report through it, also when nobody listens */
    _cleanup_close_ int output = memfd_new("hearth-index", 0, 0);
    _cleanup_free_ struct session *s = malloc(sizeof(*s));
    if (output < 0 || !s)
        return error_errno(err, output < 0 ? -output : ENOMEM, "no memory for the index");
    s->request = request;
    s->process = (struct parse_process)PARSE_PROCESS_NULL;
    s->memory_limit = request->memory_limit > 0 ? request->memory_limit : MEMORY_DEFAULT;
    s->err = err ? err : &own;
    int r = run(s, output);
    if (r == 0)
        *index_fd = steal_fd(&output);
    return r;
}
