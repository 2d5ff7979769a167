/* artifact/record.c: see record.h. */
#include "artifact/record.h"

#include <linux/magic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include "util/clock.h"

#define SETTLED_NS (2 * (int64_t)NS_PER_S)

uint32_t record_chunks(uint64_t bytes) {
    return (uint32_t)((bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
}

/* A clock that was set back makes changes look to be of the future: they are not old. */
bool record_would_last(const struct file_identity *identity, int64_t read_start_ns) {
    return identity->ctime_ns <= read_start_ns - SETTLED_NS;
}

/* Those known to be local, rather than all but those known not to be: there are many of both. Not overlayfs, which does
 * not say what it lies on; not FUSE, whose servers may be anything. */
bool record_on_local_storage(int fd) {
    static const uint32_t local[] = {
        EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,      BTRFS_SUPER_MAGIC,    F2FS_SUPER_MAGIC,          TMPFS_MAGIC,
        SQUASHFS_MAGIC,   EROFS_SUPER_MAGIC_V1, 0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */,
    };
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return false;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        if ((uint32_t)fs.f_type == local[i])
            return true;
    return false;
}

struct record *records_free(struct record *records, size_t n) {
    for (size_t i = 0; records && i < n; i++)
        free(records[i].chunks);
    free(records);
    return NULL;
}
