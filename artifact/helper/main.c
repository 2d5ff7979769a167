/* artifact/helper/main.c: hearth-parse, the program that looks into files.
 *
 * It is started by parse_isolated() and is of no use by hand: artifact/parse_channel.h says what it is given. Its
 * parent trusts nothing that it says; its exit status is 0 when it has said something.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/format/format.h"
#include "artifact/helper/helper.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/fdlist.h"

/* The manifest, mapped: a sealed memfd that the parent made, so its content can be taken at its word. */
struct manifest {
    const struct hearth_index_header *header;
    const struct hearth_index_file *files;
    const struct hearth_index_finding *findings;
    const char *pool;
};

static int receive_setup(struct parse_msg_setup *setup, struct manifest *m) {
    _Alignas(8) uint8_t packet[sizeof(struct hearth_msg) + sizeof(*setup)];
    _cleanup_close_ int fd = -1;
    struct wire_in in;
    struct stat st;
    long n = channel_receive(packet, sizeof(packet), &fd);
    if (n <= 0 || wire_open(&in, packet, (size_t)n) < 0 || in.header.type != PARSE_MSG_SETUP || fd < 0)
        return -EBADMSG;
    wire_fixed(&in, setup, sizeof(*setup));
    if (fstat(fd, &st) < 0)
        return -errno;
    const char *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    m->header = (const struct hearth_index_header *)base;
    m->files = (const struct hearth_index_file *)(base + m->header->files.offset);
    m->findings = (const struct hearth_index_finding *)(base + m->header->findings.offset);
    m->pool = base + m->header->strings.offset;
    return 0;
}

/* The builder and the formats' input begin with what the manifest says. */
static int begin(const struct manifest *m, struct index_builder *b, struct format_file *files,
                 struct hearth_error *err) {
    int r = index_set_ref(b, m->pool + m->header->ref.offset, err);
    for (uint64_t i = 0; r == 0 && i < m->header->files.count; i++) {
        const struct hearth_index_file *f = &m->files[i];
        files[i] = (struct format_file){m->pool + f->path.offset, (enum hearth_role)f->role, f->bytes};
        r = index_add_file(b, files[i].path, files[i].role, f->bytes, err);
    }
    for (uint64_t i = 0; r == 0 && i < m->header->findings.count; i++) {
        const struct hearth_index_finding *f = &m->findings[i];
        r = index_add_skipped(b, m->pool + f->file.offset, m->pool + f->message.offset, err);
    }
    return r;
}

static int parse(const struct manifest *m, struct ranges *ranges, struct hearth_error *err) {
    struct index_builder *b = index_builder_new();
    struct format_file *files = calloc((size_t)m->header->files.count + 1, sizeof(*files));
    int r = b && files ? begin(m, b, files, err) : error_set(err, HEARTH_E_NO_MEMORY, "no memory for the index");
    struct format_input in = {
        .files = files, .n_files = (uint32_t)m->header->files.count, .read = ranges_read, .user = ranges};
    r = r ? r : format_parse(&in, b, err);
    r = r ? r : index_write(b, PARSE_OUTPUT_FD, err);
    free(files);
    index_builder_free(b);
    return r;
}

int main(void) {
    struct parse_msg_setup setup = {0};
    struct manifest manifest = {0};
    static struct ranges ranges = {.fd = -1};
    static struct hearth_error err = HEARTH_ERROR_INIT;
    int r = sandbox_isolate();
    r = r ? r : receive_setup(&setup, &manifest);
    r = r ? r : sandbox_enter(&setup);
    long bytes;
    if (r < 0) {
        error_errno(&err, -r, "the parser cannot isolate itself");
        bytes = wire_error(&ranges.out, 0, &err);
    } else if (parse(&manifest, &ranges, &err) != 0) {
        bytes = wire_error(&ranges.out, 0, &err);
    } else {
        wire_begin(&ranges.out, (enum hearth_msg_type)PARSE_MSG_DONE, 0, 0);
        bytes = wire_end(&ranges.out);
    }
    /* _exit: nothing is left to flush, and run-times' own ends would need more system calls. */
    _exit(channel_send(&ranges.out, bytes) == 0 ? 0 : 1);
}
