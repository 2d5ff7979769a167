/* artifact/role.h: what a file is for, told by its name alone.
 *
 * Nothing is opened: the role only groups files for people, and programs that want the tokenizer find it by its role.
 * It never decides whether a file is safe.
 */
#pragma once

#include <hearth/index.h>

/* `path` is relative to the artifact. hearth_role_name() is the text for people. */
enum hearth_role role_of(const char *path);
