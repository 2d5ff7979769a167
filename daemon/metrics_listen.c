/* daemon/metrics_listen.c: where figures are served: a Unix socket, or a port that only this machine reaches. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/metrics_listen.h"
#include "util/cleanup.h"
#include "util/error.h"

#define BACKLOG 128

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
    socklen_t bytes;
};

static bool parse(const char *text, struct address *out) {
    static const char v4[] = "127.0.0.1:", v6[] = "[::1]:";
    char *end;
    *out = (struct address){0};
    if (text[0] == '/') {
        out->to.local.sun_family = AF_UNIX;
        out->bytes = sizeof(out->to.local);
        if (strlen(text) >= sizeof(out->to.local.sun_path))
            return false;
        strcpy(out->to.local.sun_path, text);
        return true;
    }
    bool is_v4 = strncmp(text, v4, strlen(v4)) == 0;
    if (!is_v4 && strncmp(text, v6, strlen(v6)) != 0)
        return false;
    const char *digits = text + strlen(is_v4 ? v4 : v6);
    unsigned long port = strtoul(digits, &end, 10);
    if (digits[0] < '1' || digits[0] > '9' || *end || port > UINT16_MAX)
        return false;
    if (is_v4) {
        out->to.v4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        out->bytes = sizeof(out->to.v4);
    } else {
        out->to.v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
        out->bytes = sizeof(out->to.v6);
    }
    return true;
}

bool metrics_address_is_valid(const char *address) {
    struct address ignored;
    return parse(address, &ignored);
}

/* A socket that a daemon left which died. */
static bool is_stale(const struct address *a) {
    struct stat st;
    _cleanup_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return a->to.any.sa_family == AF_UNIX && probe >= 0 && lstat(a->to.local.sun_path, &st) == 0 &&
           S_ISSOCK(st.st_mode) && connect(probe, &a->to.any, a->bytes) < 0 && errno == ECONNREFUSED;
}

int metrics_listen(const char *text, int *out, struct hearth_error *err) {
    struct address a;
    int on = 1, r = -1;
    if (!parse(text, &a))
        return error_set(err, HEARTH_E_INVALID, "figures cannot be served at '%.128s'", text);
    _cleanup_close_ int fd = socket(a.to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        mode_t before = umask(0117);
        r = bind(fd, &a.to.any, a.bytes);
        if (r < 0 && errno == EADDRINUSE && is_stale(&a) && unlink(text) == 0)
            r = bind(fd, &a.to.any, a.bytes);
        int e = errno;
        umask(before);
        errno = e;
    }
    if (r < 0 || listen(fd, BACKLOG) < 0) {
        int e = errno;
        int code = error_errno(err, e, "figures for Prometheus cannot be served");
        error_at(err, text, HEARTH_NO_OFFSET);
        if (e == EADDRINUSE)
            error_hint(err, "somebody listens there; choose another place with metrics =");
        else if (e == EAFNOSUPPORT)
            error_hint(err,
                       "the service may have no network (RestrictAddressFamilies=): use the path of a Unix socket");
        return code;
    }
    *out = steal_fd(&fd);
    return 0;
}

void metrics_unlisten(const char *address) {
    if (address[0] == '/')
        unlink(address);
}
