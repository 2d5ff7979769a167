/* loader/stream.c: a file that is read by the engine's threads, from its opening to its end. See internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/file_system.h"
#include "util/kernel.h"

/* What lengths and offsets of direct reads must be multiples of; 0 when there are no direct reads. File systems that do
 * not say (overlayfs, NFS, FUSE) get a trial with whole pages: the first read tells. Those may also block whoever
 * starts a read, whatever the ring asks of them: FUSE does when it is read directly. */
static uint32_t direct_alignment(int fd, uint64_t page, bool *may_block) {
    struct statx x;
    memset(&x, 0, sizeof(x));
    *may_block = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) < 0 || !(x.stx_mask & STATX_DIOALIGN);
    if (*may_block)
        return (uint32_t)page;
    if (x.stx_dio_offset_align > page || x.stx_dio_mem_align > page)
        return 0;
    return x.stx_dio_offset_align;
}

static void count_cached(struct stream *s) {
    s->cached_before = 0;
    for (uint32_t i = 0; i < s->n_pieces; i++)
        if (s->pieces[i] == TODO || s->pieces[i] == BUSY)
            s->cached_before += cached_bytes(s->source, i * s->piece_bytes, stream_piece_length(s, i));
}

void stream_go_buffered(struct stream *s, const char *does) {
    struct statfs fs;
    const char *name = fstatfs(s->source, &fs) == 0 ? file_system_name((long)fs.f_type) : NULL;
    snprintf(s->not_direct, sizeof(s->not_direct), "%s %s", name ? name : "its file system", does);
    s->direct = false;
    count_cached(s);
    (void)fcntl(s->source, F_SETFL, fcntl(s->source, F_GETFL) & ~O_DIRECT);
}

/* *cached: bytes that the page cache has. */
static int open_source(struct stream *s, uint64_t *cached, struct hearth_error *err) {
    const struct artifact *a = s->load->request.artifact;
    struct hearth_error refused = HEARTH_ERROR_INIT;
    int r = artifact_open(a, s->file, O_DIRECT, &s->source, &refused);
    if (r == HEARTH_E_UNSUPPORTED) {
        s->may_block = true;
        if ((r = artifact_open(a, s->file, 0, &s->source, err)))
            return r;
        stream_go_buffered(s, "opens nothing for direct reads");
    } else if (r) {
        if (err)
            *err = refused;
        return r;
    } else {
        s->align = direct_alignment(s->source, s->load->engine->backing.small_page, &s->may_block);
        s->direct = s->align > 0;
        if (!s->direct)
            stream_go_buffered(s, "has no direct reads");
    }
    *cached = cached_bytes(s->source, 0, s->bytes);
    /* What the page cache has is read from there, at the speed of memory. */
    return s->direct && *cached > 0 ? artifact_open(a, s->file, 0, &s->cached, err) : 0;
}

/* The device's entry, which stays as long as the engine does. NULL when there is no memory. */
static struct device *find_device(struct engine *e, uint64_t id) {
    pthread_mutex_lock(&e->lock);
    struct device *d = e->devices;
    while (d && d->id != id)
        d = d->next;
    if (!d && (d = calloc(1, sizeof(*d)))) {
        d->id = id;
        d->next = e->devices;
        e->devices = d;
    }
    pthread_mutex_unlock(&e->lock);
    return d;
}

