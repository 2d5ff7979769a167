/* artifact/parse_channel.h: what parse_isolated() and its helper say to each other. Private to one build of hearth.
 *
 * The helper is exec'd with /dev/null on 0 and 1, stderr on 2 (/dev/null but in sanitized builds), a SOCK_SEQPACKET
 * socket to its parent on 3, and the memfd that is to become the index, empty, on 4. Packets are those of
 * hearth/protocol.h with types of their own; LANDED and DONE are a bare struct hearth_msg:
 *
 *     parent  SETUP      first, with one descriptor: the manifest, a sealed memfd
 *     helper  RANGE      asks for bytes of a file; one at a time
 *     parent  LANDED     they can be read; with the file's descriptor where the request wanted it
 *     helper  DONE       the index is written; the helper ends
 *     helper  ERROR      (HEARTH_MSG_ERROR) the artifact is refused; the helper ends
 *
 * The manifest is an index itself, without tensors: the reference, the files with path, role and size, and a finding
 * "skipped" for each file that selection left out. The finished index begins with the same files and findings.
 *
 * A parent that cannot serve a request answers nothing: it ends the helper. A helper that finds its socket closed ends.
 */
#pragma once

#include <stdint.h>

#include <hearth/index.h>
#include <hearth/protocol.h>

#define PARSE_SOCKET_FD 3
#define PARSE_OUTPUT_FD 4

enum parse_msg_type {
    PARSE_MSG_SETUP = 200,
    PARSE_MSG_RANGE = 201,
    PARSE_MSG_LANDED = 202,
    PARSE_MSG_DONE = 203,
};

/* The limits that the helper puts on itself before it looks at any input. */
struct parse_msg_setup {
    uint64_t memory_bytes; /* of address space, and of output */
    uint64_t cpu_seconds;
};

#define PARSE_WANT_FD 1u /* the helper does not hold the file's descriptor */
struct parse_msg_range {
    uint32_t file;
    uint32_t flags; /* PARSE_WANT_* */
    uint64_t offset;
    uint64_t length; /* not 0; the range lies inside the file */
};
