/* util/state_dir.c: see state_dir.h. */
#include "util/state_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void state_dir_default(bool system, char *path, size_t size) {
    const char *given = secure_getenv("STATE_DIRECTORY"), *base = secure_getenv("XDG_STATE_HOME"),
               *home = secure_getenv("HOME");
    int n = -1;
    if (given && given[0] == '/') /* there may be several, with ':' between them */
        n = snprintf(path, size, "%.*s", (int)strcspn(given, ":"), given);
    else if (system)
        n = snprintf(path, size, "/var/lib/hearth");
    else if (base && base[0] == '/')
        n = snprintf(path, size, "%s/hearth", base);
    else if (home && home[0] == '/')
        n = snprintf(path, size, "%s/.local/state/hearth", home);
    if (n < 0 || (size_t)n >= size)
        snprintf(path, size, "none");
}
