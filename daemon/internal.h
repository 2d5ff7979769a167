/* daemon/internal.h: what daemon.c (the life of the program) and requests.c (what clients ask) share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/access.h"
#include "daemon/artifacts.h"
#include "daemon/budget.h"
#include "daemon/client.h"
#include "daemon/handout.h"
#include "daemon/history.h"
#include "daemon/loop.h"
#include "daemon/metrics_http.h"
#include "daemon/options.h"
#include "daemon/reserve.h"
#include "daemon/resolve.h"
#include "daemon/store.h"
#include "ipc/server.h"
#include "loader/loader.h"

#define ENGINE_TEXT_BYTES 256

struct daemon {
    const struct command_line *command;
    struct options options; /* the command's own at first */
    struct loop *loop;
    struct engine *engine;
    struct resolver *resolver;
    struct store *store;
    struct ipc_server *server;
    struct artifacts *artifacts;
    struct budget budget;
    struct reserve reserve;
    struct handout handout;
    struct client_list clients;
    unsigned leases;
    unsigned loads_direct, loads_buffered; /* that ended well and had large files, by how they were read */
    char not_direct[64];                   /* why the last of the buffered ones was */
    uint64_t start_ns;
    uint64_t used_ns;    /* when the last load was asked for, or a load, lease or its client ended */
    bool swap_forbidden; /* by a control group, at the start */
    char reader[ENGINE_TEXT_BYTES], backing[ENGINE_TEXT_BYTES];
    char configuration[5120]; /* which one applies, and what was wrong with the last that was read */
    struct reload *reload;    /* under way */
    bool reload_again;        /* asked for meanwhile */
    struct metrics metrics;
    struct metrics_server *metrics_server;
    int metrics_fd; /* until it has its server */
    int signal_fd;
    bool stopping;
    bool pins_known; /* those of earlier runs */
    struct loop_timer idle, watchdog, end, spares;
};

/* requests.c */
extern const struct ipc_handler daemon_requests;
extern const struct artifacts_events daemon_answers;
/* Fills in what changes by the moment. */
void daemon_metrics(void *daemon, struct metrics *out);

/* status.c */
void daemon_status(void *daemon, struct ipc_peer *p, uint32_t serial);

/* daemon.c: loads what the configuration preloads and `before` (or NULL) did not. */
void daemon_preload(struct daemon *d, const struct options *before);
/* begins the end. `why` is for the log. */
void daemon_stop(struct daemon *d, const char *why);
/* Tells systemd, and sets d->configuration. */
void daemon_ready(struct daemon *d, const struct hearth_error *mistake);

/* reload.c: reads the configuration again, and takes it if nothing is wrong with it. */
void daemon_reload(struct daemon *d);
/* Nobody waits for what is under way; before the loop is freed. */
void daemon_reload_drop(struct daemon *d);
