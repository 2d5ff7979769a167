/* util/file_system.h: what kinds of file systems are called. */
#pragma once

/* The name for statfs(2)'s f_type; NULL where it is not known here. */
const char *file_system_name(long type);
