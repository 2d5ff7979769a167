/* artifact/format/json_reader.c: see json_reader.h.
 *
 * The buffer always holds the token under way whole: fill() moves it to the front and reads on behind it. So every
 * scanner may treat its token as contiguous, and decoding can happen in place (an escape is never shorter than the
 * UTF-8 it stands for).
 */
#include "artifact/format/json_reader.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/json.h"

#define CHUNK ((size_t)256 << 10)

enum expect { EXPECT_VALUE, EXPECT_VALUE_OR_END, EXPECT_KEY, EXPECT_KEY_OR_END, EXPECT_COLON, EXPECT_MORE };

void json_reader_init(struct json_reader *r, uint64_t start, uint64_t end,
                      int (*read)(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err),
                      void *user, struct hearth_error *error) {
    *r = (struct json_reader){.read = read, .user = user, .error = error, .next = start, .end = end};
}

void json_reader_deinit(struct json_reader *r) {
    free(r->buffer);
    r->buffer = NULL;
}

static uint64_t offset_of(const struct json_reader *r, size_t index) {
    return r->next - (r->filled - index);
}

/* The first fault stands. Returns false, so that scanners can end with it. */
static bool fail(struct json_reader *r, enum json_fault kind, size_t index, const char *text) {
    if (r->fault == JSON_FAULT_NONE) {
        r->fault = kind;
        r->fault_at = offset_of(r, index);
        r->fault_text = text;
    }
    return false;
}

static bool syntax(struct json_reader *r, size_t index, const char *text) {
    return fail(r, JSON_FAULT_SYNTAX, index, text);
}

/* Makes at least one more byte available at `filled`. False at the end of the input, or on a fault. */
static bool fill(struct json_reader *r) {
    if (r->next == r->end || r->fault != JSON_FAULT_NONE)
        return false;
    if (r->mark > 0) {
        memmove(r->buffer, r->buffer + r->mark, r->filled - r->mark);
        r->filled -= r->mark;
        r->cursor -= r->mark;
        r->mark = 0;
    }
    if (r->filled == r->capacity) {
        size_t capacity = r->capacity == 0 ? CHUNK : r->capacity * 2;
        uint8_t *buffer = realloc(r->buffer, capacity);
        if (!buffer) {
            error_set(r->error, HEARTH_E_NO_MEMORY, "no memory for a JSON token of more than %zu bytes", r->capacity);
            return fail(r, JSON_FAULT_INPUT, r->cursor, "no memory");
        }
        r->buffer = buffer;
        r->capacity = capacity;
    }
    size_t want = r->capacity - r->filled;
    if (want > r->end - r->next)
        want = (size_t)(r->end - r->next);
    if (r->read(r->user, r->next, r->buffer + r->filled, want, r->error) != 0)
        return fail(r, JSON_FAULT_INPUT, r->filled, "the input cannot be read");
    r->filled += want;
    r->next += want;
    return true;
}

/* The byte under the cursor, or -1 at the end of the input. */
static inline int peek(struct json_reader *r) {
    if (r->cursor == r->filled && !fill(r))
        return -1;
    return r->buffer[r->cursor];
}

static int skip_space(struct json_reader *r) {
    for (;;) {
        r->mark = r->cursor;
        int c = peek(r);
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return c;
        r->cursor++;
    }
}

/* True when all eight bytes are ordinary inside a string: printable ASCII but '"' and '\'. */
static inline bool plain8(const uint8_t *p) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t x, quote, escape;
    memcpy(&x, p, sizeof(x));
    quote = x ^ ones * '"';
    escape = x ^ ones * '\\';
    return ((x | (x - ones * 0x20) | (quote - ones) | (escape - ones)) & tops) == 0;
}

/* A sequence of bytes >= 0x80: it may straddle what has been read. */
static bool scan_utf8(struct json_reader *r) {
    while (r->filled - r->cursor < 4 && fill(r))
        ;
    size_t n = utf8_length(r->buffer + r->cursor, r->filled - r->cursor);
    if (n == 0)
        return fail(r, JSON_FAULT_UTF8, r->cursor, "the text is not UTF-8");
    r->cursor += n;
    return true;
}

static int hex4(const uint8_t *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i], digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20) - 'a' + 10;
        else
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (uint8_t)code;
    } else if (code < 0x800) {
        *out++ = (uint8_t)(0xc0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (uint8_t)(0xe0 | code >> 12);
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | code >> 18);
        *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    }
    return out;
}

