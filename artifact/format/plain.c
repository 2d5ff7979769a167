/* artifact/format/plain.c: files that are held whole and not looked into; told by their names. */
#include <string.h>

#include "artifact/format/format.h"

static bool claims_json(const struct format_file *f) {
    return format_ends_with(f->path, ".json");
}

const struct format format_json = {.name = "json", .claims = claims_json};

static bool claims_text(const struct format_file *f) {
    static const char *const suffixes[] = {".txt", ".md",  ".yaml",  ".yml", ".toml", ".ini",  ".cfg",
                                           ".csv", ".tsv", ".jinja", ".py",  ".xml",  ".html", ".rst"};
    static const char *const names[] = {"README", "LICENSE", "NOTICE", "SHA256SUMS"};
    const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
        if (format_ends_with(f->path, suffixes[i]))
            return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(base, names[i]) == 0)
            return true;
    return false;
}

const struct format format_text = {.name = "text", .claims = claims_text};
