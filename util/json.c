/* util/json.c: see json.h. */
#include "util/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

size_t utf8_length(const unsigned char *s, size_t left) {
    if (left == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    size_t n;
    uint32_t code;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        n = 2;
        code = s[0] & 0x1fu;
    } else if ((s[0] & 0xf0) == 0xe0) {
        n = 3;
        code = s[0] & 0x0fu;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        n = 4;
        code = s[0] & 0x07u;
    } else {
        return 0;
    }
    if (left < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if ((n == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
        (n == 4 && (code < 0x10000 || code > 0x10ffff)))
        return 0;
    return n;
}

bool utf8_valid(const char *s, size_t length) {
    const unsigned char *p = (const unsigned char *)s;
    while (length > 0) {
        size_t n = utf8_length(p, length);
        if (n == 0)
            return false;
        p += n;
        length -= n;
    }
    return true;
}

void json_init(struct json *j, FILE *out, bool pretty) {
    *j = (struct json){.out = out, .pretty = pretty};
}

static void newline(struct json *j) {
    if (!j->pretty)
        return;
    fputc('\n', j->out);
    for (unsigned i = 0; i < j->depth; i++)
        fputs("  ", j->out);
}

/* Before a value or a key: the comma and the line that part it from the one before. */
static void separate(struct json *j) {
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (j->depth == 0)
        return;
    if (j->has_entry[j->depth - 1])
        fputc(',', j->out);
    j->has_entry[j->depth - 1] = true;
    newline(j);
}

static void open_level(struct json *j, char c) {
    separate(j);
    assert(j->depth < JSON_DEPTH_MAX);
    fputc(c, j->out);
    j->has_entry[j->depth++] = false;
}

static void close_level(struct json *j, char c) {
    assert(j->depth > 0);
    bool any = j->has_entry[--j->depth];
    if (any)
        newline(j);
    fputc(c, j->out);
    if (j->depth == 0)
        fputc('\n', j->out);
}

void json_object_begin(struct json *j) {
    open_level(j, '{');
}
void json_object_end(struct json *j) {
    close_level(j, '}');
}
void json_array_begin(struct json *j) {
    open_level(j, '[');
}
void json_array_end(struct json *j) {
    close_level(j, ']');
}

unsigned utf8_control(const unsigned char *s, size_t n) {
    unsigned c = n == 1 ? s[0] : 0;
    if (n == 2)
        c = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    else if (n == 3)
        c = (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    bool turns =
        c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || turns ? c : 0;
}

static void escaped(FILE *out, const char *s, size_t length) {
    const unsigned char *p = (const unsigned char *)s;
    fputc('"', out);
    while (length > 0) {
        size_t n = utf8_length(p, length);
        if (n == 0) {
            fputs("\\ufffd", out);
            n = 1;
        } else if (*p == '"' || *p == '\\') {
            fprintf(out, "\\%c", *p);
        } else if (*p == '\n') {
            fputs("\\n", out);
        } else if (*p == '\t') {
            fputs("\\t", out);
        } else if (*p == '\0' || utf8_control(p, n)) {
            fprintf(out, "\\u%04x", utf8_control(p, n));
        } else {
            fwrite(p, 1, n, out);
        }
        p += n;
        length -= n;
    }
    fputc('"', out);
}

void json_key(struct json *j, const char *key) {
    separate(j);
    fprintf(j->out, "\"%s\":%s", key, j->pretty ? " " : "");
    j->after_key = true;
}

void json_name_n(struct json *j, const char *name, size_t length) {
    separate(j);
    escaped(j->out, name, length);
    fputs(j->pretty ? ": " : ":", j->out);
    j->after_key = true;
}

void json_str_n(struct json *j, const char *s, size_t length) {
    separate(j);
    escaped(j->out, s, length);
}
void json_str(struct json *j, const char *s) {
    json_str_n(j, s, strlen(s));
}
void json_u64(struct json *j, uint64_t v) {
    separate(j);
    fprintf(j->out, "%" PRIu64, v);
}
void json_bool(struct json *j, bool v) {
    separate(j);
    fputs(v ? "true" : "false", j->out);
}
void json_nil(struct json *j) {
    separate(j);
    fputs("null", j->out);
}
void json_double(struct json *j, double v) {
    if (!isfinite(v)) {
        json_nil(j);
        return;
    }
    separate(j);
    fprintf(j->out, "%.9g", v);
}

static void base64(FILE *out, const unsigned char *p, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        fputc(digits[v >> 18], out);
        fputc(digits[v >> 12 & 63], out);
        fputc(left > 1 ? digits[v >> 6 & 63] : '=', out);
        fputc(left > 2 ? digits[v & 63] : '=', out);
    }
}

void json_path(struct json *j, const char *key, const char *bytes, size_t length) {
    json_key(j, key);
    json_str_n(j, bytes, length);
    if (utf8_valid(bytes, length))
        return;
    separate(j);
    fprintf(j->out, "\"%s_b64\":%s\"", key, j->pretty ? " " : "");
    base64(j->out, (const unsigned char *)bytes, length);
    fputc('"', j->out);
}

static void fact(struct json *j, const char *key, const char *s) {
    json_key(j, key);
    if (s[0])
        json_str(j, s);
    else
        json_nil(j);
}

void json_error(struct json *j, const struct hearth_error *err) {
    json_key(j, "error");
    json_object_begin(j);
    json_key(j, "code");
    json_str(j, hearth_code_name(err->code));
    json_key(j, "message");
    json_str(j, err->message);
    if (err->file[0]) {
        json_path(j, "file", err->file, strlen(err->file));
    } else {
        json_key(j, "file");
        json_nil(j);
    }
    json_key(j, "offset");
    if (err->offset == HEARTH_NO_OFFSET)
        json_nil(j);
    else
        json_u64(j, err->offset);
    fact(j, "expected", err->expected);
    fact(j, "found", err->found);
    fact(j, "hint", err->hint);
    json_object_end(j);
}
