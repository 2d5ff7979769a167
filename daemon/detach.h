/* daemon/detach.h: going to the background, for `hearthd --detach`.
 *
 * The program that was started stays in the foreground until the daemon proper either serves or has failed, and exits
 * accordingly: with 0 when clients can connect, else with 1 and the reason on its stderr. The daemon proper has a
 * session of its own, nobody's terminal, and none of the descriptors that its starter had open: a lock or a pipe that a
 * script left open must not live for as long as the daemon does. Its log is hearthd.log beside the socket.
 *
 * Thread rule: before any thread is made.
 */
#pragma once

#include <hearth/error.h>

/* Returns in the daemon proper alone; *out is what detach_report() takes. Errors: SYSTEM, NO_FDS. */
int detach_begin(int *out, struct hearth_error *err);

/* Makes stdin, stdout and stderr /dev/null and the log. Errors: as open(2). */
int detach_log(const char *socket, struct hearth_error *err);

/* Tells the one who waits how the start went (NULL: well), and lets it go. A report < 0 is nobody. */
void detach_report(int report, const struct hearth_error *err);

/* One line on stderr: the message, and the facts that help. */
void print_failure(const struct hearth_error *err);
