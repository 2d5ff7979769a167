/* cli/substitute.h: {} and {1}, {2}, ... in the arguments of `hearth run`.
 *
 * {} and {1} are the first directory, {2} the second, anywhere inside an argument and as often as it likes. A number
 * without a directory, as in the pattern a{3}, stays as it is; so does {01}.
 */
#pragma once

#include <stddef.h>

/* A malloc'd copy with the n directories put in, or NULL when there is no memory. */
char *substitute(const char *argument, const char *const *directories, size_t n);
