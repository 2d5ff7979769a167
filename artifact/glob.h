/* artifact/glob.h: patterns for names, matched in time that patterns cannot blow up.
 *
 * `*` any run of bytes, '/' included; `?` any one byte; `[abc] [a-z] [!a]` one of (or not of) a set; `\x` the byte x. A
 * `[` that is never closed stands for itself. Bytes, not characters of a locale: a name need not be UTF-8.
 *
 * Why not fnmatch(3): patterns come from clients, and its backtracking takes exponential time on "*a*a*a*a*b".
 * Polynomial is not little either, with 4 KiB of pattern, 4 KiB of path and 100,000 files: so steps can be counted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool glob_match(const char *pattern, const char *text);
/* The same, for patterns of strangers: takes what it costs from *steps, about one for each byte that is looked at. At 0
 * it gives up and says false. */
bool glob_match_within(const char *pattern, const char *text, uint64_t *steps);
