/* artifact/identity.h: struct stat to identity, inside artifact/. The rest is in artifact/artifact.h. */
#pragma once

#include <sys/stat.h>

#include "artifact/artifact.h"

struct file_identity identity_of_stat(const struct stat *st);
