/* One place to go back to is enough: once a later '*' is reached, what an earlier one took never needs to change. So
 * the time is at most the product of both lengths. */
#include "artifact/glob.h"

#include <stddef.h>

/* `p` is behind the '['. Whether c is in the set; *end is behind its ']', or NULL when there is none; *cost is raised
 * by the bytes looked at. A ']' that comes first is a member. */
static bool set_has(const unsigned char *p, unsigned char c, const unsigned char **end, uint64_t *cost) {
    const unsigned char *start = p;
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
    *cost += (uint64_t)(p - start);
    *end = *p ? p + 1 : NULL;
    return found != negated;
}

/* Whether the pattern's next unit, which is not '*', matches c; moves *pattern behind it. */
static bool unit_matches(const unsigned char **pattern, unsigned char c, uint64_t *cost) {
    const unsigned char *p = *pattern, *end;
    if (*p == '[') {
        bool has = set_has(p + 1, c, &end, cost);
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

/* Takes the cost of one round from *steps. */
static bool afford(uint64_t *steps, uint64_t cost) {
    *steps -= cost < *steps ? cost : *steps;
    return *steps > 0;
}

bool glob_match_within(const char *pattern, const char *text, uint64_t *steps) {
    const unsigned char *p = (const unsigned char *)pattern, *s = (const unsigned char *)text;
    const unsigned char *after_star = NULL, *taken = NULL;
    for (uint64_t cost = 1; afford(steps, cost);) {
        cost = 1;
        if (*p == '*') {
            after_star = ++p;
            taken = s;
            continue;
        }
        if (!*s)
            return !*p;
        const unsigned char *next = p;
        if (*p && unit_matches(&next, *s, &cost)) {
            p = next;
            s++;
        } else if (after_star) {
            p = after_star;
            s = ++taken;
        } else {
            return false;
        }
    }
    return false;
}

bool glob_match(const char *pattern, const char *text) {
    uint64_t steps = UINT64_MAX;
    return glob_match_within(pattern, text, &steps);
}
