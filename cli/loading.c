/* cli/loading.c: from an argument to a resident artifact.
 *
 * Loading waits in a small loop over the connection and a signalfd rather than inside one blocking call, so that an
 * interrupt ends it like any other error: the line of progress is cleared, the reason is said, and hanging up ends the
 * load in the daemon.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

static void on_progress(void *user, const struct hearth_info *info) {
    struct loading *w = user;
    w->id = info->id;
    if (w->progress.shown)
        progress_show(&w->progress, info);
}

static void on_done(void *user, const struct hearth_info *info, const struct hearth_error *err) {
    struct loading *w = user;
    w->done = true;
    w->result = err ? (int)err->code : 0;
    if (err && w->err)
        *w->err = *err;
    if (info)
        w->id = info->id;
    if (info && w->info)
        *w->info = *info;
}

int cli_interrupted(struct cli *c, int signals, struct hearth_error *err) {
    struct signalfd_siginfo s;
    if (read(signals, &s, sizeof(s)) != (ssize_t)sizeof(s))
        return 0;
    c->interrupted = (int)s.ssi_signo;
    return error_set(err, HEARTH_E_CANCELLED, "ended by SIG%s while it was loading",
                     sigabbrev_np((int)s.ssi_signo) ? sigabbrev_np((int)s.ssi_signo) : "?");
}

/* Until it is resident or has failed; with `id_only` until it has its id. */
static int wait_for(struct cli *c, struct hearth *h, struct loading *w, bool id_only, int signals) {
    struct pollfd fds[] = {{.fd = hearth_fd(h), .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    while (!w->done && !(id_only && w->id)) {
        int ready = poll(fds, 2, clock_poll_ms(c->deadline));
        if (ready < 0 && errno != EINTR)
            return error_errno(w->err, errno, "cannot wait for the daemon");
        if (ready > 0 && fds[1].revents) {
            int r = cli_interrupted(c, signals, w->err);
            if (r != 0)
                return r;
        }
        if (ready > 0 && fds[0].revents) {
            struct hearth_error broken = HEARTH_ERROR_INIT;
            int r = hearth_dispatch(h, &broken);
            if (r != 0 && !w->done) {
                if (w->err)
                    *w->err = broken;
                return r;
            }
        }
        if (!w->done && clock_now() >= c->deadline)
            return error_set(w->err, HEARTH_E_TIMEOUT, "it was not resident in time");
    }
    return w->result;
}

int catch_interrupts(sigset_t *former, struct hearth_error *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        error_errno(err, errno, "cannot wait for signals");
    else
        sigprocmask(SIG_BLOCK, &set, former);
    return fd;
}

static int load_reference(struct cli *c, struct hearth *h, const char *ref, struct loading *w, bool id_only) {
    sigset_t former;
    _cleanup_close_ int signals = catch_interrupts(&former, w->err);
    if (signals < 0)
        return (int)w->err->code;
    const struct options *o = &c->options;
    bool unwaited = o->no_wait || (c->verb == &verb_pin && !o->wait);
    struct hearth_load_options options = {
        .verify = o->verify,
        .include = o->include,
        .n_include = o->n_include,
        .exclude = o->exclude,
        .n_exclude = o->n_exclude,
        .digests = o->digests,
        .n_digests = o->n_digests,
        .no_wait = unwaited,
        .background = unwaited,
        .pin = c->verb == &verb_pin,
        .progress = w->progress.shown || id_only ? on_progress : NULL,
        .user = w,
    };
    int r = hearth_load_start(h, ref, &options, on_done, w, w->err);
    if (r == 0)
        r = wait_for(c, h, w, id_only, signals);
    sigprocmask(SIG_SETMASK, &former, NULL);
    return r;
}

static int load_begin(struct cli *c, struct hearth *h, const char *argument, struct loading *w, bool id_only,
                      struct hearth_error *err) {
    progress_init(&w->progress, c->options.progress, c->options.quiet);
    char ref[HEARTH_REF_MAX];
    int r = hearth_ref_from_argument(argument, ref, sizeof(ref), err);
    return r ? r : load_reference(c, h, ref, w, id_only);
}

int cli_load_begin(struct cli *c, struct hearth *h, const char *argument, struct loading *w, struct hearth_error *err) {
    w->err = err;
    int r = load_begin(c, h, argument, w, true, err);
    w->err = NULL;
    return r;
}

int cli_load(struct cli *c, struct hearth **h, const char *argument, struct hearth_info *out,
             struct hearth_error *err) {
    struct loading w = {.info = out, .err = err};
    int r = load_begin(c, *h, argument, &w, false, err);
    if (!w.done) { /* the request may be under way, and knows `w` */
        w.err = NULL;
        *h = hearth_close(*h);
    }
    progress_end(&w.progress);
    return r;
}
