/* cli/streams.h: artifacts that load while a program already uses them by their paths.
 *
 * The program opens files by links to this process's descriptors. Of a file that is still loading they carry a write
 * lease of the daemon's (hearth_leased_fd): open(2) waits until the file is settled, and what is read then is what was
 * verified. The kernel lets a waiting open through after fs.lease-break-time, ready or not. So the program is started
 * only when the rest of the load will take well less than that, and it has to be ended when the load fails, when the
 * daemon dies before the end, or when an open has waited for almost as long.
 *
 * Thread rule: one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

struct cli;

struct streams {
    struct hearth *h; /* borrowed, as the artifacts are */
    struct hearth_artifact **items;
    size_t n;
    uint64_t deadline;
    uint64_t *waiting_ns;           /* since when an open of each file has been waiting, file by file; 0: none has */
    uint64_t patience_ns;           /* how long one may */
    uint64_t start_ns, start_bytes; /* where the rate is measured from */
    bool resident;                  /* all of them are: there is nothing to look after any more */
};

/* Takes up what has been attached; nothing is owned but what streams_deinit() gives back. Errors: NO_MEMORY. */
int streams_begin(struct streams *s, struct hearth *h, struct hearth_artifact **items, size_t n, uint64_t deadline,
                  struct hearth_error *err);
void streams_deinit(struct streams *s);

/* Waits until a program may be started: until what is left to load takes well less than an open may wait for it, or
 * until all is resident. SIGINT, SIGTERM and SIGHUP end the wait as they end cli_load(). Errors: the load's, TIMEOUT,
 * DISCONNECTED, CANCELLED. */
int streams_wait(struct streams *s, struct cli *c, struct hearth_error *err);

/* Looks after a program that runs: child_program.watch. Errors: the same, and TIMEOUT when an open has waited for so
 * long that the kernel would let it through before the file is loaded. */
int streams_watch(void *streams, bool *over, struct hearth_error *err);
