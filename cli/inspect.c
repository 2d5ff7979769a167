/* cli/inspect.c: hearth inspect PATH: what an artifact is and whether it is sound, without a daemon.
 *
 * The same code decides here as in the daemon: artifact_resolve() chooses the files, parse_isolated() reads them in a
 * process of its own. Nothing is loaded; the parser reads the files as they lie on storage.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/parse.h"
#include "cli/cli.h"
#include "cli/inspection.h"
#include "util/cleanup.h"
#include "util/error.h"

struct opened {
    const struct artifact *artifact;
    int *fds; /* -1: not opened yet */
};

static int file_fd(void *user, size_t i, struct hearth_error *err) {
    struct opened *o = user;
    if (o->fds[i] < 0)
        artifact_open(o->artifact, i, 0, &o->fds[i], err);
    return o->fds[i];
}

/* Everything is on storage already. */
static int wait_range(void *user, size_t i, uint64_t offset, uint64_t length, struct hearth_error *err) {
    (void)user;
    (void)i;
    (void)offset;
    (void)length;
    (void)err;
    return 0;
}

static int map_index(struct inspection *in, int fd) {
    struct stat s;
    void *p = MAP_FAILED;
    if (fstat(fd, &s) == 0)
        p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return error_errno(&in->error, errno, "cannot map the index");
    in->index = p;
    in->index_bytes = (size_t)s.st_size;
    return 0;
}

static int parse(struct inspection *in) {
    size_t n = in->artifact->n_files;
    _cleanup_close_ int index = -1;
    struct opened opened = {.artifact = in->artifact, .fds = malloc((n + 1) * sizeof(int))};
    if (!opened.fds)
        return error_set(&in->error, HEARTH_E_NO_MEMORY, "out of memory");
    memset(opened.fds, 0xff, (n + 1) * sizeof(int)); /* all -1 */
    struct parse_request request = {
        .artifact = in->artifact, .file_fd = file_fd, .wait_range = wait_range, .user = &opened};
    int r = parse_isolated(&request, &index, &in->error);
    for (size_t i = 0; i < n; i++)
        close_fd(opened.fds[i]);
    free(opened.fds);
    return r == 0 ? map_index(in, index) : r;
}

static int examine(const struct options *o, struct inspection *in) {
    struct artifact_request request = {
        .ref = in->ref,
        .include = o->include,
        .n_include = o->n_include,
        .exclude = o->exclude,
        .n_exclude = o->n_exclude,
    };
    int r = artifact_resolve(&request, &in->artifact, &in->error);
    return r == 0 ? parse(in) : r;
}

static void cleanup_inspection(struct inspection *in) {
    if (in->index)
        munmap((void *)in->index, in->index_bytes);
    artifact_free(in->artifact);
}

const char *inspection_verdict(const struct inspection *in) {
    if (in->error.code)
        return in->error.code == HEARTH_E_UNSAFE ? "unsafe" : "refused";
    switch (inspection_header(in)->verdict) {
    case HEARTH_VERDICT_OK:
        return "ok";
    case HEARTH_VERDICT_UNSAFE:
        return "unsafe";
    default:
        return "refused";
    }
}

const char *inspection_inside(const struct inspection *in, const char *path) {
    size_t length = strlen(in->ref);
    if (strncmp(path, in->ref, length) != 0)
        return path;
    if (path[length] == '/')
        return path + length + 1;
    if (path[length] == '\0' && in->artifact && in->artifact->is_file)
        return in->artifact->files[0].path;
    return path;
}

bool inspection_is_opaque(const struct inspection *in, const struct hearth_index_file *file) {
    static const char known[] = "safetensors"; /* also where the name says otherwise: the parser told it by its bytes */
    return file->role == HEARTH_ROLE_WEIGHTS &&
           (file->format.length != strlen(known) ||
            memcmp(inspection_string(in, file->format), known, strlen(known)) != 0);
}

static int by_place(const void *a, const void *b, void *user) {
    const struct hearth_index_tensor *tensors = user;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct hearth_index_tensor *x = &tensors[i], *y = &tensors[k];
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return i < k ? -1 : 1; /* the index has them in the order of names */
}

uint32_t *inspection_tensors(const struct inspection *in) {
    size_t n = inspection_header(in)->tensors.count;
    uint32_t *order = n ? reallocarray(NULL, n, sizeof(*order)) : NULL;
    if (!order)
        return NULL;
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, n, sizeof(*order), by_place, (void *)inspection_table(in, inspection_header(in)->tensors));
    return order;
}

static int inspect(struct cli *c, struct hearth_error *err) {
    char ref[HEARTH_REF_MAX];
    int r = hearth_ref_from_argument(c->options.operands[0], ref, sizeof(ref), err);
    if (r != 0)
        return r;
    if (ref[0] != '/') {
        error_set(err, HEARTH_E_NOT_FOUND, "there is no such file or directory");
        error_at(err, ref, HEARTH_NO_OFFSET);
        return HEARTH_E_NOT_FOUND;
    }
    _cleanup_(cleanup_inspection) struct inspection in = {.ref = ref, .error = HEARTH_ERROR_INIT};
    raise_fd_limit();
    r = examine(&c->options, &in);
    if (r != 0 && !error_is_refusal(in.error.code)) { /* could not look: no verdict */
        *err = in.error;
        return r;
    }
    if (c->options.json)
        inspection_print_json(&in);
    else if (in.index)
        inspection_print(&in, c->options.tensors);
    c->error_in_output = true;
    *err = in.error;
    if (r == 0 && inspection_header(&in)->verdict != HEARTH_VERDICT_OK)
        c->status = EXIT_REFUSED;
    return r;
}

const struct verb verb_inspect = {
    .name = "inspect",
    .operands = "PATH",
    .summary = "Show what an artifact is and whether it is sound; needs no daemon",
    .about =
        "Reads headers only. What the selection leaves out is listed as a finding, and so are weights in a format "
        "that\n"
        "this version does not look into: nothing is known of those, not even whether loading them executes code.\n"
        "Exits with 4 when the artifact is refused.",
    .examples = "  hearth inspect ./all-minilm\n"
                "  hearth inspect --tensors model.safetensors\n"
                "  hearth inspect --json /models/llama | jq '.tensors | length'\n",
    .options = OPTIONS_SELECTION | OPTION_TENSORS,
    .operands_min = 1,
    .operands_max = 1,
    .run = inspect,
};
