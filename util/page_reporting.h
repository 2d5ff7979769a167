/* util/page_reporting.h: whether the host takes free memory back from this machine.
 *
 * With free page reporting a virtual machine tells its host which pages are free, a second or two after they became so,
 * and the host unmaps them: whoever gets such a page next waits until the host has supplied it again, for seconds per
 * GiB.
 *
 * Thread rule: any thread; reads a few small files of the kernel's.
 */
#pragma once

#include <stdbool.h>

/* `root` goes before every path ("" for the running system; a recorded tree in tests). */
bool page_reporting(const char *root);
