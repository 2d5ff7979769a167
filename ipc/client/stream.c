/* ipc/client/stream.c: artifacts that are attached while they load: the progress page, and waiting for ranges.
 *
 * A wait looks at the page, sleeps on its futex, and looks again. The daemon says there when bytes may be used and when
 * all has failed; that it died it cannot say, so sleeps are short, and between them the socket is asked, without
 * reading from it. What is there already needs no connection and no call into the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/client/client.h"
#include "util/clock.h"
#include "util/fdlist.h"
#include "util/memfd.h"

#define SLEEP_NS (100 * NS_PER_MS)

/* ---- the page ---- */

static int bad_page(struct hearth_error *err, const char *what) {
    error_set(err, HEARTH_E_PROTOCOL, "hearthd sent a progress page that %s", what);
    error_hint(err, "do the library (%s) and hearthd come from the same release?", hearth_version());
    return HEARTH_E_PROTOCOL;
}

/* Everything that is fixed is checked once: the daemon can still change it, and is trusted not to. */
static int check_page(const struct mapped_progress *p, const struct hearth_artifact *a, struct hearth_error *err) {
    const struct hearth_progress_header *h = p->header;
    if (memcmp(h->magic, HEARTH_PROGRESS_MAGIC, sizeof(h->magic)) != 0)
        return bad_page(err, "does not begin as one");
    if (h->version != HEARTH_PROGRESS_VERSION)
        return error_set(err, HEARTH_E_UNSUPPORTED, "hearthd writes another version of the progress page");
    if (h->header_bytes < sizeof(*h) || h->total_bytes > p->map_bytes || h->id != a->id || h->chunk_bytes == 0 ||
        h->n_files != a->index.n_files || h->files % 8 != 0 || h->files > p->map_bytes ||
        h->n_files > (p->map_bytes - h->files) / sizeof(struct hearth_progress_file))
        return bad_page(err, "is not this artifact's");
    for (size_t i = 0; i < h->n_files; i++) {
        const struct hearth_progress_file *f = &p->files[i];
        uint64_t words = ((uint64_t)f->n_chunks + 63) / 64 * 8, chunk = h->chunk_bytes;
        if (f->bytes != a->index.files[i].bytes || f->n_chunks != f->bytes / chunk + (f->bytes % chunk != 0) ||
            f->exposed % 8 != 0 || f->exposed > p->map_bytes || words > p->map_bytes - f->exposed ||
            f->landed % 8 != 0 || f->landed > p->map_bytes || words > p->map_bytes - f->landed)
            return bad_page(err, "is not this artifact's");
    }
    return 0;
}

int stream_begin(struct hearth_artifact *a, int index_fd, int page_fd, bool speculative, struct hearth_error *err) {
    struct mapped_progress *p = &a->progress;
    uint64_t bytes;
    int code = map_check_seals(page_fd, SEALS_FILLING, &bytes, err);
    if (code)
        return code;
    if (bytes < sizeof(struct hearth_progress_header) || bytes > SIZE_MAX)
        return bad_page(err, "is cut short");
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, page_fd, 0);
    if (map == MAP_FAILED)
        return error_errno(err, errno, "cannot map the progress of a load");
    p->header = map;
    p->map_bytes = bytes;
    p->speculative = speculative;
    uint64_t files = p->header->files;
    p->files = (const void *)((const char *)map + (files <= bytes ? files : 0));
    code = check_page(p, a, err);
    if (code == 0) {
        p->index_fd = fcntl(index_fd, F_DUPFD_CLOEXEC, 0);
        if (p->index_fd < 0)
            code = error_errno(err, errno, "cannot keep the index's descriptor");
    }
    return code; /* stream_end() frees */
}

void stream_end(struct hearth_artifact *a) {
    if (a->progress.header)
        munmap((void *)a->progress.header, a->progress.map_bytes);
    a->progress.index_fd = close_fd(a->progress.index_fd);
    a->progress.header = NULL;
}

/* ---- looking ---- */

