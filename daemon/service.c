/* daemon/service.c: see service.h. */
#include "daemon/service.h"

#ifdef HAVE_SYSTEMD
#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "util/clock.h"
#include "util/error.h"

int service_socket(int *fd, struct hearth_error *err) {
    int n = sd_listen_fds(1);
    *fd = n == 1 ? SD_LISTEN_FDS_START : -1;
    if (n < 0)
        return error_errno(err, -n, "the socket that systemd passes cannot be taken");
    if (n > 1)
        return error_set(err, HEARTH_E_INVALID, "systemd passes %d sockets, and hearthd serves one", n);
    return 0;
}

void service_ready(const char *status) {
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void service_reloading(void) {
    /* With Type=notify-reload, systemd wants to know that this is said later than its signal was sent. */
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading the configuration again",
               clock_now() / 1000);
}

void service_stopping(void) {
    sd_notify(0, "STOPPING=1\nSTATUS=ending: cancelling what is loading");
}

uint64_t service_watchdog(void) {
    uint64_t usec;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec * 1000 / 2 : 0;
}

void service_alive(void) {
    sd_notify(0, "WATCHDOG=1");
}
#else
int service_socket(int *fd, struct hearth_error *err) {
    (void)err;
    *fd = -1;
    return 0;
}

void service_ready(const char *status) {
    (void)status;
}

void service_reloading(void) {}

void service_stopping(void) {}

uint64_t service_watchdog(void) {
    return 0;
}

void service_alive(void) {}
#endif
