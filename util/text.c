/* util/text.c: see text.h. */
#include "util/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/json.h"

/* A non-negative decimal number with an optional fraction; *end points behind it. */
static bool number(const char *text, double *v, const char **end) {
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *stop;
    *v = strtod(text, &stop);
    *end = stop;
    return strspn(text, "0123456789.") >= (size_t)(stop - text); /* no exponent, no hex */
}

static int scaled(double v, double unit, uint64_t *out) {
    double product = v * unit;
    if (!(product < 18446744073709549568.0)) /* the largest double below 2^64 */
        return -ERANGE;
    *out = (uint64_t)product;
    return 0;
}

int parse_size(const char *text, uint64_t *bytes) {
    double v;
    const char *unit;
    if (!number(text, &v, &unit))
        return -EINVAL;
    while (*unit == ' ')
        unit++;
    static const char letters[] = "KMGTP";
    const char *letter = *unit ? strchr(letters, toupper((unsigned char)*unit)) : NULL;
    if (!letter)
        return unit[0] == '\0' || strcasecmp(unit, "b") == 0 ? scaled(v, 1, bytes) : -EINVAL;
    const char *rest = unit + 1;
    if (*rest && strcasecmp(rest, "b") != 0 && strcasecmp(rest, "ib") != 0)
        return -EINVAL;
    return scaled(v, ldexp(1, 10 * (int)(letter - letters + 1)), bytes);
}

int parse_duration(const char *text, uint64_t *ns) {
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"", 1e9},   {"s", 1e9},    {"ms", 1e6},   {"us", 1e3},
                 {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
    double v;
    const char *unit;
    if (!number(text, &v, &unit))
        return -EINVAL;
    while (*unit == ' ')
        unit++;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(unit, units[i].unit) == 0)
            return scaled(v, units[i].ns, ns);
    return -EINVAL;
}

char *format_size(uint64_t bytes, char *buffer, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1023.95 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
        v /= 1024;
    snprintf(buffer, size, i == 0 ? "%.0f %s" : "%.1f %s", v, units[i]);
    return buffer;
}

char *format_duration(uint64_t ns, char *buffer, size_t size) {
    double s = (double)ns / 1e9;
    if (s >= 0.9995)
        snprintf(buffer, size, s >= 99.95 ? "%.0f s" : "%.2f s", s);
    else if (s >= 0.0009995)
        snprintf(buffer, size, s >= 0.00995 ? "%.0f ms" : "%.1f ms", s * 1e3);
    else
        snprintf(buffer, size, "%.0f us", s * 1e6);
    return buffer;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool parse_hex(const char *text, size_t length, uint8_t *out, size_t n) {
    if (length != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

char *format_hex(const uint8_t *bytes, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
    return out;
}

bool parse_id(const char *text, uint64_t *id) {
    uint8_t bytes[6];
    if (!parse_hex(text, strlen(text), bytes, sizeof(bytes)))
        return false;
    *id = 0;
    for (size_t i = 0; i < sizeof(bytes); i++)
        *id = *id << 8 | bytes[i];
    return *id != 0;
}

char *format_id(uint64_t id, char out[ID_TEXT_BYTES]) {
    snprintf(out, ID_TEXT_BYTES, "%012" PRIx64, id & UINT64_C(0xffffffffffff));
    return out;
}

char *format_printable(const char *text, size_t length, char *buffer, size_t size) {
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 0;
    while (length > 0) {
        size_t n = utf8_length(p, length);
        char piece[8];
        size_t piece_length;
        unsigned control = utf8_control(p, n);
        if (control > 0xff) {
            piece_length = (size_t)snprintf(piece, sizeof(piece), "\\u%04x", control & 0xffff);
        } else if (n == 0 || control || *p == '\0') {
            n = n == 0 ? 1 : n;
            piece_length = (size_t)snprintf(piece, sizeof(piece), "\\x%02x", p[n - 1]);
        } else {
            memcpy(piece, p, n);
            piece_length = n;
        }
        if (used + piece_length + 4 > size) {
            if (used + 4 <= size)
                memcpy(buffer + used, "...", 3), used += 3;
            break;
        }
        memcpy(buffer + used, piece, piece_length);
        used += piece_length;
        p += n;
        length -= n;
    }
    buffer[used] = '\0';
    return buffer;
}