static bool is_set(const struct mapped_progress *p, uint64_t words, uint64_t from, uint64_t to) {
    const uint64_t *word = (const void *)((const char *)p->header + words);
    for (uint64_t i = from; i <= to; i++)
        if (!(__atomic_load_n(&word[i / 64], __ATOMIC_ACQUIRE) >> i % 64 & 1))
            return false;
    return true;
}

bool stream_has(const struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length) {
    const struct mapped_progress *p = &a->progress;
    const struct hearth_progress_file *f = &p->files[file];
    uint64_t chunk = p->header->chunk_bytes;
    return length == 0 ||
           is_set(p, p->speculative ? f->landed : f->exposed, offset / chunk, (offset + length - 1) / chunk);
}

static int load_failed(const struct hearth_artifact *a, struct hearth_error *err) {
    struct hearth_error e = a->progress.header->error;
    e.code = e.code ? e.code : HEARTH_E_SYSTEM;
    e.message[sizeof(e.message) - 1] = e.file[sizeof(e.file) - 1] = e.hint[sizeof(e.hint) - 1] = '\0';
    e.expected[sizeof(e.expected) - 1] = e.found[sizeof(e.found) - 1] = '\0';
    if (err)
        *err = e;
    return (int)e.code;
}

/* What was handed out while it filled must have become what any other artifact is. */
static int check_sealed(const struct hearth_artifact *a, struct hearth_error *err) {
    uint64_t bytes;
    int code = map_check_seals(a->progress.index_fd, SEALS_FINAL, &bytes, err);
    for (size_t i = 0; code == 0 && i < a->index.n_files; i++)
        if (a->files[i].fd >= 0)
            code = map_check_seals(a->files[i].fd, SEALS_FINAL, &bytes, err);
    return code;
}

int stream_look(const struct hearth_artifact *a, bool *resident, struct hearth_error *err) {
    const struct mapped_progress *p = &a->progress;
    *resident = !p->header || atomic_load(&p->resident);
    if (*resident)
        return 0;
    switch (__atomic_load_n(&p->header->state, __ATOMIC_ACQUIRE)) {
    case HEARTH_PROGRESS_LOADING:
        return 0;
    case HEARTH_PROGRESS_RESIDENT:
        break;
    case HEARTH_PROGRESS_FAILED:
        return load_failed(a, err);
    default:
        return bad_page(err, "has a state that does not exist");
    }
    int code = check_sealed(a, err);
    if (code)
        return code;
    atomic_store((atomic_bool *)(uintptr_t)&p->resident, true); /* what was seen changes nothing */
    *resident = true;
    return 0;
}

/* ---- waiting ---- */

/* Whether the daemon has hung up, without reading what it sent. */
static bool hung_up(const struct hearth *h) {
    struct pollfd p = {.fd = h->fd, .events = POLLRDHUP};
    return h->dead.code != HEARTH_OK || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR)));
}

/* What it sent before it hung up may say why. */
static int last_words(struct hearth *h, struct hearth_error *err) {
    int code = connection_dead(h, err);
    while (code == 0)
        code = connection_turn(h, 0, err);
    return code == HEARTH_E_TIMEOUT ? 0 : code;
}

static void sleep_until(const uint32_t *sequence, uint32_t seen, uint64_t deadline) {
    uint64_t now = clock_now(), ns = deadline - now < SLEEP_NS ? deadline - now : SLEEP_NS;
    const struct timespec t = {.tv_nsec = (long)ns};
    if (now < deadline)
        syscall(SYS_futex, sequence, FUTEX_WAIT, seen, &t, NULL, 0);
}

/* The daemon takes it or not: the range comes in any case, some time. */
static bool say_wanted(struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length) {
    struct hearth *h = a->h;
    struct hearth_msg_want *m = wire_begin(&h->out, HEARTH_MSG_WANT, request_serial(h), sizeof(*m));
    *m = (struct hearth_msg_want){.id = a->id, .file = (uint32_t)file, .offset = offset, .length = length};
    return fdlist_send(h->fd, h->out.buffer, (size_t)wire_end(&h->out), NULL) != -EAGAIN;
}

