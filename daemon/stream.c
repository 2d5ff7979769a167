/* daemon/stream.c: see stream.h. */
#include "daemon/stream.h"

#include "util/error.h"

static int push(struct fdlist *out, int fd, struct hearth_error *err) {
    int r = fdlist_push(out, fd);
    return r < 0 ? error_errno(err, -r, "a descriptor cannot be made for the client") : 0;
}

int stream_take(struct generation *g, bool index, const uint32_t *files, size_t n, struct fdlist *out,
                struct hearth_error *err) {
    int r = 0, fds[2];
    load_hasten(g->load);
    if (index) {
        r = load_stream(g->load, &fds[0], &fds[1], err);
        for (unsigned i = 0; !r && i < 2; i++)
            r = push(out, fds[i], err);
    }
    for (size_t i = 0; !r && i < n; i++) {
        r = load_stream_file(g->load, files ? files[i] : i, &fds[0], err);
        if (!r)
            r = push(out, fds[0], err);
    }
    return r;
}
