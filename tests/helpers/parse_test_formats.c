/* Formats for hearth-parse-test, each recognised by its files' ending: one that reads a file's tail and middle, as
 * archives need, and several that misbehave inside the sandbox. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "artifact/format/format.h"
#include "artifact/parse_channel.h"
#include "util/error.h"

#define DEFINE_FORMAT(ending)                                  \
    static bool claims_##ending(const struct format_file *f) { \
        return format_ends_with(f->path, "." #ending);         \
    }                                                          \
    static const struct format format_##ending = {.name = #ending, .claims = claims_##ending, .parse = parse_##ending}

/* data ... | u64 offset of the table, little endian, in the last 8 bytes; the table: u64 begin, u64 bytes of a tensor.
 */
static int parse_tail(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    uint64_t table, place[2], bytes = in->files[file].bytes;
    int r = in->read(in->user, file, bytes - 8, &table, 8, err);
    r = r ? r : in->read(in->user, file, table, place, 16, err);
    struct hearth_str name = {0};
    r = r ? r : index_add_string(b, "t", 1, file, table, &name, err);
    struct index_tensor_args t = {.name = name,
                                  .dtype = "U8",
                                  .offset = place[0],
                                  .bytes = place[1],
                                  .dims = &place[1],
                                  .n_dims = 1,
                                  .file = file,
                                  .where = table};
    return r ? r : index_add_tensor(b, &t, err);
}
DEFINE_FORMAT(tail);

static int parse_crash(const struct format_input *in, uint32_t file, struct index_builder *b,
                       struct hearth_error *err) {
    (void)in, (void)file, (void)b, (void)err;
    abort();
}
DEFINE_FORMAT(crash);

static int parse_hang(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    (void)in, (void)file, (void)b, (void)err;
    static volatile bool forever = true;
    while (forever)
        ;
    return 0;
}
DEFINE_FORMAT(hang);

/* Waits for a reply to a question that it has not asked. */
static int parse_sleep(const struct format_input *in, uint32_t file, struct index_builder *b,
                       struct hearth_error *err) {
    (void)in, (void)file, (void)b, (void)err;
    struct msghdr nothing = {0};
    return recvmsg(PARSE_SOCKET_FD, &nothing, 0) < 0 ? HEARTH_E_SYSTEM : 0;
}
DEFINE_FORMAT(sleep);

static int parse_eat(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    (void)in;
    for (;;) {
        struct hearth_str s;
        static char text[1 << 20];
        memset(text, 'x', sizeof(text));
        int r = index_add_string(b, text, sizeof(text), file, 0, &s, err);
        if (r != 0)
            return r;
    }
}
DEFINE_FORMAT(eat);

static int parse_flood(const struct format_input *in, uint32_t file, struct index_builder *b,
                       struct hearth_error *err) {
    (void)in, (void)file, (void)b;
    static char text[1 << 20];
    for (;;)
        if (write(PARSE_OUTPUT_FD, text, sizeof(text)) < 0)
            return error_set(err, HEARTH_E_SYSTEM, "the output is bounded");
}
DEFINE_FORMAT(flood);

/* What a taken-over parser would try first. */
static int parse_socket(const struct format_input *in, uint32_t file, struct index_builder *b,
                        struct hearth_error *err) {
    (void)in, (void)file, (void)b;
    socket(AF_INET, SOCK_STREAM, 0);
    return error_set(err, HEARTH_E_MALFORMED, "it may open sockets");
}
DEFINE_FORMAT(socket);

static int parse_exec(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    (void)in, (void)file, (void)b;
    execl("/bin/true", "true", (char *)NULL);
    return error_set(err, HEARTH_E_MALFORMED, "it may exec");
}
DEFINE_FORMAT(exec);

static int parse_signal(const struct format_input *in, uint32_t file, struct index_builder *b,
                        struct hearth_error *err) {
    (void)in, (void)file, (void)b;
    kill(1, 0);
    return error_set(err, HEARTH_E_MALFORMED, "it may signal others");
}
DEFINE_FORMAT(signal);

static int parse_outside(const struct format_input *in, uint32_t file, struct index_builder *b,
                         struct hearth_error *err) {
    char byte;
    (void)b;
    return in->read(in->user, file, in->files[file].bytes, &byte, 1, err);
}
DEFINE_FORMAT(outside);

static int parse_stranger(const struct format_input *in, uint32_t file, struct index_builder *b,
                          struct hearth_error *err) {
    char byte;
    (void)b, (void)file;
    return in->read(in->user, in->n_files, 0, &byte, 1, err);
}
DEFINE_FORMAT(stranger);

/* A tensor that reaches beyond its file: the index is well formed, and wrong. */
static int parse_beyond(const struct format_input *in, uint32_t file, struct index_builder *b,
                        struct hearth_error *err) {
    struct index_tensor_args t = {.dtype = "U8", .offset = in->files[file].bytes, .bytes = 1, .file = file};
    int r = index_add_string(b, "t", 1, file, 0, &t.name, err);
    return r ? r : index_add_tensor(b, &t, err);
}
DEFINE_FORMAT(beyond);

/* An error that would paint the terminal. */
static int parse_rude(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err) {
    (void)in, (void)file, (void)b;
    error_set(err, HEARTH_E_MALFORMED, "\x1b[2J\xff gotcha");
    error_at(err, "/etc/passwd\x1b[1m", 1);
    return HEARTH_E_MALFORMED;
}
DEFINE_FORMAT(rude);

const struct format *const formats[] = {
    &format_tail,        &format_crash,  &format_hang, &format_sleep,  &format_eat,
    &format_flood,       &format_socket, &format_exec, &format_signal, &format_outside,
    &format_stranger,    &format_beyond, &format_rude, &format_json,   &format_text,
    &format_safetensors, NULL,
};
