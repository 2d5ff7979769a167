/* util/text.h: sizes, digests and ids as people write them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "512", "64K", "4MiB", "1.5G", "2TiB": binary units either way. 0, or -EINVAL, -ERANGE. */
int parse_size(const char *text, uint64_t *bytes);
/* "30", "30s", "500ms", "30m", "1h": seconds without a unit. 0, or -EINVAL, -ERANGE. */
int parse_duration(const char *text, uint64_t *ns);
/* "4.0 GiB", "812 B". Returns buffer. 16 bytes suffice. */
char *format_size(uint64_t bytes, char *buffer, size_t size);
/* "1.24 s", "830 ms", "14 us". Returns buffer. 16 bytes suffice. */
char *format_duration(uint64_t ns, char *buffer, size_t size);

/* Exactly 2 * n hex digits of either case. */
bool parse_hex(const char *text, size_t length, uint8_t *out, size_t n);
/* out: 2 * n + 1 bytes, lower case. Returns out. */
char *format_hex(const uint8_t *bytes, size_t n, char *out);

/* An artifact's id: 12 lower-case hex digits, below 2^48 and not 0. */
#define ID_TEXT_BYTES 13
bool parse_id(const char *text, uint64_t *id);
char *format_id(uint64_t id, char out[ID_TEXT_BYTES]);

/* Copies text with control characters and bytes that are not UTF-8 as \xNN, and with characters that turn the direction
 * of writing as \uNNNN, cut with "..." if need be: safe to show on a terminal. At most four times as long, and "..."
 * needs room for 4 more. Returns buffer. */
char *format_printable(const char *text, size_t length, char *buffer, size_t size);
