/* cli/open.c: from an argument to an attached artifact, for the verbs that use one: attach, cat, run. */
#include <sys/resource.h>

#include "cli/cli.h"
#include "util/error.h"

/* By id: exactly that generation, touching no storage. One that is still loading is waited for. */
static int attach_id(struct cli *c, struct hearth *h, uint64_t id, bool index_only, struct hearth_artifact **out,
                     struct hearth_error *err) {
    struct hearth_info info;
    int r = index_only ? hearth_attach_files(h, id, NULL, 0, c->deadline, out, err)
                       : hearth_attach(h, id, c->deadline, out, err);
    if (r != HEARTH_E_BUSY)
        return r;
    r = hearth_watch(h, id, NULL, NULL, c->deadline, &info, err);
    if (r != 0)
        return r;
    return index_only ? hearth_attach_files(h, id, NULL, 0, c->deadline, out, err)
                      : hearth_attach(h, id, c->deadline, out, err);
}

int cli_open(struct cli *c, const char *argument, bool index_only, struct hearth **h, struct hearth_artifact **out,
             struct hearth_error *err) {
    struct hearth_info info = {0};
    bool is_id = argument_is_id(argument, &info.id);
    int r = *h ? 0 : cli_connect(c, !is_id, h, err); /* a daemon that is started now knows no ids */
    if (r == 0 && !is_id)
        r = cli_load(c, h, argument, &info, err);
    if (r == 0)
        r = attach_id(c, *h, info.id, index_only, out, err);
    return r;
}

uint64_t raise_fd_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    uint64_t former = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return former;
}
