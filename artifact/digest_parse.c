/* Reading the text of SHA256SUMS and NAME.sha256. The text is untrusted and of bounded size; every line counts, since a
 * list that is only partly understood would leave files unverified without a word. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "artifact/digests.h"
#include "util/array.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/path.h"
#include "util/text.h"

#define HEX_DIGITS 64

void digest_list_deinit(struct digest_list *l) {
    for (size_t i = 0; i < l->count; i++)
        free(l->lines[i].path);
    free(steal_ptr(&l->lines));
    l->count = l->room = 0;
}

/* Undoes what sha256sum does to names with newlines: in place. */
static bool unescape(char *name) {
    char *to = name;
    for (const char *from = name; *from; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        switch (*++from) {
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case '\\':
            *to++ = '\\';
            break;
        default:
            return false;
        }
    }
    *to = '\0';
    return true;
}

/* Splits a line into digest and name (not terminated). */
static bool split(const char *line, size_t length, const char **hex, const char **name, size_t *name_length) {
    static const char tag[] = "SHA256 (", middle[] = ") = ";
    size_t tag_length = strlen(tag), tail = strlen(middle) + HEX_DIGITS;
    if (length > tag_length + tail && memcmp(line, tag, tag_length) == 0) {
        *hex = line + length - HEX_DIGITS;
        *name = line + tag_length;
        *name_length = length - tag_length - tail;
        return memcmp(*name + *name_length, middle, strlen(middle)) == 0;
    }
    *hex = line;
    *name = line + length;
    *name_length = 0;
    if (length == HEX_DIGITS)
        return true;
    if (length < HEX_DIGITS + 3 || line[HEX_DIGITS] != ' ' ||
        (line[HEX_DIGITS + 1] != ' ' && line[HEX_DIGITS + 1] != '*'))
        return false;
    *name = line + HEX_DIGITS + 2;
    *name_length = length - HEX_DIGITS - 2;
    return true;
}

static int parse_line(const char *line, size_t length, struct digest_line *out) {
    bool escaped = length > 0 && *line == '\\';
    const char *hex, *name;
    size_t name_length;
    if (memchr(line, '\0', length) || !split(line + escaped, length - escaped, &hex, &name, &name_length) ||
        !parse_hex(hex, HEX_DIGITS, out->sha256, sizeof(out->sha256)))
        return -EBADMSG;
    _cleanup_free_ char *path = strndup(name, name_length);
    if (!path)
        return -ENOMEM;
    if (escaped && !unescape(path))
        return -EBADMSG;
    path_tidy(path);
    if (name_length > 0 && !*path)
        return -EBADMSG;
    out->path = steal_ptr(&path);
    return 0;
}

int digest_parse(const char *text, size_t length, const char *file, struct digest_list *out, struct hearth_error *err) {
    size_t number = 0;
    for (size_t at = 0, next; at < length; at = next) {
        const char *line = text + at, *newline = memchr(line, '\n', length - at);
        size_t n = newline ? (size_t)(newline - line) : length - at;
        next = at + n + 1;
        number++;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n == 0 || *line == '#')
            continue;
        struct digest_line *grown = grow_array(out->lines, out->count, &out->room, sizeof(*grown));
        if (!grown)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a list of digests");
        out->lines = grown;
        out->lines[out->count] = (struct digest_line){.offset = at};
        int r = parse_line(line, n, &out->lines[out->count]);
        if (r == -ENOMEM)
            return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a list of digests");
        if (r < 0) {
            char shown[128];
            error_set(err, HEARTH_E_MALFORMED, "line %zu of a digest file cannot be read", number);
            error_at(err, file, at);
            error_expected(err, "64 hex digits, two spaces and a file's name, as sha256sum writes");
            error_found(err, "%s", format_printable(line, n, shown, sizeof(shown)));
            error_hint(err, "write it anew with sha256sum, or leave it out with --exclude");
            return HEARTH_E_MALFORMED;
        }
        out->count++;
    }
    return 0;
}
