/* cli/attach.c: hearth attach REF: maps an artifact, prints what it got, and holds it.
 *
 * For trying things out and for keeping a lease from a shell. The hold ends with SIGINT, SIGTERM or SIGHUP, or when
 * stdin ends. If the daemon dies meanwhile the mapping stays good; that is said once.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/text.h"

/* Maps every file. *mapped is the sum of their bytes. */
static int map_files(struct cli *c, struct hearth_artifact *a, uint64_t *mapped, struct hearth_error *err) {
    *mapped = 0;
    for (size_t i = 0; i < hearth_file_count(a); i++) {
        struct hearth_file file;
        const void *data;
        int r = hearth_file_at(a, i, &file, err);
        if (r == 0)
            r = hearth_file_map(a, i, c->deadline, &data, err);
        if (r != 0)
            return r;
        *mapped += file.bytes;
    }
    return 0;
}

static void print_json(struct hearth_artifact *a, uint64_t mapped) {
    const struct hearth_index_header *index = hearth_index(a);
    struct json j;
    document_begin(&j);
    document_id(&j, index->id);
    json_path(&j, "ref", hearth_index_string(a, index->ref), index->ref.length);
    document_text(&j, "verified", hearth_verified_name((enum hearth_verified)index->verified));
    document_number(&j, "bytes", index->bytes);
    document_number(&j, "mapped_bytes", mapped);
    document_number(&j, "tensors", hearth_tensor_count(a));
    json_key(&j, "files");
    json_array_begin(&j);
    for (size_t i = 0; i < hearth_file_count(a); i++) {
        struct hearth_file file;
        if (hearth_file_at(a, i, &file, NULL) != 0)
            continue;
        json_object_begin(&j);
        json_path(&j, "path", file.path, strlen(file.path));
        document_text(&j, "role", hearth_role_name(file.role));
        document_number(&j, "bytes", file.bytes);
        document_text(&j, "verified", hearth_verified_name(file.verified));
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void print_table(struct hearth_artifact *a, uint64_t mapped) {
    const struct hearth_index_header *index = hearth_index(a);
    char id[ID_TEXT_BYTES], size[16];
    _cleanup_table_ struct table *t = table_new("ll");
    table_cell(t, "id");
    table_cell(t, "%s", format_id(index->id, id));
    table_cell(t, "artifact");
    table_cell_n(t, hearth_index_string(a, index->ref), index->ref.length);
    table_cell(t, "verified");
    table_cell(t, "%s", hearth_verified_name((enum hearth_verified)index->verified));
    table_cell(t, "mapped");
    table_cell(t, "%s in %zu file%s, %zu tensor%s", format_size(mapped, size, sizeof(size)), hearth_file_count(a),
               hearth_file_count(a) == 1 ? "" : "s", hearth_tensor_count(a), hearth_tensor_count(a) == 1 ? "" : "s");
    table_print(t, 0, stdout);

    _cleanup_table_ struct table *files = table_new("lrl");
    for (size_t i = 0; i < hearth_file_count(a); i++) {
        struct hearth_file file;
        if (hearth_file_at(a, i, &file, NULL) != 0)
            continue;
        table_cell(files, "%s", hearth_role_name(file.role));
        table_size(files, file.bytes);
        table_cell(files, "%s", file.path);
    }
    table_print(files, 2, stdout);
}

/* Reads what is there. False at the end of input; true also where a background job may not read its terminal. */
static bool input_goes_on(struct pollfd *input) {
    char buffer[512];
    ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n < 0 && errno == EIO) { /* not the foreground job */
        input->fd = -1;
        return true;
    }
    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static int hold(struct cli *c, struct hearth *h, int signals, struct hearth_error *err) {
    signal(SIGTTIN, SIG_IGN); /* a background job that reads its terminal gets EIO instead of being stopped */
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                           {.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = hearth_fd(h), .events = POLLIN}};
    for (;;) {
        if (poll(fds, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            return error_errno(err, errno, "cannot wait for the end of input");
        }
        if (fds[0].revents || (fds[1].revents && !input_goes_on(&fds[1])))
            return 0;
        if (fds[2].revents && hearth_dispatch(h, NULL) != 0) {
            note(c, "the daemon has gone; what is mapped stays mapped");
            fds[2].fd = -1;
        }
    }
}

static int attach(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    _cleanup_(cleanup_artifact) struct hearth_artifact *a = NULL;
    uint64_t mapped;
    raise_fd_limit();
    int r = cli_open(c, c->options.operands[0], false, &h, &a, err);
    if (r == 0)
        r = map_files(c, a, &mapped, err);
    if (r != 0)
        return r;
    /* Before the output: who reads it may take it as the word that a signal ends the hold. */
    _cleanup_close_ int signals = catch_interrupts(NULL, err);
    if (signals < 0)
        return (int)err->code;
    if (c->options.json)
        print_json(a, mapped);
    else
        print_table(a, mapped);
    if (fflush(stdout) != 0)
        return 0; /* main() says so */
    c->output_taken = true;
    return hold(c, h, signals, err);
}

const struct verb verb_attach = {
    .name = "attach",
    .operands = "REF",
    .summary = "Attach an artifact, print what was mapped, and hold it",
    .about = "Holds it until a signal or the end of input (Ctrl-D). Loads it first if need be.",
    .examples = "  hearth attach ./all-minilm\n"
                "  hearth attach --json /models/llama < /dev/null\n",
    .options = OPTIONS_LOAD,
    .operands_min = 1,
    .operands_max = 1,
    .run = attach,
};
