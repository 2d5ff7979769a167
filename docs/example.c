/* example.c: loads an artifact, attaches to it and shows one tensor.
 *
 *     cc example.c $(pkg-config --cflags --libs hearth) -o example
 *     ./example /models/llama model.embed_tokens.weight
 */
#include <inttypes.h>
#include <stdio.h>

#include <hearth/hearth.h>

static int fail(const struct hearth_error *err) {
    fprintf(stderr, "example: %s", err->message);
    if (err->file[0])
        fprintf(stderr, " (%s)", err->file);
    if (err->hint[0])
        fprintf(stderr, "\n  %s", err->hint);
    fputc('\n', stderr);
    return 1;
}

static void show(const struct hearth_tensor *t) {
    printf("%s %s [", t->name, t->dtype);
    for (uint32_t i = 0; i < t->n_dims; i++)
        printf("%s%" PRIu64, i > 0 ? ", " : "", t->shape[i]);
    printf("] %" PRIu64 " bytes:", t->bytes);
    const unsigned char *bytes = t->data; /* shared, read-only memory: nothing is copied */
    for (uint64_t i = 0; i < t->bytes && i < 8; i++)
        printf(" %02x", bytes[i]);
    putchar('\n');
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: example REF [TENSOR]\n");
        return 2;
    }

    struct hearth *h = NULL;
    struct hearth_artifact *a = NULL;
    struct hearth_info info;
    struct hearth_tensor t;
    struct hearth_error err;
    char ref[HEARTH_REF_MAX];

    /* A path means the same file here and in the daemon only when it is absolute. */
    int failed = hearth_ref_from_argument(argv[1], ref, sizeof(ref), &err) ||
                 hearth_connect(NULL, hearth_deadline_in(2000), &h, &err) ||
                 hearth_load(h, ref, NULL, HEARTH_NO_DEADLINE, &info, &err) ||
                 hearth_attach(h, info.id, hearth_deadline_in(2000), &a, &err);

    if (!failed && argc == 3) {
        failed = hearth_find_tensor(a, NULL, argv[2], hearth_deadline_in(2000), &t, &err);
        if (!failed)
            show(&t);
    } else if (!failed) {
        printf("%s: %zu files, %zu tensors, verified: %s\n", info.ref, hearth_file_count(a), hearth_tensor_count(a),
               hearth_verified_name(info.verified));
        for (size_t i = 0; i < hearth_tensor_count(a) && !failed; i++) {
            failed = hearth_tensor_at(a, i, &t, &err);
            if (!failed)
                show(&t);
        }
    }

    int status = failed ? fail(&err) : 0;
    a = hearth_release(a); /* t points into it: not to be used any more */
    h = hearth_close(h);
    return status;
}
