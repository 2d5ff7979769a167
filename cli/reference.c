/* cli/reference.c: what people type for an artifact, and what the daemon calls it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/place.h"
#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

bool argument_is_id(const char *argument, uint64_t *id) {
    return access(argument, F_OK) != 0 && parse_id(argument, id);
}

/* The end of the last ".." part of a tidy path, or NULL. */
static char *last_dotdot(char *path) {
    char *end = NULL;
    for (char *part = strstr(path, "/.."); part; part = strstr(part + 1, "/.."))
        if (part[3] == '/' || part[3] == '\0')
            end = part + 3;
    return end;
}

void reference_tidy(char path[HEARTH_REF_MAX]) {
    path_tidy(path);
    char *end = last_dotdot(path);
    if (!end)
        return;
    char rest[HEARTH_REF_MAX], whole[HEARTH_REF_MAX];
    strcpy(rest, end);
    *end = '\0';
    _cleanup_free_ char *real = realpath(path, NULL);
    if (!real || snprintf(whole, sizeof(whole), "%s%s", real, rest) >= (int)sizeof(whole)) {
        strcpy(end, rest);
        return;
    }
    strcpy(path, whole);
    path_tidy(path); /* realpath() may have given "/" */
}

int cli_reference(const char *argument, char out[HEARTH_REF_MAX], struct hearth_error *err) {
    int r = hearth_ref_from_argument(argument, out, HEARTH_REF_MAX, err);
    if (r == 0 && out[0] == '/')
        reference_tidy(out);
    return r;
}

int absolute_path(const char *argument, char *out, size_t size, struct hearth_error *err) {
    _cleanup_free_ char *here = argument[0] == '/' ? NULL : getcwd(NULL, 0);
    if (argument[0] != '/' && !here)
        return error_errno(err, errno, "cannot tell the working directory");
    int n = snprintf(out, size, "%s%s%s", here ? here : "", here ? "/" : "", argument);
    return n > 0 && (size_t)n < size ? 0 : error_set(err, HEARTH_E_INVALID, "the path is too long");
}