int stream_wait(struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length, uint64_t deadline,
                struct hearth_error *err) {
    bool said = false;
    for (;;) {
        const struct mapped_progress *p = &a->progress;
        bool resident, whole = file == STREAM_WHOLE;
        uint32_t seen = p->header ? __atomic_load_n(&p->header->sequence, __ATOMIC_ACQUIRE) : 0;
        bool here = p->header && !whole && stream_has(a, file, offset, length);
        int code = stream_look(a, &resident, err); /* after the bits: a load that failed makes them worthless */
        if (code || here || resident)
            return code;
        if (a->h->pid != getpid())
            return request_not_ours(a->h, err);
        if (hung_up(a->h) && (code = last_words(a->h, err)))
            return code;
        if (!said && !whole)
            said = say_wanted(a, file, offset, length);
        if (clock_now() >= deadline) {
            error_set(err, HEARTH_E_TIMEOUT, "%s not loaded before the deadline",
                      whole ? "the artifact was" : "the bytes were");
            error_at(err, whole ? NULL : hearth_index_string(a, a->index.files[file].path),
                     whole ? HEARTH_NO_OFFSET : offset);
            return HEARTH_E_TIMEOUT;
        }
        sleep_until(&p->header->sequence, seen, deadline);
    }
}

/* ---- for users ---- */

int hearth_wait_range(struct hearth_artifact *a, size_t file, uint64_t offset, uint64_t length, uint64_t deadline,
                      const void **out, struct hearth_error *err) {
    const void *start;
    int code = artifact_need_file(a, file, deadline, err);
    if (code)
        return code;
    uint64_t bytes = a->index.files[file].bytes;
    if (offset > bytes || length > bytes - offset) {
        error_set(err, HEARTH_E_INVALID, "the range leads out of its file");
        error_at(err, hearth_index_string(a, a->index.files[file].path), offset);
        error_expected(err, "at most %" PRIu64 " bytes", bytes);
        error_found(err, "%" PRIu64 " bytes from there on", length);
        return HEARTH_E_INVALID;
    }
    code = stream_wait(a, file, offset, length, deadline, err);
    code = code ? code : map_file(a, file, &start, err);
    if (code == 0 && out)
        *out = (const char *)start + offset;
    return code;
}

int hearth_wait_resident(struct hearth_artifact *a, uint64_t deadline, struct hearth_error *err) {
    return stream_wait(a, STREAM_WHOLE, 0, 0, deadline, err);
}

static uint64_t count_bytes(const struct mapped_progress *p, const struct hearth_progress_file *f, uint64_t words) {
    uint64_t chunk = p->header->chunk_bytes, bytes = 0;
    for (uint64_t i = 0; i < f->n_chunks; i++)
        if (is_set(p, words, i, i))
            bytes += f->bytes - i * chunk < chunk ? f->bytes - i * chunk : chunk;
    return bytes;
}

int hearth_stream_progress(struct hearth_artifact *a, struct hearth_stream *out, struct hearth_error *err) {
    const struct mapped_progress *p = &a->progress;
    bool resident;
    *out = (struct hearth_stream){0};
    for (size_t i = 0; i < a->index.n_files; i++) {
        out->bytes += a->index.files[i].bytes;
        out->landed += p->header ? count_bytes(p, &p->files[i], p->files[i].landed) : a->index.files[i].bytes;
        out->exposed += p->header ? count_bytes(p, &p->files[i], p->files[i].exposed) : a->index.files[i].bytes;
    }
    int code = stream_look(a, &resident, err);
    out->resident = resident;
    return code;
}

bool hearth_file_settled(const struct hearth_artifact *a, size_t file) {
    const struct mapped_progress *p = &a->progress;
    if (file >= a->index.n_files)
        return false;
    return !p->header || __atomic_load_n(&p->files[file].flags, __ATOMIC_ACQUIRE) & HEARTH_PROGRESS_SETTLED;
}

int hearth_leased_fd(struct hearth_artifact *a, size_t file, uint64_t deadline, struct hearth_error *err) {
    bool resident;
    int code = artifact_need_file(a, file, deadline, err);
    code = code ? code : stream_look(a, &resident, err);
    return code ? -1 : a->files[file].fd;
}
