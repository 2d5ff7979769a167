/* util/wire.h: building and reading packets of hearth/protocol.h. Shared by the daemon and libhearth.
 *
 * Writing: wire_begin(), set the fixed struct through the returned pointer, add strings and lists, wire_end(). The
 * buffer never moves, so pointers into it stay valid. What does not fit sets `overflow`, which wire_end() reports.
 *
 * Reading: everything in a packet is untrusted. wire_open() checks the header; wire_fixed() copies the fixed struct out
 * (zeros for what the sender does not know); wire_get_str() and wire_get_list() check each range before it is used.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/protocol.h>

struct wire_out {
    size_t used;
    bool overflow;
    _Alignas(8) uint8_t buffer[HEARTH_PACKET_MAX];
};

/* Returns the zeroed fixed struct of `fixed_bytes`. */
void *wire_begin(struct wire_out *w, enum hearth_msg_type type, uint32_t serial, size_t fixed_bytes);
/* Appends bytes; s may be NULL when length is 0. */
struct hearth_wire_str wire_put_bytes(struct wire_out *w, const void *data, size_t length);
struct hearth_wire_str wire_put_str(struct wire_out *w, const char *s);
/* Appends a zeroed array of count entries of `size` bytes, 4-byte aligned; *out points to it (NULL on overflow). */
struct hearth_wire_list wire_put_list(struct wire_out *w, size_t count, size_t size, void **out);
/* Completes the header. Returns the packet's bytes in w->buffer, or -EMSGSIZE. */
long wire_end(struct wire_out *w);

/* A whole ERROR packet; strings that would not fit are shortened. Returns its bytes. */
long wire_error(struct wire_out *w, uint32_t serial, const struct hearth_error *err);

struct wire_in {
    const uint8_t *packet; /* borrowed */
    size_t bytes;
    struct hearth_msg header;
};

/* 0, or -EBADMSG when the header contradicts the packet. */
int wire_open(struct wire_in *in, const void *packet, size_t bytes);
/* Copies the fixed struct: at most size bytes, the rest zeroed. */
void wire_fixed(const struct wire_in *in, void *out, size_t size);
/* A pointer into the packet, not NUL-terminated. 0, or -EBADMSG (out of range, or a NUL inside). */
int wire_get_bytes(const struct wire_in *in, struct hearth_wire_str s, const char **out, size_t *length);
/* Copies into a buffer with a NUL. 0, -EBADMSG, or -ENAMETOOLONG when it does not fit. */
int wire_get_str(const struct wire_in *in, struct hearth_wire_str s, char *buffer, size_t size);
/* The same, cut at the buffer's size rather than refused: for texts that people read. */
int wire_get_text(const struct wire_in *in, struct hearth_wire_str s, char *buffer, size_t size);
/* A pointer to `count` entries of `entry` bytes, 4-byte aligned when the packet is. 0, or -EBADMSG. */
int wire_get_list(const struct wire_in *in, struct hearth_wire_list l, size_t entry, const void **out);
/* A struct of a packet, with its strings, back to a value. 0, or -EBADMSG. */
int wire_take_error(const struct wire_in *in, const struct hearth_msg_error *e, struct hearth_error *err);
/* An ERROR packet back to a value. 0, or -EBADMSG. */
int wire_get_error(const struct wire_in *in, struct hearth_error *err);
