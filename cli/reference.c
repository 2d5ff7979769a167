/* cli/reference.c: what people type for an artifact, and what the daemon calls it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

bool argument_is_id(const char *argument, uint64_t *id) {
    return access(argument, F_OK) != 0 && parse_id(argument, id);
}

int absolute_path(const char *argument, char *out, size_t size, struct hearth_error *err) {
    _cleanup_free_ char *here = argument[0] == '/' ? NULL : getcwd(NULL, 0);
    if (argument[0] != '/' && !here)
        return error_errno(err, errno, "cannot tell the working directory");
    int n = snprintf(out, size, "%s%s%s", here ? here : "", here ? "/" : "", argument);
    return n > 0 && (size_t)n < size ? 0 : error_set(err, HEARTH_E_INVALID, "the path is too long");
}