/* \uXXXX at *p (behind the 'u'), with its second half if it is a surrogate. False if it is none. */
static bool decode_unicode(const uint8_t **p, const uint8_t *end, uint8_t **out) {
    int high = end - *p < 4 ? -1 : hex4(*p);
    if (high < 0)
        return false;
    *p += 4;
    uint32_t code = (uint32_t)high;
    if (high >= 0xd800 && high <= 0xdfff) {
        int low = high < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        *p += 6;
        code = 0x10000 + ((uint32_t)high - 0xd800) * 0x400 + ((uint32_t)low - 0xdc00);
    }
    *out = put_utf8(*out, code);
    return true;
}

/* Decodes [text, text + length) in place, from its first escape on. */
static bool decode(struct json_reader *r, uint8_t *text, size_t length, size_t first) {
    const uint8_t *p = text + first, *end = text + length;
    uint8_t *out = text + first;
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        const uint8_t *escape = p++;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *simple = memchr(from, *p, sizeof(from) - 1); /* the scan made sure that *p is in the string */
        if (simple) {
            *out++ = (uint8_t)to[simple - from];
            p++;
        } else if (*p++ != 'u' || !decode_unicode(&p, end, &out)) {
            return syntax(r, (size_t)(escape - r->buffer),
                          "an escape that JSON does not have, or half a surrogate pair");
        }
    }
    r->length = (size_t)(out - text);
    return true;
}

/* At the opening quote. */
static bool scan_string(struct json_reader *r) {
    size_t first = SIZE_MAX; /* of the escapes, from the start of the text */
    r->cursor++;
    for (;;) {
        size_t i = r->cursor;
        while (r->filled - i >= 8 && plain8(r->buffer + i))
            i += 8;
        r->cursor = i;
        int c = peek(r);
        if (c == '"')
            break;
        if (c >= 0x80) {
            if (!scan_utf8(r))
                return false;
            continue;
        }
        if (c < 0)
            return syntax(r, r->cursor, "the text ends inside a string");
        if (c < 0x20)
            return syntax(r, r->cursor, "a control character inside a string");
        if (c == '\\') {
            if (first == SIZE_MAX)
                first = r->cursor - r->mark - 1;
            r->cursor++;
            c = peek(r);
            if (c < 0)
                return syntax(r, r->cursor, "the text ends inside a string");
            if (c < 0x20 || c >= 0x80)
                return syntax(r, r->cursor, "an escape that JSON does not have");
        }
        r->cursor++;
    }
    uint8_t *text = r->buffer + r->mark + 1;
    r->text = (const char *)text;
    r->length = r->cursor - r->mark - 1;
    r->cursor++;
    return first == SIZE_MAX || decode(r, text, r->length, first);
}

/* One or more digits; their value saturates to *fits = false. */
static bool scan_digits(struct json_reader *r, uint64_t *value, bool *fits) {
    size_t n = 0;
    for (int c; (c = peek(r)) >= '0' && c <= '9'; r->cursor++, n++)
        *fits = *fits && !__builtin_mul_overflow(*value, UINT64_C(10), value) &&
                !__builtin_add_overflow(*value, (uint64_t)(c - '0'), value);
    return n > 0 || syntax(r, r->cursor, "a digit is missing");
}

static enum json_token scan_number(struct json_reader *r) {
    uint64_t value = 0, unused = 0;
    bool fits = true;
    if (peek(r) == '-') {
        fits = false;
        r->cursor++;
    }
    bool zero = peek(r) == '0';
    size_t start = r->cursor - r->mark;
    if (!scan_digits(r, &value, &fits))
        return JSON_TOKEN_FAULT;
    if (zero && r->cursor - r->mark - start > 1) {
        syntax(r, r->mark, "a number with a leading zero");
        return JSON_TOKEN_FAULT;
    }
    if (peek(r) == '.') {
        fits = false;
        r->cursor++;
        if (!scan_digits(r, &unused, &fits))
            return JSON_TOKEN_FAULT;
    }
    if ((peek(r) | 0x20) == 'e') {
        fits = false;
        r->cursor++;
        int c = peek(r);
        if (c == '+' || c == '-')
            r->cursor++;
        if (!scan_digits(r, &unused, &fits))
            return JSON_TOKEN_FAULT;
    }
    r->number = value;
    return fits ? JSON_TOKEN_U64 : JSON_TOKEN_NUMBER;
}

