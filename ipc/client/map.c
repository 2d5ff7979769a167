/* ipc/client/map.c: from descriptors to memory that cannot go away.
 *
 * A mapping of something that can shrink is a SIGBUS in waiting, and of something that can be written to is not what
 * was verified. So a descriptor is used only after F_GET_SEALS has said that it is a memfd that will never change, and
 * fstat that it is as long as the index says. What is still being filled only the daemon may be able to change; that it
 * never will again is checked when all is resident.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "ipc/client/client.h"
#include "util/kernel.h"
#include "util/memfd.h"

int map_check_seals(int fd, int needed, uint64_t *bytes, struct hearth_error *err) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || ((seals & needed) != needed && (seals & SEALS_FINAL) != SEALS_FINAL)) {
        error_set(err, HEARTH_E_PROTOCOL, "hearthd sent a descriptor whose content could still change");
        error_expected(err, "a memfd with the seals 0x%x", (unsigned)needed);
        if (seals < 0)
            error_found(err, "no memfd");
        else
            error_found(err, "the seals 0x%x", (unsigned)seals);
        return HEARTH_E_PROTOCOL;
    }
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "cannot examine a descriptor from hearthd");
    *bytes = (uint64_t)st.st_size;
    return 0;
}

/* On hugetlbfs a file's length is a whole number of huge pages. */
static bool is_rounded_up(int fd, uint64_t bytes, uint64_t expected) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC || fs.f_bsize <= 0)
        return false;
    return bytes > expected && bytes - expected < (uint64_t)fs.f_bsize && bytes % (uint64_t)fs.f_bsize == 0;
}

int map_check_file(struct hearth_artifact *a, size_t file, struct hearth_error *err) {
    struct mapped_file *f = &a->files[file];
    if (f->checked)
        return 0;
    const struct hearth_index_file *x = &a->index.files[file];
    uint64_t bytes;
    bool resident;
    int code = stream_look(a, &resident, err);
    code = code ? code : map_check_seals(f->fd, resident ? SEALS_FINAL : SEALS_FILLING, &bytes, err);
    if (code == 0 && bytes != x->bytes && !is_rounded_up(f->fd, bytes, x->bytes)) {
        code = error_set(err, HEARTH_E_PROTOCOL, "hearthd sent a file of another size than its index says");
        error_expected(err, "%" PRIu64 " bytes", x->bytes);
        error_found(err, "%" PRIu64 " bytes", bytes);
    }
    if (code) {
        error_at(err, hearth_index_string(a, x->path), HEARTH_NO_OFFSET);
        return code;
    }
    f->map_bytes = bytes;
    f->checked = true;
    return 0;
}

/* What one entry of a second-level page table maps, on x86-64 and aarch64 alike: 2 MiB with 4 KiB pages, 32 MiB with
 * 16 KiB, 512 MiB with 64 KiB. */
static uint64_t huge_page_bytes(void) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return page * (page / sizeof(uint64_t));
}

static void *map_at(uintptr_t hint, uint64_t bytes, int fd) {
    return mmap((void *)hint, bytes, PROT_READ, MAP_SHARED, fd, 0);
}

/* Maps at an address that is a multiple of `align`, which the kernel does by itself only for some kinds of memory and
 * in some configurations. It hands out addresses from the top down, so there is room below what it gave last: asking
 * there costs one call, where cutting an aligned piece out of a larger reservation costs four. An address that is taken
 * is answered with another one; in the end an unaligned one will do. */
static void *map_aligned(uintptr_t *below, uint64_t bytes, uint64_t align, int fd) {
    uintptr_t hint = *below > bytes ? (*below - bytes) / align * align : 0;
    void *p = map_at(hint, bytes, fd);
    if (p != MAP_FAILED && (uintptr_t)p % align != 0) {
        hint = (uintptr_t)p / align * align;
        munmap(p, bytes);
        p = map_at(hint, bytes, fd);
    }
    if (p != MAP_FAILED && (uintptr_t)p % align != 0 && bytes < SIZE_MAX - align) {
        void *room = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED)
            return p;
        munmap(p, bytes);
        munmap(room, bytes + align);
        p = map_at(((uintptr_t)room + align - 1) / align * align, bytes, fd);
    }
    if (p != MAP_FAILED)
        *below = (uintptr_t)p;
    return p;
}

int map_file(struct hearth_artifact *a, size_t file, const void **out, struct hearth_error *err) {
    struct mapped_file *f = &a->files[file];
    if (f->map) {
        *out = f->map;
        return 0;
    }
    int code = map_check_file(a, file, err);
    if (code)
        return code;
    uint64_t align = huge_page_bytes();
    void *p;
    if (f->map_bytes == 0)
        p = (void *)a->index.header; /* there is nothing to read, and it is not NULL */
    else if (f->map_bytes > SIZE_MAX)
        return error_set(err, HEARTH_E_TOO_LARGE, "the file is larger than this process's addresses");
    else if (f->map_bytes < align)
        p = map_at(0, f->map_bytes, f->fd);
    else
        p = map_aligned(&a->h->map_floor, f->map_bytes, align, f->fd);
    if (p == MAP_FAILED) {
        code = error_errno(err, errno, "cannot map %" PRIu64 " bytes", f->map_bytes);
        error_at(err, hearth_index_string(a, a->index.files[file].path), HEARTH_NO_OFFSET);
        return code;
    }
    *out = f->map = p;
    return 0;
}

void map_release(struct hearth_artifact *a, size_t file) {
    struct mapped_file *f = &a->files[file];
    if (!f->map || f->map_bytes == 0)
        return;
    munmap((void *)f->map, f->map_bytes);
    if ((uintptr_t)f->map == a->h->map_floor)
        a->h->map_floor += f->map_bytes;
    f->map = NULL;
}
