/* cli/stop.c: hearth stop */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/clock.h"

static int stop(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    struct hearth_status s;
    int r = cli_connect(c, false, &h, err);
    if (r == 0)
        r = hearth_get_status(h, c->deadline, &s, err);
    if (r == 0)
        r = hearth_stop(h, c->deadline, err);
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
    .summary = "Ask the daemon to end",
    .about = "Programs that hold artifacts keep what they have mapped.",
    .examples = "  hearth stop\n"
                "  hearth stop --socket /tmp/test/hearth.sock\n",
    .options = OPTIONS_DAEMON,
    .timeout_ns = 30 * NS_PER_S,
    .run = stop,
};
