/* util/state_dir.h: where hearthd keeps its state when nobody says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* $STATE_DIRECTORY, which systemd sets; else /var/lib/hearth for the system's daemon, and for a user's
 * $XDG_STATE_HOME/hearth or ~/.local/state/hearth. "none" where nothing of that is said. Looks at no file. */
void state_dir_default(bool system, char *path, size_t size);
