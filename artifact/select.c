#include "artifact/select.h"

#include <string.h>

#include "artifact/glob.h"

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

static bool pattern_matches(const char *pattern, const char *path) {
    static const char anywhere[] = "**/";
    for (;; pattern += strlen(anywhere)) {
        if (glob_match(pattern, strchr(pattern, '/') ? path : base_name(path)))
            return true;
        if (strncmp(pattern, anywhere, strlen(anywhere)) != 0)
            return false;
    }
}

static bool request_matches(const char *const *patterns, size_t n, const char *path, bool directory) {
    for (size_t i = 0; i < n; i++) {
        if (pattern_matches(patterns[i], path))
            return true;
        size_t length = strlen(patterns[i]);
        if (directory && length > 1 && patterns[i][length - 1] == '/') {
            char bare[ARTIFACT_PATTERN_MAX];
            memcpy(bare, patterns[i], length - 1);
            bare[length - 1] = '\0';
            if (pattern_matches(bare, path))
                return true;
        }
    }
    return false;
}

/* Some include begins with this path, letter by letter. */
static bool spelled_out(const struct artifact_request *r, const char *path) {
    size_t length = strlen(path);
    for (size_t i = 0; i < r->n_include; i++)
        if (strncmp(r->include[i], path, length) == 0 &&
            (r->include[i][length] == '\0' || r->include[i][length] == '/'))
            return true;
    return false;
}

static const char *hidden(const struct artifact_request *r, const char *path) {
    const char *name = base_name(path), *reason = NULL;
    if (strcmp(name, ".git") == 0)
        reason = "the history of a git repository is no part of the artifact";
    else if (strcmp(name, ".cache") == 0)
        reason = "a downloader's own cache is no part of the artifact";
    else if (glob_match("*.incomplete", name))
        reason = "a download that has not ended";
    return reason && !spelled_out(r, path) ? reason : NULL;
}

bool select_excluded(const struct artifact_request *r, const char *path, bool directory) {
    return request_matches(r->exclude, r->n_exclude, path, directory);
}

const char *select_file(const struct artifact_request *r, const char *path, bool included) {
    if (select_excluded(r, path, false))
        return "excluded by the request";
    const char *reason = hidden(r, path);
    if (reason)
        return reason;
    if (r->n_include > 0 && !included && !request_matches(r->include, r->n_include, path, false))
        return "not among what the request includes";
    return NULL;
}

const char *select_directory(const struct artifact_request *r, const char *path, bool *included) {
    if (select_excluded(r, path, true))
        return "excluded by the request";
    const char *reason = hidden(r, path);
    if (!reason && request_matches(r->include, r->n_include, path, true))
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
