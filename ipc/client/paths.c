/* ipc/client/paths.c: what a person typed, and where sockets are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/client/client.h"
#include "util/socket_path.h"

int hearth_default_socket(bool system_wide, char *buffer, size_t size, struct hearth_error *err) {
    return socket_path_default(system_wide, buffer, size, err);
}

int hearth_ref_from_argument(const char *argument, char *buffer, size_t size, struct hearth_error *err) {
    struct stat st;
    _cleanup_free_ char *cwd = NULL;
    const char *rest = argument;
    /* lstat: a link that leads nowhere is a path too, and the daemon then says what is wrong with it. */
    if (argument[0] != '/' && lstat(argument, &st) == 0) {
        cwd = getcwd(NULL, 0);
        if (!cwd)
            return error_errno(err, errno, "cannot tell the current directory");
        while (rest[0] == '.' && rest[1] == '/')
            rest += 1 + strspn(rest + 1, "/");
        if (strcmp(rest, ".") == 0)
            rest = "";
    }
    bool root = cwd && strcmp(cwd, "/") == 0;
    const char *separator = !cwd || root || rest[0] == '\0' ? "" : "/";
    int n = snprintf(buffer, size, "%s%s%s", cwd ? cwd : "", separator, rest);
    if (n < 0 || (size_t)n >= size) {
        error_set(err, HEARTH_E_INVALID, "the reference is too long");
        error_at(err, argument, HEARTH_NO_OFFSET);
        error_expected(err, "at most %zu bytes", size > 0 ? size - 1 : 0);
        error_found(err, "%d bytes", n);
        return HEARTH_E_INVALID;
    }
    return 0;
}
