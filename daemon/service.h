/* daemon/service.h: hearthd as a service of systemd. Without libsystemd, or not started by it, nothing here does
 * anything.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdint.h>

#include <hearth/error.h>

/* The listening socket that systemd passed (close-on-exec), or -1 when it passed none. The environment that named it is
 * cleared. Errors: INVALID (several), SYSTEM. */
int service_socket(int *fd, struct hearth_error *err);
void service_ready(const char *status);
/* Until the next service_ready(). */
void service_reloading(void);
void service_stopping(void);
/* How often the watchdog wants to hear of us, in ns; 0: never. */
uint64_t service_watchdog(void);
void service_alive(void);
