/* artifact/role.h: what a file is for, told by its name alone.
 *
 * Nothing is opened: the role only groups files for people, and programs that want the tokenizer find it by its role.
 * It never decides whether a file is safe.
 */
#pragma once

#include <hearth/index.h>

/* `path` is relative to the artifact. */
enum hearth_role role_of(const char *path);

/* "weights", "config", ...; "other" for a role this build does not know. Static. */
const char *role_name(enum hearth_role role);
