/* cli/streams.c: see streams.h. */
#include "cli/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

/* The program is ended so long before the kernel would let its open through. */
#define MARGIN_NS (5 * NS_PER_S)
/* It is started when the rest takes this part of how long an open may wait. */
#define REST_SHARE 3
#define LOOK_MS 100

/* How long an open may wait: 0 when that is too short to be of use, or not known. */
static uint64_t patience(void) {
    _cleanup_fclose_ FILE *f = fopen("/proc/sys/fs/lease-break-time", "re");
    unsigned seconds;
    if (!f || fscanf(f, "%u", &seconds) != 1 || seconds * NS_PER_S <= MARGIN_NS)
        return 0;
    return seconds * NS_PER_S - MARGIN_NS;
}

int streams_begin(struct streams *s, struct hearth *h, struct hearth_artifact **items, size_t n, uint64_t deadline,
                  struct hearth_error *err) {
    size_t files = 0;
    for (size_t i = 0; i < n; i++)
        files += hearth_file_count(items[i]);
    *s = (struct streams){.h = h, .items = items, .n = n, .deadline = deadline, .patience_ns = patience()};
    s->waiting_ns = calloc(files + 1, sizeof(*s->waiting_ns));
    return s->waiting_ns ? 0 : error_set(err, HEARTH_E_NO_MEMORY, "out of memory");
}

void streams_deinit(struct streams *s) {
    free(s->waiting_ns);
    s->waiting_ns = NULL;
}

/* How far all of them are. Sets s->resident. */
static int look(struct streams *s, struct hearth_stream *sum, struct hearth_error *err) {
    struct hearth_error dead = HEARTH_ERROR_INIT;
    int broken = hearth_dispatch(s->h, &dead);
    *sum = (struct hearth_stream){.resident = true};
    for (size_t i = 0; i < s->n; i++) {
        struct hearth_stream one;
        int r = hearth_stream_progress(s->items[i], &one, err);
        if (r != 0)
            return r;
        sum->bytes += one.bytes;
        sum->landed += one.landed;
        sum->resident &= one.resident;
    }
    s->resident = sum->resident;
    if (s->resident)
        return 0;
    if (broken) {
        if (err)
            *err = dead;
        return broken;
    }
    return clock_now() >= s->deadline ? error_set(err, HEARTH_E_TIMEOUT, "it was not resident in time") : 0;
}

/* Whether opening each file that is not settled would wait. */
static bool all_leased(const struct streams *s) {
    for (size_t i = 0; i < s->n; i++)
        for (size_t file = 0; file < hearth_file_count(s->items[i]); file++) {
            int fd = hearth_leased_fd(s->items[i], file, 0, NULL);
            if (fd < 0 || (fcntl(fd, F_GETLEASE) != F_WRLCK && !hearth_file_settled(s->items[i], file)))
                return false;
        }
    return true;
}

/* Whether the rest will be there long before an open gives up. */
static bool soon_there(struct streams *s, const struct hearth_stream *sum) {
    uint64_t now = clock_now();
    if (s->start_ns == 0) {
        s->start_ns = now;
        s->start_bytes = sum->landed;
    }
    double seconds = (double)(now - s->start_ns) / NS_PER_S, rate = (double)(sum->landed - s->start_bytes);
    if (s->patience_ns == 0 || rate <= 0)
        return false;
    double rest = (double)(sum->bytes - sum->landed) * seconds / rate;
    return rest < (double)s->patience_ns / NS_PER_S / REST_SHARE;
}

int streams_wait(struct streams *s, struct cli *c, struct hearth_error *err) {
    sigset_t former;
    _cleanup_close_ int signals = catch_interrupts(&former, err);
    if (signals < 0)
        return err ? (int)err->code : HEARTH_E_SYSTEM;
    bool said = false;
    int r;
    for (;;) {
        struct hearth_stream sum;
        r = look(s, &sum, err);
        if (r != 0 || s->resident)
            break;
        bool leased = s->patience_ns > 0 && all_leased(s);
        if (leased && soon_there(s, &sum))
            break;
        if (!leased && !said)
            note(c, "opening a file does not wait for it here: the program starts when all is resident");
        said |= !leased;
        struct pollfd p[] = {{.fd = signals, .events = POLLIN}, {.fd = hearth_fd(s->h), .events = POLLIN}};
        if (poll(p, 2, LOOK_MS) > 0 && p[0].revents && (r = cli_interrupted(c, signals, err)) != 0)
            break;
    }
    sigprocmask(SIG_SETMASK, &former, NULL);
    return r;
}

/* An open of this file has waited for as long as it may. */
static int stalled(const struct streams *s, size_t item, size_t file, struct hearth_error *err) {
    struct hearth_file f = {.path = ""};
    (void)hearth_file_at(s->items[item], file, &f, NULL);
    error_set(err, HEARTH_E_TIMEOUT, "the load stalls, and the program cannot wait any longer");
    error_at(err, f.path, HEARTH_NO_OFFSET);
    error_expected(err, "the file within %llu s of its being opened", (unsigned long long)(s->patience_ns / NS_PER_S));
    error_hint(err, "run it with --wait, which starts the program when all is resident");
    return HEARTH_E_TIMEOUT;
}

int streams_watch(void *streams, bool *over, struct hearth_error *err) {
    struct streams *s = streams;
    struct hearth_stream sum;
    int r = look(s, &sum, err);
    *over = r == 0 && s->resident;
    uint64_t now = clock_now(), *waiting = s->waiting_ns;
    for (size_t i = 0; r == 0 && !s->resident && i < s->n; i++)
        for (size_t file = 0; file < hearth_file_count(s->items[i]); file++, waiting++) {
            /* A reader asks the holder of a write lease to step back to a read lease: that is what F_GETLEASE says
             * then. */
            if (hearth_file_settled(s->items[i], file) ||
                fcntl(hearth_leased_fd(s->items[i], file, 0, NULL), F_GETLEASE) == F_WRLCK)
                *waiting = 0;
            else if (*waiting == 0)
                *waiting = now;
            else if (now - *waiting >= s->patience_ns && !hearth_file_settled(s->items[i], file))
                return stalled(s, i, file, err);
        }
    return r;
}
