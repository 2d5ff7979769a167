/* daemon/main.c: hearthd, the program. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "daemon/detach.h"
#include "daemon/init.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/socket_path.h"
#include "util/error.h"
#include "util/log.h"
#include "util/standard_fds.h"

/* Up to the point at which clients can connect. `report` is where a detached start is waited for. */
static int setup(struct command_line *c, int report, struct daemon **out, struct hearth_error *err) {
    char own[sizeof(c->options.socket)];
    const char *socket = c->options.socket[0] ? c->options.socket : own;
    int passed, r = service_socket(&passed, err);
    if (r || ((r = socket_path_default(c->system, own, sizeof(own), err)) && socket == own))
        return r;
    if (passed < 0 && strcmp(socket, own) == 0 && (r = socket_path_prepare(socket, c->system, err)))
        return r;
    if (report >= 0 && (r = detach_log(socket, err)))
        return r;
    log_init("hearthd", c->options.log_level);
    return daemon_new(c, socket, passed, out, err);
}

int main(int argc, char *argv[]) {
    static struct command_line c; /* a reload that hangs may outlive main() */
    struct daemon *d = NULL;
    struct hearth_error err = HEARTH_ERROR_INIT;
    int report = -1;
    standard_fds_fill();
    int status = command_line_parse(argc, argv, &c);
    if (status >= 0) {
        options_deinit(&c.options);
        return status;
    }
    /* Threads here allocate little and for long: an arena each would be memory for nothing. */
    mallopt(M_ARENA_MAX, 1);
    int r = c.detach ? detach_begin(&report, &err) : init_stay_behind(&err);
    if (r == 0)
        r = setup(&c, report, &d, &err);
    if (r && report < 0)
        print_failure(&err);
    detach_report(report, r ? &err : NULL);
    if (r == 0 && (r = daemon_run(d, &err)))
        log_failure(LOG_ERROR, "the event loop ended", &err);
    daemon_free(d);
    options_deinit(&c.options);
    return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
