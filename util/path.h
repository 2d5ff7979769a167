/* util/path.h: one name for one place. Pure but for path_settle(), which asks the file system. */
#pragma once

#include <limits.h>
#include <stdbool.h>

/* Takes doubled slashes, "." parts and a '/' at the end out, in place. ".." stays: behind a link it is not what it
 * seems. */
void path_tidy(char *path);

/* True when a tidy absolute path has a ".." in it. */
bool path_leads_back(const char *path);

/* Tidies an absolute path, and takes ".." parts out with what they lead back from, links of that resolved. Links behind
 * the last ".." stay, for "latest" may be one. A path whose ".." leads nowhere keeps it. */
void path_settle(char path[PATH_MAX]);
