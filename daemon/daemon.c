/* daemon/daemon.c: the life of hearthd: start, serve, end. See daemon.h.
 *
 * The end is a state, not a jump: the server goes first, and the socket file with it, so that nobody new comes and the
 * next daemon can start; those who wait are answered; loads are cancelled; and the loop runs on until each has given
 * its memory back. A storage that hangs may hold that up for as long as it likes: so after END_NS the process ends as
 * it stands, and a second signal does not wait at all.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/internal.h"
#include "daemon/metrics_listen.h"
#include "daemon/service.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/memory_limit.h"
#include "util/state_dir.h"
#include "util/text.h"

#define SPARES_MAX 1024u
#define SPARES_SHARE 8
#define SPARES_AFTER (20 * NS_PER_MS) /* what a quiet loop waits with making them */

#define END_NS (5 * NS_PER_S)

/* ---- the end ---- */

/* Those who waited have been told, and the socket is gone: what is left is memory, which goes with the process. */
static void on_end(void *user) {
    struct daemon *d = user;
    if (artifacts_loads(d->artifacts)) /* else it is much memory that is on its way back, and goes with the process */
        log_warning("ending without some loads: their storage does not answer");
    _exit(EXIT_SUCCESS);
}

void daemon_stop(struct daemon *d, const char *why) {
    if (d->stopping)
        return;
    d->stopping = true;
    log_notice("ending: %s", why);
    loop_timer_set(d->loop, &d->end, clock_now() + END_NS);
    service_stopping();
}

/* Not from inside a request: the peers go with the server. */
static void wind_down(struct daemon *d) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    error_set(&err, HEARTH_E_CANCELLED, "the load was cancelled: hearthd is ending");
    artifacts_evict_all(d->artifacts, &err);
    store_stop(d->store); /* before the socket goes: the next daemon wants both */
    d->server = ipc_server_free(d->server);
    loop_share(d->loop, NULL, NULL);
}

static void before_wait(void *user) {
    struct daemon *d = user;
    if (d->server)
        ipc_server_turn(d->server);
    if (handout_turn(&d->handout))
        loop_timer_set(d->loop, &d->spares, clock_now() + SPARES_AFTER);
    if (!d->stopping) {
        reserve_turn(&d->reserve, d->options.reserve, budget_room(&d->budget));
        return;
    }
    if (d->server)
        wind_down(d);
    if (!artifacts_busy(d->artifacts))
        loop_quit(d->loop);
}

