/* util/path.c: see path.h. */
#include "util/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

void path_tidy(char *path) {
    char *start = path + (*path == '/'), *to = start;
    for (const char *from = start; *from;) {
        size_t n = strcspn(from, "/");
        if (n > 0 && !(n == 1 && *from == '.')) {
            if (to != start)
                *to++ = '/';
            memmove(to, from, n);
            to += n;
        }
        from += n + (from[n] == '/');
    }
    *to = '\0';
}

/* The end of the last ".." part of a tidy path, or NULL. */
static const char *last_dotdot(const char *path) {
    const char *end = NULL;
    for (const char *part = strstr(path, "/.."); part; part = strstr(part + 1, "/.."))
        if (part[3] == '/' || part[3] == '\0')
            end = part + 3;
    return end;
}

bool path_leads_back(const char *path) {
    return last_dotdot(path) != NULL;
}

void path_settle(char path[PATH_MAX]) {
    path_tidy(path);
    const char *behind = last_dotdot(path);
    if (!behind)
        return;
    char *end = path + (behind - path);
    char rest[PATH_MAX], whole[PATH_MAX];
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
