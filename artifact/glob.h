/* artifact/glob.h: patterns for names, matched in time that patterns cannot blow up.
 *
 * `*` any run of bytes, '/' included; `?` any one byte; `[abc] [a-z] [!a]` one of (or not of) a set; `\x` the byte x. A
 * `[` that is never closed stands for itself. Bytes, not characters of a locale: a name need not be UTF-8.
 *
 * Why not fnmatch(3): patterns come from clients, and its backtracking takes exponential time on "*a*a*a*a*b".
 */
#pragma once

#include <stdbool.h>

bool glob_match(const char *pattern, const char *text);
