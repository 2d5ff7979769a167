#include "artifact/select.h"

#include <inttypes.h>
#include <string.h>

#include "artifact/glob.h"
#include "util/error.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* File names of weights in other formats, beside safetensors. Names that only a format's own writer gives: a plain
 * "*.bin" may be anything. */
static const char *const other_formats[] = {
    "pytorch_model*.bin",
    "*_model*.bin", /* diffusion_pytorch_model, adapter_model, openvino_model, ... */
    "model*.bin",
    "*weights*.bin",
    "ggml-*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.ckpt.*", /* TensorFlow 1: .index, .meta, .data-00000-of-00001 */
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.onnx_data*",
    "*.onnx.data",
    "*.gguf",
    "*.tflite",
    "*.mlmodel",
    "openvino_*model*.xml",
    "*.bin.index.json",
    "*.h5.index.json",
    "*.msgpack.index.json",
};

static const char *const other_format_folders[] = {"onnx", "openvino", "coreml", "original", "metal"};

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool any_matches(const char *const *patterns, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (glob_match(patterns[i], name))
            return true;
    return false;
}

static bool cancelled(const struct selection *s) {
    return s->request->cancel && atomic_load_explicit(s->request->cancel, memory_order_relaxed);
}

int select_check(const struct selection *s, struct hearth_error *err) {
    if (cancelled(s))
        return error_set(err, HEARTH_E_CANCELLED, "nobody waits for the artifact any more");
    if (s->steps_left > 0)
        return 0;
    error_set(err, HEARTH_E_INVALID, "the patterns that include or exclude cost too much");
    error_at(err, s->request->ref, HEARTH_NO_OFFSET);
    error_expected(err, "at most %" PRIu64 " steps of matching names to them", ARTIFACT_MATCHING_MAX);
    error_found(err, "%zu patterns that take more", s->request->n_include + s->request->n_exclude);
    error_hint(err, "use fewer or shorter patterns, with fewer '*' in each and shorter sets in brackets");
    return HEARTH_E_INVALID;
}

/* What trying one pattern costs besides matching it. False: it is not to be tried any more. */
static bool try_another(struct selection *s, size_t length) {
    uint64_t cost = 16 + length / 16;
    s->steps_left -= cost < s->steps_left ? cost : s->steps_left;
    return s->steps_left > 0 && !cancelled(s);
}

static bool pattern_matches(struct selection *s, const char *pattern, const char *path, const char *base) {
    static const char anywhere[] = "**/";
    for (;; pattern += strlen(anywhere)) {
        if (glob_match_within(pattern, strchr(pattern, '/') ? path : base, &s->steps_left))
            return true;
        if (strncmp(pattern, anywhere, strlen(anywhere)) != 0)
            return false;
    }
}

static bool any_pattern_matches(struct selection *s, const char *const *patterns, size_t n, const char *path,
                                bool directory) {
    const char *base = base_name(path);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(patterns[i]);
        if (!try_another(s, length))
            return false;
        if (pattern_matches(s, patterns[i], path, base))
            return true;
        if (directory && length > 1 && patterns[i][length - 1] == '/') {
            char bare[ARTIFACT_PATTERN_MAX];
            memcpy(bare, patterns[i], length - 1);
            bare[length - 1] = '\0';
            if (pattern_matches(s, bare, path, base))
                return true;
        }
    }
    return false;
}

/* Some include begins with this path, letter by letter. */
static bool spelled_out(struct selection *s, const char *path) {
    const struct artifact_request *r = s->request;
    size_t length = strlen(path);
    for (size_t i = 0; i < r->n_include && try_another(s, length); i++)
        if (strncmp(r->include[i], path, length) == 0 &&
            (r->include[i][length] == '\0' || r->include[i][length] == '/'))
            return true;
    return false;
}

static const char *hidden(struct selection *s, const char *path) {
    const char *name = base_name(path), *reason = NULL;
    if (strcmp(name, ".git") == 0)
        reason = "the history of a git repository is no part of the artifact";
    else if (strcmp(name, ".cache") == 0)
        reason = "a downloader's own cache is no part of the artifact";
    else if (glob_match("*.incomplete", name))
        reason = "a download that has not ended";
    return reason && !spelled_out(s, path) ? reason : NULL;
}

static bool is_included(struct selection *s, const char *path, bool directory) {
    return any_pattern_matches(s, s->request->include, s->request->n_include, path, directory);
}

bool select_excluded(struct selection *s, const char *path, bool directory) {
    return any_pattern_matches(s, s->request->exclude, s->request->n_exclude, path, directory);
}

const char *select_file(struct selection *s, const char *path, bool included) {
    if (select_excluded(s, path, false))
        return "excluded by the request";
    const char *reason = hidden(s, path);
    if (reason)
        return reason;
    if (s->request->n_include > 0 && !included && !is_included(s, path, false))
        return "not among what the request includes";
    return NULL;
}

const char *select_directory(struct selection *s, const char *path, bool *included) {
    if (select_excluded(s, path, true))
        return "excluded by the request";
    const char *reason = hidden(s, path);
    if (!reason && is_included(s, path, true))
        *included = true;
    return reason;
}

void select_note(struct select_formats *f, const char *name) {
    f->safetensors |= glob_match("*.safetensors", name);
    f->model_safetensors |= glob_match("model*.safetensors", name);
}

const char *select_duplicate(const struct artifact_request *r, const struct select_formats *f, const char *name,
                             bool directory) {
    if (r->n_include > 0)
        return NULL;
    if (directory)
        return f->safetensors && any_matches(other_format_folders, LENGTH(other_format_folders), name)
                   ? "another format than the safetensors there, which are taken"
                   : NULL;
    if (f->safetensors && any_matches(other_formats, LENGTH(other_formats), name))
        return "another format than the safetensors there, which are taken";
    if (f->model_safetensors && glob_match("consolidated*.safetensors", name))
        return "the same weights a second time; model*.safetensors are taken";
    return NULL;
}
