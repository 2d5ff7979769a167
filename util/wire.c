/* util/wire.c: see wire.h. */
#include "util/wire.h"

#include <errno.h>
#include <string.h>

#include "util/error.h"

#define HEADER sizeof(struct hearth_msg)

static void *reserve(struct wire_out *w, size_t bytes, size_t align) {
    size_t start = (w->used + align - 1) / align * align;
    if (w->overflow || bytes > sizeof(w->buffer) || start > sizeof(w->buffer) - bytes) {
        w->overflow = true;
        return NULL;
    }
    memset(w->buffer + w->used, 0, start - w->used);
    w->used = start + bytes;
    return w->buffer + start;
}

void *wire_begin(struct wire_out *w, enum hearth_msg_type type, uint32_t serial, size_t fixed_bytes) {
    w->used = HEADER + fixed_bytes; /* every fixed struct is far smaller than a packet */
    w->overflow = false;
    memset(w->buffer, 0, w->used);
    struct hearth_msg header = {.type = (uint16_t)type, .fixed_bytes = (uint16_t)fixed_bytes, .serial = serial};
    memcpy(w->buffer, &header, HEADER);
    return w->buffer + HEADER;
}

struct hearth_wire_str wire_put_bytes(struct wire_out *w, const void *data, size_t length) {
    struct hearth_wire_str s = {0};
    void *p = length > 0 ? reserve(w, length, 1) : NULL;
    if (p) {
        memcpy(p, data, length);
        s = (struct hearth_wire_str){(uint32_t)((uint8_t *)p - w->buffer), (uint32_t)length};
    }
    return s;
}

struct hearth_wire_str wire_put_str(struct wire_out *w, const char *s) {
    return wire_put_bytes(w, s, s ? strlen(s) : 0);
}

struct hearth_wire_list wire_put_list(struct wire_out *w, size_t count, size_t size, void **out) {
    struct hearth_wire_list l = {0};
    *out = NULL;
    if (count == 0)
        return l;
    if (count > sizeof(w->buffer) / size) {
        w->overflow = true;
        return l;
    }
    void *p = reserve(w, count * size, 4);
    if (p) {
        memset(p, 0, count * size);
        *out = p;
        l = (struct hearth_wire_list){(uint32_t)((uint8_t *)p - w->buffer), (uint32_t)count};
    }
    return l;
}

long wire_end(struct wire_out *w) {
    if (w->overflow)
        return -EMSGSIZE;
    uint32_t bytes = (uint32_t)w->used;
    memcpy(w->buffer, &bytes, sizeof(bytes)); /* hearth_msg.bytes comes first */
    return (long)w->used;
}

long wire_error(struct wire_out *w, uint32_t serial, const struct hearth_error *err) {
    struct hearth_msg_error *e = wire_begin(w, HEARTH_MSG_ERROR, serial, sizeof(*e));
    e->code = (uint32_t)err->code;
    e->sys_errno = err->sys_errno;
    e->offset = err->offset;
    e->message = wire_put_str(w, err->message);
    e->file = wire_put_str(w, err->file);
    e->expected = wire_put_str(w, err->expected);
    e->found = wire_put_str(w, err->found);
    e->hint = wire_put_str(w, err->hint);
    return wire_end(w); /* a hearth_error always fits */
}

int wire_open(struct wire_in *in, const void *packet, size_t bytes) {
    if (bytes < HEADER)
        return -EBADMSG;
    in->packet = packet;
    in->bytes = bytes;
    memcpy(&in->header, packet, HEADER);
    if (in->header.bytes != bytes || in->header.fixed_bytes > bytes - HEADER)
        return -EBADMSG;
    return 0;
}

void wire_fixed(const struct wire_in *in, void *out, size_t size) {
    size_t known = in->header.fixed_bytes < size ? in->header.fixed_bytes : size;
    memcpy(out, in->packet + HEADER, known);
    memset((uint8_t *)out + known, 0, size - known);
}

int wire_get_bytes(const struct wire_in *in, struct hearth_wire_str s, const char **out, size_t *length) {
    *out = "";
    *length = 0;
    if (s.length == 0)
        return 0;
    if (s.offset > in->bytes || s.length > in->bytes - s.offset)
        return -EBADMSG;
    if (memchr(in->packet + s.offset, '\0', s.length))
        return -EBADMSG;
    *out = (const char *)in->packet + s.offset;
    *length = s.length;
    return 0;
}

static int copy_str(const struct wire_in *in, struct hearth_wire_str s, char *buffer, size_t size, bool cut) {
    const char *p;
    size_t length;
    buffer[0] = '\0';
    int r = wire_get_bytes(in, s, &p, &length);
    if (r < 0)
        return r;
    if (length >= size) {
        if (!cut)
            return -ENAMETOOLONG;
        length = size - 1;
    }
    memcpy(buffer, p, length);
    buffer[length] = '\0';
    return 0;
}

int wire_get_str(const struct wire_in *in, struct hearth_wire_str s, char *buffer, size_t size) {
    return copy_str(in, s, buffer, size, false);
}

int wire_get_text(const struct wire_in *in, struct hearth_wire_str s, char *buffer, size_t size) {
    return copy_str(in, s, buffer, size, true);
}

int wire_get_list(const struct wire_in *in, struct hearth_wire_list l, size_t entry, const void **out) {
    *out = NULL;
    if (l.count == 0)
        return 0;
    if (l.offset % 4 != 0 || l.offset > in->bytes || l.count > (in->bytes - l.offset) / entry)
        return -EBADMSG;
    *out = in->packet + l.offset;
    return 0;
}

int wire_take_error(const struct wire_in *in, const struct hearth_msg_error *e, struct hearth_error *err) {
    error_clear(err);
    /* A code of a later release is kept; one that could not be returned as a positive int is none. */
    err->code = e->code > INT32_MAX ? HEARTH_E_PROTOCOL : (enum hearth_code)e->code;
    err->sys_errno = e->sys_errno;
    err->offset = e->offset;
    int r = 0;
    r = r ? r : wire_get_text(in, e->message, err->message, sizeof(err->message));
    r = r ? r : wire_get_text(in, e->file, err->file, sizeof(err->file));
    r = r ? r : wire_get_text(in, e->expected, err->expected, sizeof(err->expected));
    r = r ? r : wire_get_text(in, e->found, err->found, sizeof(err->found));
    r = r ? r : wire_get_text(in, e->hint, err->hint, sizeof(err->hint));
    return r;
}

int wire_get_error(const struct wire_in *in, struct hearth_error *err) {
    struct hearth_msg_error e;
    wire_fixed(in, &e, sizeof(e));
    e.code = e.code ? e.code : HEARTH_E_PROTOCOL; /* an ERROR is one */
    return wire_take_error(in, &e, err);
}
