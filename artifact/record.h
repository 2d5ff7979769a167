/* artifact/record.h: what was once proven about a file's content, so that it need not be proven again.
 *
 * A record says of one file, as it was (device, inode, size, mtime, ctime): these are the XXH3 of its chunks, and this
 * is its SHA-256 where that was computed over the same bytes. A later load compares chunks with it, which costs a tenth
 * of SHA-256 and names the place of what differs.
 *
 * It can be trusted only where a change of the content cannot leave the identity as it was. So the change time must
 * have been 2 s old when the read began, for file systems stamp in steps of milliseconds, some of 1 or 2 s, and a write
 * within the step of the last one leaves no trace; and the file system must be a local one, whose times are this
 * machine's and which sees every write. What nothing can exclude is a program that goes on storing through a mapping it
 * has had for longer than that: its times may lag by as long as the kernel keeps a page dirty.
 *
 * XXH3 is no defence against somebody who makes up content: who may write to the file could, and so could change it
 * before it was proven. It is one against storage and memory that lose bits, and programs that err.
 *
 * Thread rule: plain values; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "artifact/artifact.h"

#define CHUNK_BYTES (UINT64_C(4) << 20) /* what one XXH3 is of; the last one of a file may be shorter */

struct chunk_hash {
    uint64_t low, high; /* XXH3-128 */
};

struct record {
    struct file_identity identity;
    bool has_sha256;
    uint8_t sha256[32];
    uint32_t n_chunks;         /* record_chunks() of the file's size */
    struct chunk_hash *chunks; /* NULL: this is none; not so for an empty file, which has a record without chunks */
};
/* Frees an array, and what its records have. Returns NULL; NULL is allowed. */
struct record *records_free(struct record *records, size_t n);

uint32_t record_chunks(uint64_t bytes);

/* A record of this identity, made by a read that began then (CLOCK_REALTIME, ns), can be trusted later. */
bool record_would_last(const struct file_identity *identity, int64_t read_start_ns);
/* An open file is on a file system that this machine alone writes to, by what the kernel calls it. */
bool record_on_local_storage(int fd);
