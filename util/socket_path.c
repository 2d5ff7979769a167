/* util/socket_path.c: see socket_path.h. */
#include "util/socket_path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/error.h"

#define SYSTEM_SOCKET "/run/hearth/hearth.sock"
#define FALLBACK_DIR_BYTES 32

static void fallback_dir(char dir[FALLBACK_DIR_BYTES]) {
    snprintf(dir, FALLBACK_DIR_BYTES, "/tmp/hearth-%u", (unsigned)geteuid());
}

int socket_path_default(bool system_wide, char *buffer, size_t size, struct hearth_error *err) {
    int n;
    /* A set-uid program must not be led by its caller's environment. */
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    if (system_wide) {
        n = snprintf(buffer, size, "%s", SYSTEM_SOCKET);
    } else if (runtime && runtime[0] == '/') { /* relative ones are to be ignored, says the specification */
        n = snprintf(buffer, size, "%s/hearth/hearth.sock", runtime);
    } else {
        char dir[FALLBACK_DIR_BYTES];
        fallback_dir(dir);
        n = snprintf(buffer, size, "%s/hearth.sock", dir);
    }
    if (n < 0 || (size_t)n >= size)
        return error_set(err, HEARTH_E_INVALID, "the path of the default socket does not fit into %zu bytes", size);
    return 0;
}

int socket_path_check(const char *path, struct hearth_error *err) {
    char dir[FALLBACK_DIR_BYTES];
    fallback_dir(dir);
    size_t length = strlen(dir);
    if (strncmp(path, dir, length) != 0 || path[length] != '/')
        return 0;
    struct stat st;
    int code = 0;
    if (lstat(dir, &st) < 0) {
        code = error_errno(err, errno, "cannot examine the socket's directory");
    } else if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IRWXG | S_IRWXO))) {
        code = error_set(err, HEARTH_E_DENIED, "the socket's directory cannot be trusted: others could have made it");
        error_expected(err, "a directory of uid %u with mode 0700", (unsigned)geteuid());
        error_found(err, "%s of uid %u with mode %04o", S_ISDIR(st.st_mode) ? "a directory" : "not a directory",
                    (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
        error_hint(err, "remove it, or set XDG_RUNTIME_DIR or HEARTH_SOCKET to a place of your own");
    }
    if (code)
        error_at(err, dir, HEARTH_NO_OFFSET);
    return code;
}
