/* daemon/metrics_http.c: see metrics_http.h. */
#include "daemon/metrics_http.h"

#include "util/cleanup.h"
#include "util/error.h"

#ifdef HAVE_MICROHTTPD
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX 16u
#define CONNECTION_BYTES ((size_t)16 << 10)
#define CONNECTION_SECONDS 2u
#define STACK_BYTES ((size_t)256 << 10)

struct metrics_server {
    struct MHD_Daemon *http;
    struct loop *loop;
    metrics_fill fill;
    void *user;
    struct loop_job job;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t taken;
    bool wanted, ended;
    struct metrics metrics;
};

/* On the loop. */
static void take(void *user) {
    struct metrics_server *s = user;
    pthread_mutex_lock(&s->lock);
    s->fill(s->user, &s->metrics);
    s->wanted = false;
    pthread_cond_signal(&s->taken);
    pthread_mutex_unlock(&s->lock);
}

/* On the server's thread: waits for the loop, which never blocks. False: the daemon ends. */
static bool ask(struct metrics_server *s, struct metrics *out) {
    pthread_mutex_lock(&s->lock);
    if (!s->ended) {
        s->wanted = true;
        loop_post(s->loop, &s->job);
    }
    while (s->wanted && !s->ended)
        pthread_cond_wait(&s->taken, &s->lock);
    bool well = !s->ended;
    if (well)
        *out = s->metrics;
    pthread_mutex_unlock(&s->lock);
    return well;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, char *text, size_t bytes, const char *type,
                             enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, text, mode);
    if (!r) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result reply_line(struct MHD_Connection *c, unsigned status, const char *line) {
    return reply(c, status, (char *)(uintptr_t)line, strlen(line), "text/plain", MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result serve(void *user, struct MHD_Connection *c, const char *url, const char *method,
                             const char *version, const char *upload, size_t *upload_bytes, void **state) {
    struct metrics m;
    char *text = NULL;
    size_t bytes = 0;
    (void)version, (void)upload, (void)upload_bytes, (void)state;
    if (strcmp(method, "GET") != 0)
        return reply_line(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET it\n");
    if (strcmp(url, "/metrics") != 0)
        return reply_line(c, MHD_HTTP_NOT_FOUND, "figures are at /metrics\n");
    if (!ask(user, &m))
        return reply_line(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon ends\n");
    FILE *to = open_memstream(&text, &bytes);
    if (!to)
        return MHD_NO;
    metrics_write(&m, to);
    if (fclose(to) == 0)
        return reply(c, MHD_HTTP_OK, text, bytes, "text/plain; version=0.0.4; charset=utf-8", MHD_RESPMEM_MUST_FREE);
    free(text);
    return MHD_NO;
}

/* It would tell stderr of clients that hang up. */
static void say_nothing(void *user, const char *format, va_list arguments) {
    (void)user, (void)format, (void)arguments;
}

int metrics_server_new(int fd, struct loop *loop, metrics_fill fill, void *user, struct metrics_server **out,
                       struct hearth_error *err) {
    struct metrics_server *s = calloc(1, sizeof(*s));
    if (!s) {
        close_fd(fd);
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory to serve figures");
    }
    *s = (struct metrics_server){.loop = loop, .fill = fill, .user = user, .job = {.run = take, .user = s}};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->taken, NULL);
    s->http = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG, 0, NULL, NULL, serve, s,
                               MHD_OPTION_EXTERNAL_LOGGER, say_nothing, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                               MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                               CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS,
                               MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES, MHD_OPTION_END);
    if (!s->http) {
        int e = errno;
        close_fd(fd);
        metrics_server_free(s);
        return error_errno(err, e, "the thread that serves figures cannot be started");
    }
    *out = s;
    return 0;
}

struct metrics_server *metrics_server_free(struct metrics_server *s) {
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_signal(&s->taken);
    pthread_mutex_unlock(&s->lock);
    if (s->http)
        MHD_stop_daemon(s->http);
    pthread_cond_destroy(&s->taken);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}
#else
int metrics_server_new(int fd, struct loop *loop, metrics_fill fill, void *user, struct metrics_server **out,
                       struct hearth_error *err) {
    (void)loop, (void)fill, (void)user, (void)out;
    close_fd(fd);
    error_set(err, HEARTH_E_UNSUPPORTED, "this hearthd was built without libmicrohttpd: it cannot serve figures");
    error_hint(err, "take metrics = out of the configuration, or build with libmicrohttpd-dev");
    return HEARTH_E_UNSUPPORTED;
}

struct metrics_server *metrics_server_free(struct metrics_server *s) {
    (void)s;
    return NULL;
}
#endif
