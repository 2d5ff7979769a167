/* cli/stop.c: hearth stop
 *
 * Returns when the daemon has hung up. It removes its socket before it closes a connection, so that the next command
 * meets no dying daemon but none, or the next one. Memory of large artifacts, which goes with the process, is not
 * waited for.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

static int wait_for_hangup(const struct cli *c, struct hearth *h, struct hearth_error *err) {
    struct pollfd p = {.fd = hearth_fd(h), .events = POLLIN};
    for (;;) {
        int ready = poll(&p, 1, clock_poll_ms(c->deadline));
        if (ready < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot wait for the daemon");
        if (ready > 0 && hearth_dispatch(h, NULL) != 0)
            return 0;
        if (clock_now() >= c->deadline) {
            error_set(err, HEARTH_E_TIMEOUT, "the daemon was asked to end, but has not done so in time");
            error_at(err, hearth_socket_path(h), HEARTH_NO_OFFSET);
            return HEARTH_E_TIMEOUT;
        }
    }
}

static int stop(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct hearth_status s;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = hearth_get_status(h, c->deadline, &s, err);
    if (r == 0)
        r = hearth_stop(h, c->deadline, err);
    if (r == 0)
        r = wait_for_hangup(c, h, err);
    if (r != 0)
        return r;
    if (c->options.json) {
        struct json j;
        document_begin(&j);
        json_key(&j, "stopping");
        json_bool(&j, true);
        document_number(&j, "pid", s.pid);
        json_path(&j, "socket", hearth_socket_path(h), strlen(hearth_socket_path(h)));
        json_object_end(&j);
    } else {
        printf("The daemon (pid %u) ends.\n", s.pid);
    }
    return 0;
}

const struct verb verb_stop = {
    .name = "stop",
    .operands = "",
    .summary = "End the daemon",
    .about =
        "Returns once its socket is gone, so that a new one can be started. Programs that hold artifacts keep what\n"
        "they have mapped.",
    .examples = "  hearth stop\n"
                "  hearth stop --socket /tmp/test/hearth.sock\n",
    .options = OPTIONS_DAEMON,
    .timeout_ns = 30 * NS_PER_S,
    .run = stop,
};
