/* bench/raw.c: the limit that a loader is measured against: nothing but O_DIRECT reads. See machine.h. */
#include <errno.h>
#include <liburing.h>

#include "bench/machine.h"

struct read_slot {
    size_t file;
    uint64_t offset, length;
};

struct cursor {
    const int *fds;
    const uint64_t *bytes;
    char *into;
    uint64_t block, base; /* base: where the current file begins in memory */
    size_t n, file;
    uint64_t offset;
};

/* The next block to read, or false after the last. Tails are rounded up to what O_DIRECT accepts. */
static bool next_block(struct cursor *c, struct read_slot *slot, char **at) {
    while (c->file < c->n && c->offset >= c->bytes[c->file]) {
        c->base += (c->bytes[c->file] + 4095) / 4096 * 4096;
        c->file++;
        c->offset = 0;
    }
    if (c->file == c->n)
        return false;
    uint64_t left = c->bytes[c->file] - c->offset;
    *slot = (struct read_slot){c->file, c->offset, left < c->block ? (left + 4095) / 4096 * 4096 : c->block};
    *at = c->into + c->base + c->offset;
    c->offset += slot->length;
    return true;
}

int64_t raw_read(const int *fds, const uint64_t *bytes, size_t n, char *into, uint64_t block, unsigned depth) {
    struct io_uring ring;
    int r = io_uring_queue_init(depth, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (r < 0)
        return r;
    struct cursor c = {.fds = fds, .bytes = bytes, .into = into, .block = block, .n = n};
    unsigned in_flight = 0;
    int64_t total = 0;
    bool more = true;
    while (r >= 0 && (more || in_flight > 0)) {
        while (more && in_flight < depth) {
            struct read_slot slot;
            char *at;
            more = next_block(&c, &slot, &at);
            if (!more)
                break;
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            io_uring_prep_read(sqe, fds[slot.file], at, (unsigned)slot.length, slot.offset);
            uint64_t expect = bytes[slot.file] - slot.offset;
            io_uring_sqe_set_data64(sqe, expect < slot.length ? expect : slot.length);
            in_flight++;
        }
        r = io_uring_submit_and_wait(&ring, in_flight > 0);
        struct io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            if (cqe->res < 0)
                r = cqe->res;
            else if ((uint64_t)cqe->res != cqe->user_data)
                r = -EIO; /* a short read of a file on a local disk: not a limit to measure against */
            else
                total += cqe->res;
            io_uring_cqe_seen(&ring, cqe);
            in_flight--;
        }
    }
    io_uring_queue_exit(&ring);
    return r < 0 ? r : total;
}
