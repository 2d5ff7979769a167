/* bench/fio.c: fio's word on the disk, beside our own raw reads. See bench.h.
 *
 * Its buffers must be on huge pages as ours are: with small ones a read of 4 MiB is split by the device's limit of
 * segments, and the disk looks half as fast. fio has no such memory of its own without a hugetlb pool, so it maps
 * some of ours, through /proc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"

#define FIO_MEMORY (UINT64_C(64) << 20) /* more than 4 MiB x 8 */
#define FIELD_ERROR 5                   /* of fio's terse output, version 3, counted from 1 */
#define FIELD_BANDWIDTH 7               /* KiB/s */

void fio_beside(char paths[][4160], size_t n) {
    char command[4096 * 5];
    struct memory buffers;
    if (memory_new(&buffers, FIO_MEMORY, huge_page_bytes() != 0, NULL) < 0 || fchmod(buffers.fd, 0600) < 0) {
        printf("fio is not run beside: no memory for it\n");
        return;
    }
    int used = snprintf(command, sizeof(command),
                        "command -v fio >/dev/null && fio --name=raw --rw=read --direct=1 --ioengine=io_uring --bs=4M "
                        "--iodepth=8 --iomem=mmap:/proc/%d/fd/%d --output-format=terse --terse-version=3 --filename=",
                        (int)getpid(), buffers.fd);
    for (size_t i = 0; i < n; i++) /* paths of our own making: no character of theirs means anything to the shell */
        used += snprintf(command + used, sizeof(command) - (size_t)used, "%s%s", i ? ":" : "", paths[i]);
    snprintf(command + used, sizeof(command) - (size_t)used, " 2>/dev/null");
    FILE *f = popen(command, "re");
    char line[8192] = "";
    char *fields[FIELD_BANDWIDTH + 1] = {NULL};
    if (f && fgets(line, sizeof(line), f)) {
        char *rest = line;
        for (int i = 1; i <= FIELD_BANDWIDTH && rest; i++)
            fields[i] = strsep(&rest, ";");
    }
    int status = f ? pclose(f) : -1;
    memory_drop(&buffers);
    if (status == 0 && fields[FIELD_BANDWIDTH] && strcmp(fields[FIELD_ERROR], "0") == 0)
        printf("fio, the same files, 4 MiB x 8, huge pages: %.2f GB/s\n",
               strtod(fields[FIELD_BANDWIDTH], NULL) * 1024 / 1e9);
    else
        printf("fio is not run beside: %s\n", status == 0 ? "it failed" : "it is not installed, or refuses the job");
}
