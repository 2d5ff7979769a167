/* cli/cat.c: hearth cat REF [FILE]: a resident file's bytes to stdout. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/cleanup.h"
#include "util/error.h"

#define PIECE (1u << 20)

/* The number of the file that is meant; without a name, that of the only one. */
static int choose(const struct cli *c, const struct hearth_artifact *a, size_t *file, struct hearth_error *err) {
    *file = 0;
    if (c->options.n_operands == 2)
        return hearth_file_find(a, c->options.operands[1], file, err);
    size_t n = hearth_file_count(a);
    if (n == 1)
        return 0;
    error_set(err, HEARTH_E_INVALID, "the artifact has %zu files: say which", n);
    error_hint(err, "hearth cat REF FILE; `hearth inspect` lists them");
    return HEARTH_E_INVALID;
}

static int write_all(struct cli *c, const char *data, uint64_t bytes, struct hearth_error *err) {
    while (bytes > 0) {
        ssize_t n = write(STDOUT_FILENO, data, bytes < PIECE ? bytes : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE) { /* its reader has seen enough: no news for anybody */
            c->status = EXIT_FAILED;
            return 0;
        }
        if (n < 0)
            return error_errno(err, errno, "cannot write the output");
        data += n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

static int cat(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    size_t number;
    struct hearth_file file;
    const void *data;
    int r = cli_open(c, c->options.operands[0], true, &h, &a, err);
    if (r == 0)
        r = choose(c, a, &number, err);
    if (r == 0)
        r = hearth_file_at(a, number, &file, err);
    if (r == 0)
        r = hearth_file_map(a, number, c->deadline, &data, err);
    if (r != 0)
        return r;
    c->output_taken = true;
    return write_all(c, data, file.bytes, err);
}

const struct verb verb_cat = {
    .name = "cat",
    .operands = "REF [FILE]",
    .summary = "Write a file of an artifact to stdout, from memory",
    .about = "FILE is the path inside the artifact; one that consists of a single file needs none. Loads the artifact\n"
             "first if need be. With --json only an error is a document.",
    .examples = "  hearth cat ./all-minilm config.json | jq .hidden_size\n"
                "  hearth cat /models/tiny.safetensors | sha256sum\n",
    .options = OPTIONS_LOAD,
    .operands_min = 1,
    .operands_max = 2,
    .run = cat,
};
