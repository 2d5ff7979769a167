/* daemon/socket_path.c: see socket_path.h. */
#include "daemon/socket_path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/error.h"

int socket_path_prepare(const char *socket, bool system, struct hearth_error *err) {
    char directory[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(socket, '/');
    if (!slash || (size_t)(slash - socket) >= sizeof(directory))
        return error_set(err, HEARTH_E_INVALID, "the path of the socket has no directory");
    memcpy(directory, socket, (size_t)(slash - socket));
    directory[slash - socket] = '\0';
    if (mkdir(directory, system ? 0755 : 0700) < 0 && errno != EEXIST) {
        int code = error_errno(err, errno, "the socket's directory cannot be made");
        error_at(err, directory, HEARTH_NO_OFFSET);
        error_hint(err, "make it, or choose another place with --socket");
        return code;
    }
    if (lstat(directory, &st) < 0) {
        int code = error_errno(err, errno, "the socket's directory cannot be looked at");
        error_at(err, directory, HEARTH_NO_OFFSET);
        return code;
    }
    mode_t others = system ? S_IWGRP | S_IWOTH : S_IRWXG | S_IRWXO;
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & others))
        return 0;
    error_set(err, HEARTH_E_DENIED, "the socket's directory could be somebody else's");
    error_at(err, directory, HEARTH_NO_OFFSET);
    error_expected(err, "a directory of uid %u with mode %s", (unsigned)geteuid(), system ? "0755" : "0700");
    error_found(err, "%s of uid %u with mode %04o", S_ISDIR(st.st_mode) ? "a directory" : "no directory",
                (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
    error_hint(err, "remove it, or choose another place with --socket");
    return HEARTH_E_DENIED;
}
