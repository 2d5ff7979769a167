/* artifact/format/format.h: file formats, one a file, behind one small table.
 *
 * A format recognises a file, reads it through the input's range reader, checks every rule it has, and writes what it
 * finds into the index builder. Format code does no I/O of its own and starts no threads, so the helper and the fuzzers
 * link the same code. Everything in a file is untrusted.
 *
 * To add a format: write one file here, with its rules in the order they are checked, and list it in table.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>
#include <hearth/index.h>

#include "artifact/format/index_build.h"

struct format_file {
    const char *path; /* inside the artifact */
    enum hearth_role role;
    uint64_t bytes;
};

struct format_input {
    const struct format_file *files; /* sorted by path */
    uint32_t n_files;
    /* Reads exactly bytes [offset, offset + length) of a file, waiting for them to land where they are still on their
     * way. The range must lie inside the file. 0, or a hearth_code with err set. */
    int (*read)(void *user, uint32_t file, uint64_t offset, void *buffer, size_t length, struct hearth_error *err);
    void *user;
};

#define FORMAT_HEAD_BYTES 16u

struct format {
    const char *name; /* as the index has it: "safetensors"; static */
    /* By its name. */
    bool (*claims)(const struct format_file *f);
    /* By its first bytes: asked for weights that no format claims by name. NULL: never. */
    bool (*recognises)(const struct format_file *f, const uint8_t *head, size_t head_bytes);
    /* Reads one file. NULL: it is held whole, and nothing in it is looked at. */
    int (*parse)(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err);
    /* After all files are parsed and the index is sorted: rules that span files. NULL: there are none. */
    int (*check)(const struct format_input *in, uint32_t file, struct index_builder *b, struct hearth_error *err);
};

/* The formats of this program, NULL-terminated; the first that claims a file has it. */
extern const struct format *const formats[];

extern const struct format format_safetensors;
extern const struct format format_safetensors_shards;
extern const struct format format_json;
extern const struct format format_text;

/* Parses, sorts and checks the whole artifact. b has been given the same files in the same order. */
int format_parse(const struct format_input *in, struct index_builder *b, struct hearth_error *err);

/* MALFORMED: "RULE: what is wrong" about an offset in a file. Returns the code. */
int format_refuse(const struct format_input *in, uint32_t file, uint64_t offset, struct hearth_error *err,
                  const char *rule, const char *text, ...) __attribute__((format(printf, 6, 7)));
bool format_ends_with(const char *path, const char *suffix);
