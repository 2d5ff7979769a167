/* loader/share.c: what clients get of a load under way: descriptors, and their say in what is read first.
 *
 * All descriptors of a file that is being filled are dups of its one O_RDONLY description, which carries a write lease:
 * whoever opens the file by a path waits until it is settled. The lease belongs to the description, so it is there as
 * long as anybody holds a dup, also when this process is not. Once the file is sealed every descriptor is a description
 * of its own, and so is the blob's: with a dup of it a client of our own uid could set a lease that our next open waits
 * for.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hearth/progress.h>

#include "loader/internal.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/memfd.h"

void share_lease(struct stream *s) {
    struct load *l = s->load;
    /* Where it is refused (some file systems, old kernels), `hearth run` waits for the whole artifact instead. */
    if (l->page.at && fcntl(s->memory.readonly, F_SETLEASE, F_WRLCK) == 0) {
        s->leased = true;
        progress_leased(l, s->file);
    }
}

int share_settle(struct stream *s, struct hearth_error *err) {
    struct load *l = s->load;
    /* The page first: a file without a lease that is not settled is one that never had any. */
    pthread_mutex_lock(&l->engine->lock);
    progress_settled(l, s->file, s->result.verified);
    pthread_mutex_unlock(&l->engine->lock);
    /* EAGAIN: there is none any more. It was broken, or taken back through a dup. */
    if (s->leased && fcntl(s->memory.readonly, F_SETLEASE, F_UNLCK) < 0 && errno != EAGAIN)
        return error_errno(err, errno, "cannot give the lease of loaded memory back");
    return 0;
}

int share_seal(struct stream *s, struct hearth_error *err) {
    struct engine *e = s->load->engine;
    pthread_mutex_lock(&e->lock);
    bool shared = s->shared;
    s->sealed = !shared;
    pthread_mutex_unlock(&e->lock);
    if (!shared)
        return 0;
    int fd = memfd_reopen_readonly(s->memory.readonly);
    if (fd < 0)
        return error_errno(err, -fd, "cannot open loaded memory again");
    pthread_mutex_lock(&e->lock);
    close_fd(s->memory.readonly);
    s->memory.readonly = fd;
    s->sealed = true;
    pthread_mutex_unlock(&e->lock);
    return 0;
}

/* ---- the index ---- */

int share_index(struct load *l, int index_fd, struct hearth_error *err) {
    struct resident *r = l->resident;
    struct stat st;
    if (fstat(index_fd, &st) < 0)
        return error_errno(err, errno, "cannot examine the index");
    r->index_bytes = (uint64_t)st.st_size;
    uint8_t *index = mmap(NULL, r->index_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, index_fd, 0);
    if (index == MAP_FAILED)
        return error_errno(err, errno, "cannot map the index");
    l->index = index;
    (void)madvise(index, r->index_bytes, MADV_DONTFORK); /* see blob.c */
    ((struct hearth_index_header *)index)->id = l->request.id;
    int e = memfd_seal(index_fd, SEALS_FILLING);
    if (e < 0)
        return error_errno(err, -e, "cannot seal the index");
    int fd = memfd_reopen_readonly(index_fd);
    if (fd < 0)
        return error_errno(err, -fd, "cannot open the index again");
    pthread_mutex_lock(&l->engine->lock);
    r->index_fd = fd;
    bool streams = l->page.at && !l->failed;
    pthread_mutex_unlock(&l->engine->lock);
    if (streams && l->request.streams)
        l->request.streams(l->request.user, l);
    return 0;
}

void share_index_end(struct load *l) {
    if (l->index)
        munmap(l->index, l->resident->index_bytes);
    l->index = NULL;
}

/* ---- for clients ---- */

/* With the lock held. */
static int usable(const struct load *l, struct hearth_error *err) {
    if (l->failed) {
        if (err)
            *err = l->error;
        return (int)l->error.code;
    }
    if (l->over || !l->page.at || l->resident->index_fd < 0)
        return error_set(err, HEARTH_E_BUSY, "the artifact cannot be streamed now");
    return 0;
}

bool load_streams(struct load *l) {
    pthread_mutex_lock(&l->engine->lock);
    bool streams = usable(l, NULL) == 0;
    pthread_mutex_unlock(&l->engine->lock);
    return streams;
}

int load_stream(struct load *l, int *index, int *page, struct hearth_error *err) {
    struct engine *e = l->engine;
    pthread_mutex_lock(&e->lock);
    int r = usable(l, err);
    _cleanup_close_ int i = r ? -1 : memfd_reopen_readonly(l->resident->index_fd);
    _cleanup_close_ int p = r ? -1 : memfd_reopen_readonly(l->page.fd);
    if (!r && (i < 0 || p < 0))
        r = error_errno(err, i < 0 ? -i : -p, "a descriptor cannot be made for the client");
    if (!r) {
        l->page.shared = true;
        *index = steal_fd(&i);
        *page = steal_fd(&p);
    }
    pthread_mutex_unlock(&e->lock);
    return r;
}

int load_stream_file(struct load *l, size_t file, int *out, struct hearth_error *err) {
    struct engine *e = l->engine;
    pthread_mutex_lock(&e->lock);
    int r = usable(l, err), fd = -1;
    struct stream *s = r ? NULL : open_stream_of(l, file);
    if (!r && s && !s->sealed) {
        s->shared = true;
        fd = fcntl(s->memory.readonly, F_DUPFD_CLOEXEC, 0);
        fd = fd < 0 ? -errno : fd;
    } else if (!r) {
        fd = memfd_reopen_readonly(s ? s->memory.readonly : l->resident->blobs[file].fd);
    }
    pthread_mutex_unlock(&e->lock);
    if (!r && fd < 0)
        r = error_errno(err, -fd, "a descriptor cannot be made for the client");
    if (!r)
        *out = fd;
    return r;
}

void load_want(struct load *l, size_t file, uint64_t offset, uint64_t length) {
    struct engine *e = l->engine;
    pthread_mutex_lock(&e->lock);
    struct stream *s = usable(l, NULL) ? NULL : open_stream_of(l, file);
    if (s && offset < s->bytes && length > 0) {
        uint64_t last = length < s->bytes - offset ? offset + length - 1 : s->bytes - 1;
        l->wanted_turn = l->wanted_turn % (WANTED_MAX - 1) + 1;
        want(l, l->wanted_turn, s, (uint32_t)(offset / s->piece_bytes), (uint32_t)(last / s->piece_bytes));
    }
    pthread_mutex_unlock(&e->lock);
}