static enum json_token scan_literal(struct json_reader *r, const char *literal, enum json_token token) {
    for (; *literal; literal++, r->cursor++)
        if (peek(r) != *literal) {
            syntax(r, r->mark, "neither a string, a number, an object, an array, true, false nor null");
            return JSON_TOKEN_FAULT;
        }
    return token;
}

static bool inside_object(const struct json_reader *r) {
    unsigned level = r->depth - 1;
    return r->in_object[level / 64] >> level % 64 & 1;
}

static enum json_token open_level(struct json_reader *r, bool object) {
    if (r->depth == JSON_READ_DEPTH_MAX) {
        syntax(r, r->cursor, "it is nested too deeply");
        return JSON_TOKEN_FAULT;
    }
    unsigned level = r->depth++;
    uint64_t bit = UINT64_C(1) << level % 64;
    r->in_object[level / 64] = object ? r->in_object[level / 64] | bit : r->in_object[level / 64] & ~bit;
    r->cursor++;
    r->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return object ? JSON_TOKEN_OBJECT : JSON_TOKEN_ARRAY;
}

static enum json_token close_level(struct json_reader *r) {
    bool object = inside_object(r);
    r->depth--;
    r->cursor++;
    r->expect = EXPECT_MORE;
    return object ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END;
}

static enum json_token read_value(struct json_reader *r, int c) {
    r->expect = EXPECT_MORE;
    switch (c) {
    case '{':
        return open_level(r, true);
    case '[':
        return open_level(r, false);
    case '"':
        return scan_string(r) ? JSON_TOKEN_STRING : JSON_TOKEN_FAULT;
    case 't':
        return scan_literal(r, "true", JSON_TOKEN_TRUE);
    case 'f':
        return scan_literal(r, "false", JSON_TOKEN_FALSE);
    case 'n':
        return scan_literal(r, "null", JSON_TOKEN_NULL);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return scan_number(r);
        syntax(r, r->cursor, c < 0 ? "the text ends where a value is due" : "a value is due here");
        return JSON_TOKEN_FAULT;
    }
}

/* What may stand between two values. Returns false when `token` has been decided here. */
static bool read_between(struct json_reader *r, int *c, enum json_token *token) {
    *token = JSON_TOKEN_FAULT;
    if (r->expect == EXPECT_COLON) {
        if (*c != ':')
            return syntax(r, r->cursor, "a colon is due here");
        r->cursor++;
        r->expect = EXPECT_VALUE;
    } else if (r->expect == EXPECT_MORE) {
        if (r->depth == 0) {
            if (*c >= 0)
                return syntax(r, r->cursor, "something follows the end of the value");
            *token = r->fault == JSON_FAULT_NONE ? JSON_TOKEN_END : JSON_TOKEN_FAULT;
            return false;
        }
        if (*c == (inside_object(r) ? '}' : ']')) {
            *token = close_level(r);
            return false;
        }
        if (*c != ',')
            return syntax(r, r->cursor,
                          *c < 0 ? "the text ends too early" : "a comma or a closing bracket is due here");
        r->cursor++;
        r->expect = inside_object(r) ? EXPECT_KEY : EXPECT_VALUE;
    } else {
        return true;
    }
    *c = skip_space(r);
    return true;
}

enum json_token json_read(struct json_reader *r) {
    enum json_token token;
    if (r->fault != JSON_FAULT_NONE)
        return JSON_TOKEN_FAULT;
    int c = skip_space(r);
    if (!read_between(r, &c, &token))
        return token;
    r->at = offset_of(r, r->cursor);
    if (r->expect == EXPECT_KEY_OR_END || r->expect == EXPECT_KEY) {
        if (c == '}' && r->expect == EXPECT_KEY_OR_END)
            return close_level(r);
        if (c != '"') {
            syntax(r, r->cursor, "a key is due here");
            return JSON_TOKEN_FAULT;
        }
        r->expect = EXPECT_COLON;
        return scan_string(r) ? JSON_TOKEN_KEY : JSON_TOKEN_FAULT;
    }
    if (c == ']' && r->expect == EXPECT_VALUE_OR_END)
        return close_level(r);
    token = read_value(r, c);
    return r->fault == JSON_FAULT_NONE ? token : JSON_TOKEN_FAULT;
}

bool json_skip(struct json_reader *r, enum json_token first) {
    if (first != JSON_TOKEN_OBJECT && first != JSON_TOKEN_ARRAY)
        return first != JSON_TOKEN_FAULT;
    for (unsigned outside = r->depth - 1; r->depth > outside;)
        if (json_read(r) == JSON_TOKEN_FAULT)
            return false;
    return true;
}
