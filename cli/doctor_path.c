/* cli/doctor_path.c: the file system that artifacts are read from.
 *
 * Asked of one file: the path itself, or the largest one below it, for a moment's search. Its first bytes are read with
 * O_DIRECT, what lies behind them through the page cache: no byte twice, and nothing is dropped from a cache that
 * others live on.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/cleanup.h"
#include "util/file_system.h"
#include "util/kernel.h"
#include "util/text.h"

#define ENTRIES_MAX 2000u
#define DEPTH_MAX 16
#define MEASURED_MAX (UINT64_C(256) << 20)
#define MEASURED_MIN (UINT64_C(32) << 20)
/* Below this share of the direct rate, reading through the page cache costs time. */
#define BUFFERED_SHARE 0.8

/* ---- which file ---- */

/* nftw(3) has no place for a pointer of its caller's. */
static struct {
    unsigned entries;
    uint64_t bytes;
    char path[PATH_MAX];
} largest;

static int look_at(const char *path, const struct stat *st, int kind, struct FTW *position) {
    (void)position;
    if (kind == FTW_F && S_ISREG(st->st_mode) && (uint64_t)st->st_size >= largest.bytes &&
        snprintf(largest.path, sizeof(largest.path), "%s", path) < (int)sizeof(largest.path))
        largest.bytes = (uint64_t)st->st_size;
    return ++largest.entries >= ENTRIES_MAX;
}

/* The file to ask. 0 or an errno. */
static int choose_file(const char *path) {
    struct stat st;
    memset(&largest, 0, sizeof(largest));
    if (stat(path, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return nftw(path, look_at, DEPTH_MAX, 0) < 0 ? errno : largest.path[0] ? 0 : ENODATA;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    largest.bytes = (uint64_t)st.st_size;
    return snprintf(largest.path, sizeof(largest.path), "%s", path) < (int)sizeof(largest.path) ? 0 : ENAMETOOLONG;
}

/* ---- how it is read ---- */

/* The share of a range that the page cache holds; 1 where the kernel does not tell. */
static double cached_share(int fd, uint64_t offset, uint64_t length) {
    struct {
        uint64_t offset, length;
    } range = {offset, length};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } found;
    if (length == 0 || syscall(SYS_cachestat, fd, &range, &found, 0) < 0)
        return 1;
    return (double)(found.cached * (uint64_t)sysconf(_SC_PAGESIZE)) / (double)length;
}

static void measure_path(int direct, int buffered, uint64_t bytes, double *direct_rate, double *buffered_rate) {
    uint64_t direct_read = 0, unused;
    *direct_rate = *buffered_rate = 0;
    if (bytes < MEASURED_MIN)
        return;
    if (direct >= 0)
        *direct_rate = measure_reads(direct, 0, bytes / 2 < MEASURED_MAX ? bytes / 2 : MEASURED_MAX, &direct_read);
    uint64_t left = bytes - direct_read < MEASURED_MAX ? bytes - direct_read : MEASURED_MAX;
    if (cached_share(buffered, direct_read, left) < 0.1)
        *buffered_rate = measure_reads(buffered, direct_read, left, &unused);
}

static void describe_rates(double direct, double buffered, char *out, size_t size) {
    out[0] = '\0';
    if (direct > 0 && buffered > 0)
        snprintf(out, size, "; read at %.2f GB/s, through the page cache at %.2f GB/s", direct / 1e9, buffered / 1e9);
    else if (direct > 0 || buffered > 0)
        snprintf(out, size, "; read at %.2f GB/s", (direct > 0 ? direct : buffered) / 1e9);
}

static void judge_file(struct doctor *d, const char *path) {
    struct statfs fs;
    struct statx x;
    char kind[32], rates[128], alignment[96] = "";
    memset(&x, 0, sizeof(x));
    _cleanup_close_ int buffered = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (buffered < 0 || fstatfs(buffered, &fs) < 0) {
        struct finding *f =
            finding_add(d, CHECK_STORAGE, LEVEL_PROBLEM, "%s: cannot be opened (%s)", path, strerror(errno));
        finding_mend(f, "ls -l %s", path);
        return;
    }
    _cleanup_close_ int direct = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    bool told = statx(buffered, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 && x.stx_mask & STATX_DIOALIGN;
    bool refused = direct < 0 || (told && x.stx_dio_offset_align == 0);
    const char *name = file_system_name((long)fs.f_type);
    if (!name)
        snprintf(kind, sizeof(kind), "file system 0x%lx", (unsigned long)fs.f_type);
    if (told && !refused)
        snprintf(alignment, sizeof(alignment), ", in units of %u bytes to memory aligned to %u", x.stx_dio_offset_align,
                 x.stx_dio_mem_align);
    double direct_rate, buffered_rate;
    measure_path(refused ? -1 : direct, buffered, largest.bytes, &direct_rate, &buffered_rate);
    describe_rates(direct_rate, buffered_rate, rates, sizeof(rates));
    struct finding *f = finding_add(d, CHECK_STORAGE, refused ? LEVEL_NOTE : LEVEL_OK, "%s: %s, %s%s%s", path,
                                    name ? name : kind, refused ? "no direct I/O" : "direct I/O", alignment, rates);
    f->direct = direct_rate;
    f->buffered = buffered_rate;
    if (refused)
        finding_cost(f, "it is read through the page cache: for more CPU time, and other files lose their place there");
    else if (buffered_rate > 0 && buffered_rate < BUFFERED_SHARE * direct_rate)
        finding_cost(f, "none for hearthd; programs that read it through the page cache take %.1f times as long",
                     direct_rate / buffered_rate);
}

void check_path(struct doctor *d, const char *path) {
    int e = choose_file(path);
    if (e == 0) {
        judge_file(d, largest.path);
    } else if (e == ENODATA) {
        finding_add(d, CHECK_STORAGE, LEVEL_NOTE, "%s: there is no file in it to ask", path);
    } else {
        struct finding *f = finding_add(d, CHECK_STORAGE, LEVEL_PROBLEM, "%s: %s", path,
                                        e == EINVAL ? "no file and no directory" : strerror(e));
        finding_mend(f, "ls -ld %s", path);
    }
}
