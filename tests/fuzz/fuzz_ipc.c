/* A client that sends anything, against the server: real sockets, the real decoder, a daemon that answers at once,
 * later or with an error, and a client that reads or does not. Whatever comes in, what reaches the daemon is in range,
 * what goes out is sound, and when the client has gone nothing is charged to it.
 *
 * One input is a sequence of packets: a byte of choices, two bytes of length, then the packet. A HELLO goes before,
 * unless the input is empty or its first byte says otherwise, and the header's sizes are put right where the choices
 * say so; no mutation would get past them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "tests/unit/ipc_loop.h"
#include "util/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { PUT_RIGHT = 1, READ_REPLIES = 2, HOLD = 4, FAIL = 8, WITHOUT_HELLO = 128 };

#define HELD_MAX 128

static struct {
    struct ipc_server *server;
    uint8_t choices;
    uint32_t held[HELD_MAX]; /* serials that wait for their answers */
    unsigned n_held, n_gone;
    uint32_t listed;      /* a LIST that goes on when there is room; 0: none */
    volatile size_t text; /* so that every string is read to its end */
} daemon_;

static void must(bool holds) {
    if (!holds)
        abort();
}

/* ---- the daemon ---- */

static const struct hearth_msg_info info = {.id = 1, .state = HEARTH_STATE_RESIDENT};

static bool later(struct ipc_peer *p, uint32_t serial) {
    struct hearth_error err = {.code = HEARTH_E_NOT_FOUND, .message = "there is none"};
    must(serial != 0);
    if (daemon_.choices & FAIL)
        ipc_reply_error(p, serial, &err);
    else if (daemon_.choices & HOLD && daemon_.n_held < HELD_MAX)
        daemon_.held[daemon_.n_held++] = serial;
    else
        return false;
    return true;
}

static void on_load(void *user, struct ipc_peer *p, uint32_t serial, const struct ipc_load *l) {
    (void)user;
    must(l->n_include <= HEARTH_LIST_MAX && l->n_exclude <= HEARTH_LIST_MAX && l->n_digests <= HEARTH_LIST_MAX);
    must(l->ref[0] != '\0' && l->verify <= HEARTH_VERIFY_ALWAYS);
    size_t text = strlen(l->ref);
    for (size_t i = 0; i < l->n_include; i++)
        text += strlen(l->include[i]);
    for (size_t i = 0; i < l->n_exclude; i++)
        text += strlen(l->exclude[i]);
    for (size_t i = 0; i < l->n_digests; i++)
        text += strlen(l->digests[i].path) + l->digests[i].sha256[31];
    daemon_.text = text;
    if (l->flags & HEARTH_LOAD_PROGRESS)
        ipc_reply_progress(p, serial, &info, l->ref);
    if (!later(p, serial))
        ipc_reply_info(p, serial, &info, l->ref);
}

static void on_watch(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    (void)user, (void)id;
    must((flags & ~HEARTH_WATCH_ONLY) == 0);
    if (!later(p, serial))
        ipc_reply_info(p, serial, &info, "/a");
}

static void on_attach(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    const struct hearth_msg_attached m = {.id = id, .n_files = 1, .n_fds = 1};
    struct fdlist fds = {.count = 2, .fds = {STDERR_FILENO, STDERR_FILENO}};
    (void)user;
    must((flags & ~(HEARTH_ATTACH_ALL | HEARTH_ATTACH_STREAM | HEARTH_ATTACH_SPECULATIVE)) == 0);
    if (!later(p, serial))
        ipc_reply_attached(p, serial, &m, &fds);
}

static void on_files(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, const uint32_t *files, size_t n) {
    struct fdlist fds = {.count = n};
    const struct hearth_msg_fds m = {.id = id, .n_fds = (uint32_t)n};
    (void)user;
    must(n > 0 && n <= HEARTH_PACKET_FDS_MAX);
    for (size_t i = 0; i < n; i++) {
        daemon_.text += files[i];
        fds.fds[i] = STDERR_FILENO;
    }
    if (!later(p, serial))
        ipc_reply_fds(p, serial, &m, &fds);
}

static void on_detach(void *user, struct ipc_peer *p, uint64_t id) {
    (void)user, (void)p, (void)id;
}

static void on_want(void *user, struct ipc_peer *p, const struct hearth_msg_want *m) {
    (void)user, (void)p, (void)m;
}

static void on_cancel(void *user, struct ipc_peer *p, uint32_t serial) {
    (void)user, (void)p;
    must(serial != 0);
}

static void on_list(void *user, struct ipc_peer *p, uint32_t serial, const char *ref) {
    must(strlen(ref) < PATH_MAX);
    (void)user;
    ipc_reply_item(p, serial, &info, "/a");
    if (later(p, serial))
        return;
    if (daemon_.listed == 0) {
        daemon_.listed = serial;
        ipc_peer_await_room(p);
    } else {
        ipc_reply_done(p, serial, 1);
    }
}

static void on_status(void *user, struct ipc_peer *p, uint32_t serial) {
    const struct hearth_msg_status_reply m = {.clients = ipc_server_peers(daemon_.server)};
    (void)user;
    if (!later(p, serial))
        ipc_reply_status(p, serial, &m, &(struct ipc_status_texts){.version = "1", .socket = "/s"});
}

static void on_history(void *user, struct ipc_peer *p, uint32_t serial, const char *ref, uint32_t limit) {
    const struct hearth_msg_info info = {.id = limit};
    const struct hearth_error err = {.code = HEARTH_E_IO};
    (void)user;
    ipc_reply_past(p, serial, 1, &info, ref, &err);
    ipc_reply_done(p, serial, 1);
}