static int make_tables(struct stream *s) {
    s->n_blocks = (uint32_t)((s->memory.mapped + s->block_bytes - 1) / s->block_bytes);
    s->n_pieces = (uint32_t)((s->bytes + s->piece_bytes - 1) / s->piece_bytes);
    s->n_chunks = (uint32_t)((s->bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    s->blocks = calloc(s->n_blocks, 1);
    s->pieces = calloc(s->n_pieces, 1);
    s->missing = calloc(s->n_chunks, 1);
    s->device = find_device(s->load->engine, s->load->request.artifact->files[s->file].identity.device);
    if (!s->blocks || !s->pieces || !s->missing || !s->device)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->n_pieces; i++)
        s->missing[i * s->piece_bytes / CHUNK_BYTES]++;
    if (!s->hashed)
        return 0;
    s->result.chunks = calloc(s->n_chunks, sizeof(*s->result.chunks));
    s->result.n_chunks = s->n_chunks;
    s->ready = s->sha256 ? NULL : calloc(s->n_chunks, sizeof(*s->ready));
    if (!s->result.chunks || (!s->sha256 && !s->ready))
        return -ENOMEM;
    if (s->sha256) {
        s->sha_ctx = EVP_MD_CTX_new();
        if (!s->sha_ctx || EVP_DigestInit_ex(s->sha_ctx, s->load->engine->sha256, NULL) != 1)
            return -ENOMEM;
    }
    return 0;
}

static void cleanup_stream(struct stream **s) {
    stream_free(*s);
}

int stream_open(struct load *l, size_t file, struct stream **out, struct hearth_error *err) {
    const struct artifact_file *f = &l->request.artifact->files[file];
    _cleanup_(cleanup_stream) struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return error_errno(err, ENOMEM, "cannot start to read a file");
    s->load = l;
    s->file = file;
    s->bytes = f->identity.bytes;
    s->source = s->cached = -1;
    s->memory = (struct blob_memory)BLOB_MEMORY_NULL;
    s->result.fd = -1;
    s->populate_step = BLOCK_BYTES;
    uint64_t cached;
    int r = open_source(s, &cached, err);
    if (r)
        return r;
    s->record = remembered(l, file, s->source, &s->result.lasting);
    s->sha256 = !s->record && wants_sha256(f, l->request.verify);
    s->hashed = s->sha256 || l->request.verify != HEARTH_VERIFY_NONE;
    s->at_once = !s->sha256 || !f->expected;
    bool copies = cached >= (s->bytes < SMALL_PIECE_BYTES ? s->bytes : SMALL_PIECE_BYTES);
    s->piece_bytes = s->sha256 || copies ? SMALL_PIECE_BYTES : LARGE_PIECE_BYTES;
    r = blob_make(&l->engine->backing, "hearth", s->bytes, &s->memory, err);
    if (!r) {
        s->block_bytes = s->memory.huge_page > BLOCK_BYTES ? s->memory.huge_page : BLOCK_BYTES;
        int e = make_tables(s);
        r = e < 0 ? error_errno(err, -e, "cannot start to read a file") : 0;
    }
    if (copies && !r)
        page_cache_mark(s);
    else
        s->place[COPY] = s->n_pieces;
    if (!r && !s->direct)
        count_cached(s);
    if (r) {
        char path[sizeof(err->file)];
        error_at(err, artifact_path(l->request.artifact, file, path, sizeof(path)), HEARTH_NO_OFFSET);
        return r;
    }
    share_lease(s);
    *out = steal_ptr(&s);
    return 0;
}

void stream_schedule(struct stream *s) {
    struct engine *e = s->load->engine;
    struct stream **at = &e->streams;
    while (*at)
        at = &(*at)->next;
    *at = s;
    e->reader_starving = true; /* it has yet to look at this one */
    pthread_cond_signal(&e->populate_wanted);
    pthread_cond_signal(&e->populate_help);
    copies_wanted(s);
}

void stream_unschedule(struct stream *s) {
    struct engine *e = s->load->engine;
    for (struct stream **at = &e->streams; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    s->device->ahead -= s->claimed - s->submitted;
    pthread_cond_signal(&e->populate_wanted); /* its share of what may be ahead is free again */
}

struct stream *stream_free(struct stream *s) {
    if (!s)
        return NULL;
    close_fd(s->source);
    close_fd(s->cached);
    blob_memory_deinit(&s->memory);
    EVP_MD_CTX_free(s->sha_ctx);
    free(s->blocks);
    free(s->pieces);
    free(s->missing);
    free(s->ready);
    free(s->result.chunks);
    free(s);
    return NULL;
}
