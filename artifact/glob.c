/* One place to go back to is enough: once a later '*' is reached, what an earlier one took never needs to change. So
 * the time is at most the product of both lengths. */
#include "artifact/glob.h"

#include <stddef.h>

/* `p` is behind the '['. Whether c is in the set; *end is behind its ']', or NULL when there is none. A ']' that comes
 * first is a member. */
static bool set_has(const unsigned char *p, unsigned char c, const unsigned char **end) {
    bool negated = *p == '!' || *p == '^', found = false;
    if (negated)
        p++;
    for (bool first = true; *p && (first || *p != ']'); first = false) {
        unsigned char low = *p++, high = low;
        if (low == '\\' && *p)
            low = high = *p++;
        if (*p == '-' && p[1] && p[1] != ']') {
            high = p[1];
            p += 2;
        }
        found |= low <= c && c <= high;
    }
    *end = *p ? p + 1 : NULL;
    return found != negated;
}

/* Whether the pattern's next unit, which is not '*', matches c; moves *pattern behind it. */
static bool unit_matches(const unsigned char **pattern, unsigned char c) {
    const unsigned char *p = *pattern, *end;
    if (*p == '[') {
        bool has = set_has(p + 1, c, &end);
        if (end) {
            *pattern = end;
            return has;
        }
    } else if (*p == '?') {
        *pattern = p + 1;
        return true;
    } else if (*p == '\\' && p[1]) {
        p++;
    }
    *pattern = p + 1;
    return *p == c;
}

bool glob_match(const char *pattern, const char *text) {
    const unsigned char *p = (const unsigned char *)pattern, *s = (const unsigned char *)text;
    const unsigned char *after_star = NULL, *taken = NULL;
    for (;;) {
        if (*p == '*') {
            after_star = ++p;
            taken = s;
            continue;
        }
        if (!*s)
            return !*p;
        const unsigned char *next = p;
        if (*p && unit_matches(&next, *s)) {
            p = next;
            s++;
        } else if (after_star) {
            p = after_star;
            s = ++taken;
        } else {
            return false;
        }
    }
}
