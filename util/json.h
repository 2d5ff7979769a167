/* util/json.h: writing JSON, nothing more.
 *
 * A writer keeps track of commas and nesting; the caller opens and closes objects and arrays. Output goes to a stdio
 * stream. Strings that are not UTF-8 are written with each bad byte as U+FFFD, and json_path() adds the exact bytes as
 * "NAME_b64" beside. Compact by default; `pretty` puts each value on a line of its own.
 *
 * No name here is also one of jansson's, which some of our programs link.
 *
 * Thread rule: one thread at a time. Errors: those of the stream; ask ferror() or fclose() at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth/error.h>

#define JSON_DEPTH_MAX 32

struct json {
    FILE *out; /* borrowed */
    bool pretty;
    unsigned depth;
    bool has_entry[JSON_DEPTH_MAX];
    bool after_key;
};

void json_init(struct json *j, FILE *out, bool pretty);
void json_object_begin(struct json *j); /* { */
void json_object_end(struct json *j);   /* } */
void json_array_begin(struct json *j);  /* [ */
void json_array_end(struct json *j);    /* ] */
/* A key (a literal of ours: not escaped); the next value belongs to it. */
void json_key(struct json *j, const char *key);
/* The same for a key that comes from outside: escaped as a string is. */
void json_name_n(struct json *j, const char *name, size_t length);
void json_str(struct json *j, const char *s);
void json_str_n(struct json *j, const char *s, size_t length);
void json_u64(struct json *j, uint64_t v);
void json_bool(struct json *j, bool v);
void json_nil(struct json *j);
void json_double(struct json *j, double v); /* shortest form of at most 9 significant digits; null if not finite */

/* "key": "escaped", and "key_b64": "..." when the bytes are not UTF-8. */
void json_path(struct json *j, const char *key, const char *bytes, size_t length);
/* "error": {code, message, file, offset, expected, found, hint}; facts that are absent are null. */
void json_error(struct json *j, const struct hearth_error *err);
/* The length of the UTF-8 sequence at s (1 to 4), or 0 when it is not one. */
size_t utf8_length(const unsigned char *s, size_t left);
/* The character of n bytes, if it does something to a terminal: C0, DEL, C1, or one that changes the order in which its
 * neighbours are shown, with which a name can look like another one. Else 0; so it is for NUL, too. */
unsigned utf8_control(const unsigned char *s, size_t n);
bool utf8_valid(const char *s, size_t length);
