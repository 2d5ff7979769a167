/* artifact/format/json_reader.h: a strict, streaming reader of JSON (RFC 8259).
 *
 * It pulls its input in pieces through a callback and hands out one token at a time, so a header of 100 MB needs a
 * buffer of 256 KiB. Strings come decoded, in place in that buffer, which grows only for a token that is longer.
 *
 * Strict: UTF-8 is validated, surrogates must pair, control characters must be escaped, numbers follow the grammar,
 * nesting is bounded, nothing but white space follows the value. Whole numbers that fit uint64_t come as
 * JSON_TOKEN_U64; all others are checked and skipped as JSON_TOKEN_NUMBER, since nothing here needs them. Duplicate
 * keys are the caller's affair.
 *
 * Thread rule: one thread at a time. Errors: json_read() returns JSON_TOKEN_FAULT from then on; `fault` says what kind.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <hearth/error.h>

#define JSON_READ_DEPTH_MAX 128

enum json_token {
    JSON_TOKEN_FAULT,
    JSON_TOKEN_END, /* the value is over, and so is the input */
    JSON_TOKEN_OBJECT,
    JSON_TOKEN_OBJECT_END,
    JSON_TOKEN_ARRAY,
    JSON_TOKEN_ARRAY_END,
    JSON_TOKEN_KEY,
    JSON_TOKEN_STRING,
    JSON_TOKEN_U64,
    JSON_TOKEN_NUMBER,
    JSON_TOKEN_TRUE,
    JSON_TOKEN_FALSE,
    JSON_TOKEN_NULL,
};

enum json_fault {
    JSON_FAULT_NONE,
    JSON_FAULT_UTF8,   /* the text is not UTF-8 */
    JSON_FAULT_SYNTAX, /* it is not JSON, or too deep */
    JSON_FAULT_INPUT,  /* read() failed, or memory ran out: `error` says how */
};

struct json_reader {
    /* Reads exactly `bytes` at `offset`; 0, or a hearth_code with `err` set. */
    int (*read)(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err);
    void *user;
    struct hearth_error *error; /* for JSON_FAULT_INPUT; may be NULL */

    /* The last token: where it starts, in bytes from offset 0 of the input, and its value. Strings are valid until the
     * next json_read() and are not NUL-terminated. */
    uint64_t at;
    const char *text;
    size_t length;
    uint64_t number;

    enum json_fault fault;
    uint64_t fault_at;
    const char *fault_text; /* static */

    /* private */
    uint64_t next, end; /* what of the input is not in the buffer yet */
    uint8_t *buffer;
    size_t capacity, mark, cursor, filled; /* mark: the start of the token under way */
    unsigned depth;
    uint8_t expect;
    uint64_t in_object[JSON_READ_DEPTH_MAX / 64];
};

/* Reads [start, end) of the input. */
void json_reader_init(struct json_reader *r, uint64_t start, uint64_t end,
                      int (*read)(void *user, uint64_t offset, void *buffer, size_t bytes, struct hearth_error *err),
                      void *user, struct hearth_error *error);
/* Frees the buffer. May run twice. */
void json_reader_deinit(struct json_reader *r);

enum json_token json_read(struct json_reader *r);
/* Passes over the rest of the value that `first` began. False on a fault. */
bool json_skip(struct json_reader *r, enum json_token first);
/* True when the last string or key is exactly this literal. */
static inline bool json_text_is(const struct json_reader *r, const char *literal) {
    return r->length == strlen(literal) && memcmp(r->text, literal, r->length) == 0;
}
