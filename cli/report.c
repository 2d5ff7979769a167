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

double load_rate(const struct hearth_info *info) {
    uint64_t read = info->from_disk + info->from_page_cache;
    return info->seconds_ns > 0 ? (double)read / (double)info->seconds_ns : 0;
}

static void json_phases(struct json *j, const struct hearth_info *info) {
    json_object_begin(j);
    for (unsigned i = 0; i < HEARTH_PHASES; i++) {
        json_key(j, hearth_phase_name((enum hearth_phase)i));
        if (info->phases[i].end_ns == 0) {
            json_nil(j);
            continue;
        }
        json_object_begin(j);
        json_key(j, "start");
        json_double(j, (double)info->phases[i].start_ns / 1e9);
        json_key(j, "end");
        json_double(j, (double)info->phases[i].end_ns / 1e9);
        json_object_end(j);
    }
    json_object_end(j);
}

void document_load(struct json *j, const struct hearth_info *info) {
    document_id(j, info->id);
    json_path(j, "ref", info->ref, strlen(info->ref));
    document_text(j, "state", hearth_state_name(info->state));
    document_number(j, "bytes", info->bytes);
    json_key(j, "seconds");
    json_double(j, (double)info->seconds_ns / 1e9);
    json_key(j, "gb_per_s");
    json_double(j, load_rate(info));
    document_text(j, "verified", hearth_verified_name(info->verified));
    document_text(j, "backing", hearth_backing_name(info->backing));
    json_key(j, "from");
    json_object_begin(j);
    document_number(j, "disk", info->from_disk);
    document_number(j, "page_cache", info->from_page_cache);
    document_number(j, "resident", info->from_resident);
    json_object_end(j);
    json_key(j, "phases");
    json_phases(j, info);
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