static void on_signal(void *user) {
    struct daemon *d = user;
    struct signalfd_siginfo info;
    char why[64];
    if (read(d->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGHUP) {
        daemon_reload(d);
        return;
    }
    if (d->stopping) {
        log_warning("a second signal: ending at once");
        _exit(128 + (int)info.ssi_signo);
    }
    snprintf(why, sizeof(why), "signal %u from pid %u", info.ssi_signo, info.ssi_pid);
    daemon_stop(d, why);
}

void daemon_ready(struct daemon *d, const struct hearth_error *mistake) {
    char budget[16], status[sizeof(d->options.socket) + 64];
    snprintf(d->configuration, sizeof(d->configuration), "%s%s%.900s",
             d->options.from_file ? d->command->config : "none",
             mistake ? "; when it was read again, nothing was taken: " : "", mistake ? mistake->message : "");
    format_size(d->budget.limit.bytes, budget, sizeof(budget));
    snprintf(status, sizeof(status), "listening on %s, budget %s", ipc_server_path(d->server), budget);
    service_ready(status);
}

/* ---- timers ---- */

static void on_idle(void *user) {
    struct daemon *d = user;
    uint64_t now = clock_now(), end = d->used_ns + d->options.idle_exit_ns;
    if (d->leases || artifacts_in_use(d->artifacts))
        end = now + d->options.idle_exit_ns; /* used_ns tells more when they have ended */
    if (end > now)
        loop_timer_set(d->loop, &d->idle, end);
    else
        daemon_stop(d, "idle for as long as idle-exit allows");
}

static void on_watchdog(void *user) {
    struct daemon *d = user;
    service_alive();
    loop_timer_set(d->loop, &d->watchdog, clock_now() + service_watchdog());
}

static void on_spares(void *user) {
    (void)user; /* a turn is all they need */
}

static void on_server(void *user, const struct epoll_event *event) {
    struct daemon *d = user;
    ipc_server_event(d->server, event);
}

/* ---- the start ---- */

/* Before any thread is made, so that all of them leave these signals to the loop. SIGIO would come from leases on
 * descriptors, and is of no use to anybody here. */
static int take_signals(struct daemon *d, struct hearth_error *err) {
    sigset_t ours, blocked;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    blocked = ours;
    sigaddset(&blocked, SIGIO);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* who started us may have ignored it; then how a parser ended would be lost */
    d->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (d->signal_fd < 0)
        return error_errno(err, errno, "signals cannot be taken as a descriptor");
    return loop_watch(d->loop, d->signal_fd, on_signal, d, err);
}

static int listen_somewhere(struct daemon *d, const char *socket, int passed, struct hearth_error *err) {
    struct ipc_options options = {.refuses = access_refuses,
                                  .server_version = "hearthd " HEARTH_VERSION,
                                  .epoll = loop_share(d->loop, on_server, d)};
    struct stat mounts, root;
    if (stat("/proc/self/ns/mnt", &mounts) == 0 && stat("/", &root) == 0) {
        options.mounts = mounts.st_ino;
        options.root_device = root.st_dev;
        options.root_inode = root.st_ino;
    }
    int r = ipc_server_new(&options, &daemon_requests, d, &d->server, err);
    if (r) {
        close_fd(passed);
        return r;
    }
    /* A user's daemon stays the user's; whom else the machine's serves, is decided when they have connected. */
    mode_t mode = d->command->system || d->options.sources ? 0666 : 0600;
    return passed >= 0 ? ipc_server_adopt(d->server, passed, err) : ipc_server_listen(d->server, socket, mode, err);
}

/* Descriptors for clients are made through /proc, memory is counted by it, and the helper is found there. */
static int need_proc(struct hearth_error *err) {
    if (access("/proc/self/fd", X_OK) == 0)
        return 0;
    error_errno(err, errno, "hearthd cannot work without /proc");
    error_at(err, "/proc/self/fd", HEARTH_NO_OFFSET);
    error_hint(err, "mount it: mount -t proc proc /proc, anew in a pid namespace of its own");
    return err ? (int)err->code : HEARTH_E_SYSTEM;
}

static bool was_there(const struct options *before, const char *ref) {
    for (size_t i = 0; before && i < before->n_preload; i++)
        if (strcmp(before->preload[i], ref) == 0)
            return true;
    return false;
}

static void load_in_advance(struct daemon *d, const struct load_spec *wanted, bool pinned) {
    struct hearth_error err = HEARTH_ERROR_INIT;
    struct load_spec spec = *wanted;
    char path[PATH_MAX];
    const char *root = NULL; /* of the source that it lies in now */
    if (access_own_reference(d, spec.ref, path, &root, &err) == 0) {
        spec.ref = path;
        spec.root = (char *)(uintptr_t)root;
        artifacts_preload(d->artifacts, &spec, pinned, &err);
    }
    if (err.code)
        log_failure(LOG_WARNING, pinned ? "a pin cannot be loaded" : "a preload cannot be loaded", &err);
}

void daemon_preload(struct daemon *d, const struct options *before) {
    for (size_t i = 0; i < d->options.n_preload; i++)
        if (!was_there(before, d->options.preload[i]))
            load_in_advance(d, &(struct load_spec){.ref = d->options.preload[i], .verify = d->options.verify}, false);
}

/* On the loop: what earlier runs were told to keep. */
static void preload_pins(void *user, const struct store_pin *pins, size_t n) {
    struct daemon *d = user;
    d->pins_known = true;
    for (size_t i = 0; i < n && !d->stopping; i++)
        load_in_advance(d, pins[i].spec, true);
}

/* "": in memory only. */
static void state_directory(const struct daemon *d, char *path, size_t size) {
    snprintf(path, size, "%s", d->options.state_dir);
    if (!path[0])
        state_dir_default(d->command->system, path, size);
    if (strcmp(path, "none") == 0)
        path[0] = '\0';
}

/* The socket is made before any thread is: that sets the umask for a moment. */
static int start(struct daemon *d, const char *socket, int passed, struct hearth_error *err) {
    const struct options *o = &d->options;
    const struct engine_options engine = {.reader = o->reader,
                                          .backing = o->backing,
                                          .hash_workers = o->hash_workers,
                                          .bytes_in_flight = o->bytes_in_flight};
    char state[sizeof(o->state_dir)];
    state_directory(d, state, sizeof(state));
    int r;
    if ((r = need_proc(err)) || (r = budget_init(&d->budget, o->budget, o->backing == BACKING_HUGETLB, err)) ||
        (r = loop_new(&d->loop, err)) || (r = take_signals(d, err)) || (r = listen_somewhere(d, socket, passed, err)) ||
        (o->metrics[0] && (r = metrics_listen(o->metrics, &d->metrics_fd, err))) ||
        (r = resolver_new(d->loop, &d->resolver, err)) || (r = store_new(d->loop, state, &d->store, err)) ||
        (r = engine_new(&engine, &d->engine, err)))
        return r;
    const struct artifacts_options artifacts = {
        .loop = d->loop,
        .engine = d->engine,
        .resolver = d->resolver,
        .budget = &d->budget,
        .store = d->store,
        .loads_at_once = o->loads_at_once,
        .background_evicts = o->background_evicts,
        .events = daemon_answers,
        .user = d,
    };
    if ((r = artifacts_new(&artifacts, &d->artifacts, err)))
        return r;
    uint64_t spares = d->budget.limit.fds / SPARES_SHARE;
    handout_init(&d->handout, spares < SPARES_MAX ? (unsigned)spares : SPARES_MAX);
    reserve_init(&d->reserve, d->loop, d->engine, "");
    d->swap_forbidden = memory_swap_is_forbidden("");
    if (d->metrics_fd >= 0 &&
        (r = metrics_server_new(steal_fd(&d->metrics_fd), d->loop, daemon_metrics, d, &d->metrics_server, err)))
        return r;
    daemon_preload(d, NULL);
    d->pins_known = store_pins_load(d->store, preload_pins, d) != 0;
    if (d->pins_known) /* as far as they ever will be */
        log_warning("pins of earlier runs cannot be read");
    engine_describe(d->engine, d->reader, sizeof(d->reader), d->backing, sizeof(d->backing));
    return 0;
}

int daemon_new(struct command_line *command, const char *socket, int passed, struct daemon **out,
               struct hearth_error *err) {
    struct daemon *d = calloc(1, sizeof(*d));
    char budget[16];
    if (!d)
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for the daemon");
    d->command = command;
    d->options = command->options;
    d->signal_fd = d->metrics_fd = -1;
    d->handout = (struct handout)HANDOUT_NULL;
    LIST_INIT(&d->clients);
    d->start_ns = d->used_ns = clock_now();
    int r = start(d, socket, passed, err);
    if (r) {
        options_disown(&d->options); /* still the command's */
        daemon_free(d);
        return r;
    }
    options_disown(&command->options);
    d->idle = (struct loop_timer){.due = on_idle, .user = d};
    d->watchdog = (struct loop_timer){.due = on_watchdog, .user = d};
    d->end = (struct loop_timer){.due = on_end, .user = d};
    d->spares = (struct loop_timer){.due = on_spares, .user = d};
    if (d->options.idle_exit_ns)
        loop_timer_set(d->loop, &d->idle, d->start_ns + d->options.idle_exit_ns);
    if (service_watchdog())
        loop_timer_set(d->loop, &d->watchdog, d->start_ns + service_watchdog());
    format_size(d->budget.limit.bytes, budget, sizeof(budget));
    log_notice("listening on %s; budget %s; reads by %s; memory: %s", ipc_server_path(d->server), budget, d->reader,
               d->backing);
    daemon_ready(d, NULL);
    *out = d;
    return 0;
}

int daemon_run(struct daemon *d, struct hearth_error *err) {
    return loop_run(d->loop, before_wait, d, err);
}

struct daemon *daemon_free(struct daemon *d) {
    if (!d)
        return NULL;
    daemon_reload_drop(d);
    store_free(d->store); /* takes its timer out of the loop's list, where those of the others still are */
    if (d->metrics_server || d->metrics_fd >= 0)
        metrics_unlisten(d->options.metrics);
    metrics_server_free(d->metrics_server);
    close_fd(d->metrics_fd);
    ipc_server_free(d->server);
    artifacts_free(d->artifacts);
    handout_deinit(&d->handout);
    resolver_free(d->resolver);
    reserve_deinit(&d->reserve);
    engine_free(d->engine);
    close_fd(d->signal_fd);
    loop_free(d->loop);
    options_deinit(&d->options);
    free(d);
    return NULL;
}
