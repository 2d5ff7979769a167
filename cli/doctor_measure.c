/* cli/doctor_measure.c: what memory, hashes and storage give here, in a second or two.
 *
 * Memory that comes first is whatever the kernel has: on a host that takes free memory back it may have to be supplied.
 * What was freed a moment ago is still there. So the order of the measurements is what they are about.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/huge_pages.h"
#include "util/kernel.h"
#include "util/memory_limit.h"

#define FRESH_BYTES (UINT64_C(256) << 20)
#define SHARED_BYTES (UINT64_C(64) << 20)
#define HASHED_BYTES (UINT64_C(32) << 20)

#define READERS 4
#define READ_BYTES (UINT64_C(4) << 20)
#define READ_FOR_NS (500 * NS_PER_MS)

static double rate(uint64_t bytes, uint64_t since) {
    uint64_t ns = clock_now() - since;
    return (double)bytes * 1e9 / (double)(ns > 0 ? ns : 1);
}

static double populate_private(uint64_t bytes) {
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return 0;
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    uint64_t start = clock_now();
    double r = madvise(at, bytes, MADV_POPULATE_WRITE) == 0 ? rate(bytes, start) : 0;
    munmap(at, bytes);
    return r;
}

/* At a multiple of a huge page, so that it can be made of them. */
static uint8_t *map_shared(int fd, uint64_t bytes, uint64_t align, uint8_t **area) {
    *area = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*area == MAP_FAILED)
        return NULL;
    uint8_t *at = (uint8_t *)(((uintptr_t)*area + align - 1) / align * align);
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ? NULL : at;
}

/* `collapse`: by MADV_COLLAPSE, one page touched in each huge page before, as hearthd does it. */
static int populate_huge(uint8_t *at, uint64_t bytes, uint64_t huge_page, bool collapse) {
    for (uint64_t i = 0; collapse && i < bytes; i += huge_page)
        if (madvise(at + i, 1, MADV_POPULATE_WRITE) < 0)
            return -1;
    return madvise(at, bytes, collapse ? MADV_COLLAPSE : MADV_HUGEPAGE);
}

static double populate_shared(uint64_t bytes, const struct huge_pages *huge) {
    _cleanup_close_ int fd = memfd_create("hearth-doctor", MFD_CLOEXEC);
    uint8_t *area, *at;
    double r = 0;
    uint64_t align = huge ? huge->bytes : (uint64_t)sysconf(_SC_PAGESIZE);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return 0;
    at = map_shared(fd, bytes, align, &area);
    if (!huge && at)
        (void)madvise(at, bytes, MADV_NOHUGEPAGE);
    uint64_t start = clock_now();
    if (at && (!huge || populate_huge(at, bytes, huge->bytes, huge->shmem == SHMEM_HUGE_COLLAPSE) == 0) &&
        madvise(at, bytes, MADV_POPULATE_WRITE) == 0)
        r = rate(bytes, start);
    if (area != MAP_FAILED)
        munmap(area, bytes + align);
    return r;
}

static double hash_rate(void) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint8_t *at = mmap(NULL, HASHED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED)
        return 0;
    uint64_t start = clock_now();
    double r = EVP_Digest(at, HASHED_BYTES, digest, NULL, EVP_sha256(), NULL) == 1 ? rate(HASHED_BYTES, start) : 0;
    munmap(at, HASHED_BYTES);
    return r;
}

void measure_memory(struct doctor *d) {
    struct doctor_rates *r = &d->rates;
    struct memory_limit m;
    struct huge_pages huge;
    if (memory_limit_read(d->root, &m, NULL) != 0 || m.available / 4 < FRESH_BYTES)
        return; /* it is others' */
    r->fresh = populate_private(FRESH_BYTES);
    r->again = populate_private(FRESH_BYTES);
    r->small = populate_shared(SHARED_BYTES, NULL);
    huge_pages_read(d->root, (uint64_t)sysconf(_SC_PAGESIZE), &huge);
    if (huge.shmem == SHMEM_HUGE_GIVEN || huge.shmem == SHMEM_HUGE_COLLAPSE)
        r->huge = populate_shared(SHARED_BYTES / huge.bytes * huge.bytes, &huge);
    r->sha256 = hash_rate();
}

/* ---- storage ---- */

struct reading {
    int fd;
    uint64_t from, to, until;
    _Atomic uint64_t next, bytes;
    atomic_bool failed;
};

static void *read_some(void *argument) {
    struct reading *r = argument;
    /* Of huge pages where there are some: what direct reads land on decides their speed, too. */
    uint8_t *to = mmap(NULL, 2 * READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED) {
        r->failed = true;
        return NULL;
    }
    (void)madvise(to, 2 * READ_BYTES, MADV_HUGEPAGE);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)to + READ_BYTES - 1) / READ_BYTES * READ_BYTES);
    while (!r->failed && clock_now() < r->until) {
        uint64_t at = atomic_fetch_add(&r->next, READ_BYTES);
        if (at >= r->to)
            break;
        ssize_t n = pread(r->fd, aligned, READ_BYTES, (off_t)at);
        if (n <= 0)
            r->failed = n < 0;
        else
            atomic_fetch_add(&r->bytes, (uint64_t)n);
        if (n <= 0)
            break;
    }
    munmap(to, 2 * READ_BYTES);
    return NULL;
}

double measure_reads(int fd, uint64_t from, uint64_t bytes, uint64_t *read) {
    from = from / READ_BYTES * READ_BYTES;
    uint64_t start = clock_now();
    struct reading r = {.fd = fd, .to = from + bytes, .until = start + READ_FOR_NS};
    pthread_t threads[READERS];
    unsigned n = 0;
    r.next = from;
    while (n < READERS && pthread_create(&threads[n], NULL, read_some, &r) == 0)
        n++;
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    double found = rate(r.bytes, start);
    *read = r.next < r.to ? r.next - from : bytes;
    return n > 0 && !r.failed && r.bytes > 0 ? found : 0;
}