static void on_stop(void *user, struct ipc_peer *p, uint32_t serial) {
    (void)user;
    if (!later(p, serial))
        ipc_reply_done(p, serial, 0);
}

static void on_evict(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    (void)id;
    must((flags & ~(HEARTH_EVICT_FORCE | HEARTH_EVICT_CANCEL)) == 0);
    on_stop(user, p, serial);
}

static void on_pin(void *user, struct ipc_peer *p, uint32_t serial, uint64_t id, uint32_t flags) {
    (void)id;
    must((flags & ~HEARTH_PIN_UNPIN) == 0);
    on_stop(user, p, serial);
}

static void on_gone(void *user, struct ipc_peer *p) {
    (void)user, (void)p;
    daemon_.n_gone++;
    daemon_.n_held = 0;
    daemon_.listed = 0;
}

/* The last item of a LIST, and its end. */
static void on_room(void *user, struct ipc_peer *p) {
    (void)user;
    must(ipc_peer_has_room(p) && daemon_.listed != 0);
    ipc_reply_item(p, daemon_.listed, &info, "/a");
    ipc_reply_done(p, daemon_.listed, 2);
    daemon_.listed = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const struct ipc_handler handler = {.load = on_load,
                                               .watch = on_watch,
                                               .attach = on_attach,
                                               .files = on_files,
                                               .detach = on_detach,
                                               .want = on_want,
                                               .list = on_list,
                                               .status = on_status,
                                               .history = on_history,
                                               .evict = on_evict,
                                               .pin = on_pin,
                                               .stop = on_stop,
                                               .cancel = on_cancel,
                                               .gone = on_gone,
                                               .room = on_room};
    (void)argc, (void)argv;
    log_init("fuzz", LOG_ERROR);
    must(loop_server_new(&(struct ipc_options){.server_version = "fuzz"}, &handler, NULL, &daemon_.server) == 0);
    return 0;
}

/* ---- the client ---- */

/* Reads what has come; every packet must be one that the protocol allows. */
static void read_replies(int fd) {
    static _Alignas(8) uint8_t packet[HEARTH_PACKET_MAX];
    struct fdlist fds = FDLIST_NULL;
    struct wire_in in;
    long n;
    while ((n = fdlist_receive(fd, packet, sizeof(packet), &fds)) > 0) {
        must(wire_open(&in, packet, (size_t)n) == 0);
        must(in.header.type >= HEARTH_MSG_ERROR && in.header.type <= HEARTH_MSG_PAST);
        must(fds.count == 0 || in.header.type == HEARTH_MSG_ATTACHED || in.header.type == HEARTH_MSG_FDS);
        must(in.header.serial != 0 || in.header.type == HEARTH_MSG_ERROR);
        fdlist_deinit(&fds);
    }
}

static void answer_held(void) {
    struct ipc_peer *p = daemon_.server->peers;
    while (p && daemon_.n_held > 0)
        ipc_reply_done(p, daemon_.held[--daemon_.n_held], 0);
}

static void put_right(uint8_t *packet, size_t bytes) {
    struct hearth_msg m;
    if (bytes < sizeof(m))
        return;
    memcpy(&m, packet, sizeof(m));
    m.bytes = (uint32_t)bytes;
    m.type = (uint16_t)(m.type % (HEARTH_MSG_CANCEL + 2));
    if (m.fixed_bytes > bytes - sizeof(m))
        m.fixed_bytes = (uint16_t)(bytes - sizeof(m));
    m.serial |= 1;
    m.reserved = 0;
    memcpy(packet, &m, sizeof(m));
}

static void greet(int fd) {
    static struct wire_out w;
    struct hearth_msg_hello *m = wire_begin(&w, HEARTH_MSG_HELLO, 1, sizeof(*m));
    m->version_max = HEARTH_PROTOCOL_MAX;
    m->client = wire_put_str(&w, "fuzz");
    (void)fdlist_send(fd, w.buffer, (size_t)wire_end(&w), NULL);
    loop_server_turn(daemon_.server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t packet[HEARTH_PACKET_MAX + 1];
    int ends[2];
    unsigned gone = daemon_.n_gone;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    must(peer_new(daemon_.server, ends[0], (struct ipc_cred){.uid = 1000}) != NULL);
    if (size > 0 && !(data[0] & WITHOUT_HELLO))
        greet(ends[1]);
    while (size >= 3) {
        size_t bytes = data[1] | (size_t)data[2] << 8;
        daemon_.choices = data[0];
        data += 3;
        size -= 3;
        bytes = bytes < size ? bytes : size;
        memcpy(packet, data, bytes);
        if (daemon_.choices & PUT_RIGHT)
            put_right(packet, bytes);
        (void)fdlist_send(ends[1], packet, bytes, NULL);
        loop_server_turn(daemon_.server);
        if (!(daemon_.choices & HOLD))
            answer_held();
        if (daemon_.choices & READ_REPLIES)
            read_replies(ends[1]);
        data += bytes;
        size -= bytes;
    }
    answer_held();
    read_replies(ends[1]);
    close(ends[1]);
    for (int i = 0; daemon_.server->peers && i < 1000; i++)
        loop_server_turn(daemon_.server);
    must(!daemon_.server->peers && !daemon_.server->accounts && daemon_.n_gone == gone + 1);
    return 0;
}
