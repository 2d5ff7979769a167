/* cli/substitute.c: see substitute.h. */
#include "cli/substitute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* The number (1...n) of the placeholder that begins at s, and its length; 0 when none does. */
static size_t placeholder(const char *s, size_t n, size_t *length) {
    if (s[0] != '{')
        return 0;
    if (s[1] == '}' && n > 0) {
        *length = 2;
        return 1;
    }
    size_t digits = strspn(s + 1, "0123456789");
    if (digits == 0 || digits > 9 || s[1] == '0' || s[1 + digits] != '}')
        return 0;
    *length = digits + 2;
    size_t number = strtoul(s + 1, NULL, 10);
    return number <= n ? number : 0;
}

char *substitute(const char *argument, const char *const *directories, size_t n) {
    _cleanup_free_ char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (const char *s = argument; *s;) {
        size_t length;
        size_t number = placeholder(s, n, &length);
        if (number > 0) {
            fputs(directories[number - 1], out);
            s += length;
        } else {
            fputc(*s++, out);
        }
    }
    return fclose(out) == 0 ? steal_ptr(&text) : NULL;
}
