/* ipc/client/paths.c: what a person typed, and where sockets are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/client/client.h"
#include "util/path.h"
#include "util/socket_path.h"

int hearth_default_socket(bool system_wide, char *buffer, size_t size, struct hearth_error *err) {
    return socket_path_default(system_wide, buffer, size, err);
}

int hearth_ref_from_argument(const char *argument, char *buffer, size_t size, struct hearth_error *err) {
    struct stat st;
    char path[HEARTH_REF_MAX];
    _cleanup_free_ char *cwd = NULL;
    /* lstat: a link that leads nowhere is a path too, and the daemon then says what is wrong with it. */
    bool exists = argument[0] != '/' && lstat(argument, &st) == 0;
    if (!exists && strncmp(argument, HUB_PREFIX, strlen(HUB_PREFIX)) == 0)
        return hub_reference(argument, buffer, size < sizeof(path) ? size : sizeof(path), err);
    if (exists && !(cwd = getcwd(NULL, 0)))
        return error_errno(err, errno, "cannot tell the current directory");
    int n = snprintf(path, sizeof(path), "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", argument);
    if (n >= 0 && (size_t)n < sizeof(path)) {
        if (path[0] == '/')
            path_settle(path);
        n = snprintf(buffer, size, "%s", path);
    }
    size_t room = size < sizeof(path) ? size : sizeof(path);
    if (n < 0 || (size_t)n >= room) {
        error_set(err, HEARTH_E_INVALID, "the reference is too long");
        error_at(err, argument, HEARTH_NO_OFFSET);
        error_expected(err, "at most %zu bytes", room > 0 ? room - 1 : 0);
        error_found(err, "%d bytes", n);
        return HEARTH_E_INVALID;
    }
    return 0;
}
