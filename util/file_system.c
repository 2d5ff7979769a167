/* util/file_system.c: see file_system.h. */
#include "util/file_system.h"

#include <stddef.h>

const char *file_system_name(long type) {
    static const struct {
        long type;
        const char *name;
    } names[] = {
        {0xef53, "ext4"},          {0x58465342, "xfs"},   {0x9123683e, "btrfs"},  {0x2fc12fc1, "zfs"},
        {0xf2f52010, "f2fs"},      {0x01021994, "tmpfs"}, {0x6969, "nfs"},        {0xff534d42, "cifs"},
        {0x794c7630, "overlayfs"}, {0x65735546, "fuse"},  {0x01021997, "9p"},     {0x00c36400, "ceph"},
        {0x73717368, "squashfs"},  {0xe0f5e1e2, "erofs"}, {0x0bd00bd0, "lustre"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].type == type)
            return names[i].name;
    return NULL;
}
