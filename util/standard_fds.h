/* util/standard_fds.h: what a program does about standard descriptors that it was started without. */
#pragma once

/* Fills each of 0, 1 and 2 that is closed with one that fails when it is used (EBADF), as a closed one does: else the
 * next file or socket that is opened would get its number, and what is printed would go there. Call it first. */
void standard_fds_fill(void);
