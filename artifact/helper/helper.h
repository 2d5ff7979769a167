/* artifact/helper/helper.h: the parts of hearth-parse.
 *
 *     sandbox.c   limits and system calls, put on before any input is looked at
 *     ranges.c    reading files through the parent: ask, wait, pread
 *     main.c      the order of things
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <hearth/error.h>

#include "artifact/parse_channel.h"
#include "util/wire.h"

/* Closes every descriptor above the output's, and ends with the parent. 0 or -errno. */
int sandbox_isolate(void);
/* From here on: bounded memory, CPU time, descriptors and output; no new privileges; system calls by an allow-list,
 * anything else kills the process. 0 or -errno. */
int sandbox_enter(const struct parse_msg_setup *limits);

/* Reads files through the parent. Holds one file's descriptor at a time, as formats go from file to file. */
struct ranges {
    int fd; /* of `file`, or -1 */
    uint32_t file;
    uint64_t first, end; /* of `file`: known to have landed */
    uint32_t serial;
    struct wire_out out;
};

/* The read callback of struct format_input; user is a struct ranges. The range has been checked by nobody: a parent
 * that gets one outside of the file ends the helper. */
int ranges_read(void *user, uint32_t file, uint64_t offset, void *buffer, size_t length, struct hearth_error *err);

/* One packet, and at most one descriptor (-1: none came), blocking. Its bytes, 0 at the end, or -errno. */
long channel_receive(void *packet, size_t size, int *fd);
/* Sends what is in `out`; `bytes` as wire_end() returns them. 0 or -errno. */
int channel_send(const struct wire_out *out, long bytes);
