/* cli/report.c: how `hearth` says what failed: in a few lines for people, as one document for programs. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/error.h"
#include "util/text.h"

void document_begin(struct json *j) {
    json_init(j, stdout, isatty(STDOUT_FILENO) == 1);
    json_object_begin(j);
    document_number(j, "schema", 1);
}

void document_text(struct json *j, const char *key, const char *value) {
    json_key(j, key);
    json_str(j, value);
}

void document_number(struct json *j, const char *key, uint64_t value) {
    json_key(j, key);
    json_u64(j, value);
}

void document_id(struct json *j, uint64_t id) {
    char text[ID_TEXT_BYTES];
    document_text(j, "id", format_id(id, text));
}

static void fact(const char *name, const char *text) {
    char printable[8192];
    if (text[0])
        fprintf(stderr, "  %s: %s\n", name, format_printable(text, strlen(text), printable, sizeof(printable)));
}

static void report_to_person(const struct hearth_error *err) {
    char message[4096];
    format_printable(err->message, strlen(err->message), message, sizeof(message));
    fprintf(stderr, "hearth: %s\n", message[0] ? message : hearth_code_name(err->code));
    fact("file", err->file);
    if (err->offset != HEARTH_NO_OFFSET)
        fprintf(stderr, "  offset: %" PRIu64 "\n", err->offset);
    fact("expected", err->expected);
    fact("found", err->found);
    fact("hint", err->hint);
}

void report_error(const struct cli *c, const struct hearth_error *err) {
    bool as_document = c->options.json && !c->output_taken;
    if (as_document && !c->error_in_output) {
        struct json j;
        document_begin(&j);
        json_error(&j, err);
        json_object_end(&j);
    }
    if (!as_document)
        report_to_person(err);
}

int exit_status_of(const struct cli *c, const struct hearth_error *err) {
    if (c->interrupted)
        return 128 + c->interrupted;
    if (c->verb == &verb_run)
        return c->status ? c->status : 125;
    if (err->code == HEARTH_E_NO_DAEMON)
        return EXIT_NO_DAEMON;
    return error_is_refusal(err->code) ? EXIT_REFUSED : EXIT_FAILED;
}

int output_finish(struct hearth_error *err) {
    /* A stdout that was closed when we began is no reason to fail as long as nothing was written to it. */
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    int e = failed ? errno : 0;
    if (fclose(stdout) != 0 && !failed && errno != EBADF)
        e = errno;
    if (e == 0)
        return 0;
    if (e == EPIPE)
        return error_set(err, HEARTH_E_DISCONNECTED, "the reader of the output has gone");
    return error_errno(err, e, "cannot write the output");
}

void note(const struct cli *c, const char *format, ...) {
    if (c->options.quiet)
        return;
    char text[4096];
    char printable[8192];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "hearth: %s\n", format_printable(text, strlen(text), printable, sizeof(printable)));
}
