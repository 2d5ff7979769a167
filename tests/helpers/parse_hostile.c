/* A parser helper that does not keep to artifact/parse_channel.h, in the way that the first file's name asks for: the
 * manifest is an index, and its strings are searched for the words below. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/parse_channel.h"
#include "util/fdlist.h"
#include "util/wire.h"

static struct wire_out out;

static void say(int type) {
    wire_begin(&out, (enum hearth_msg_type)type, 0, 0);
    long n = wire_end(&out);
    (void)!send(PARSE_SOCKET_FD, out.buffer, (size_t)n, MSG_NOSIGNAL);
}

/* The manifest itself passes every rule of an index. */
static void copy(const char *index, size_t bytes) {
    (void)!write(PARSE_OUTPUT_FD, index, bytes);
}

int main(void) {
    static char packet[HEARTH_PACKET_MAX];
    struct fdlist fds = FDLIST_NULL;
    bool lost;
    struct stat st;
    if (fdlist_receive_wait(PARSE_SOCKET_FD, packet, sizeof(packet), &fds, true, &lost) <= 0 || fds.count != 1 ||
        fstat(fds.fds[0], &st) < 0)
        return 3;
    char *index = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds.fds[0], 0);
    if (index == MAP_FAILED)
        return 4;
    size_t bytes = (size_t)st.st_size;
#define ASKED(word) memmem(index, bytes, word, strlen(word))
    if (ASKED("garbage.packet")) {
        (void)!send(PARSE_SOCKET_FD, "not a packet at all", 19, 0);
        pause();
    } else if (ASKED("unknown.packet")) {
        say(77);
        pause();
    } else if (ASKED("brings.fd")) {
        struct fdlist own = {.count = 1, .fds = {0}};
        wire_begin(&out, (enum hearth_msg_type)PARSE_MSG_DONE, 0, 0);
        fdlist_send(PARSE_SOCKET_FD, out.buffer, (size_t)wire_end(&out), &own);
        pause();
    } else if (ASKED("silent.exit")) {
        return 0;
    } else if (ASKED("status.exit")) {
        return 7;
    } else if (ASKED("empty.index")) {
        say(PARSE_MSG_DONE);
    } else if (ASKED("garbage.index")) {
        (void)!write(PARSE_OUTPUT_FD, "garbage garbage garbage", 23);
        say(PARSE_MSG_DONE);
    } else if (ASKED("other.artifact")) {
        /* The same index with one letter of a path changed. */
        char *path = memmem(index, bytes, "other.artifact", 14);
        path[0] = 'O';
        copy(index, bytes);
        say(PARSE_MSG_DONE);
    } else if (ASKED("lying.digest")) {
        struct hearth_index_header *h = (struct hearth_index_header *)index;
        h->verified = HEARTH_VERIFIED_SIGNED;
        copy(index, bytes);
        say(PARSE_MSG_DONE);
    } else if (ASKED("done.lingers")) {
        copy(index, bytes);
        say(PARSE_MSG_DONE);
        pause();
    } else if (ASKED("asks.only")) {
        struct parse_msg_range *q = wire_begin(&out, (enum hearth_msg_type)PARSE_MSG_RANGE, 1, sizeof(*q));
        q->flags = PARSE_WANT_FD;
        q->length = 1;
        long n = wire_end(&out);
        for (;;)
            if (send(PARSE_SOCKET_FD, out.buffer, (size_t)n, MSG_NOSIGNAL) < 0)
                return 0;
    } else if (ASKED("honest")) {
        copy(index, bytes);
        say(PARSE_MSG_DONE);
    }
    return 0;
}
