/* bench/artifact.c: artifacts that benchmarks load. See bench.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "bench/bench.h"
#include "util/cleanup.h"

#define TENSOR_MAX (UINT64_C(64) << 20)

int bench_fail(const char *what, const char *why) {
    fprintf(stderr, "hearth-bench: %s: %s\n", what, why);
    return -1;
}

static int write_all(int fd, const void *data, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

/* One shard: tensors of at most 64 MiB, `bytes` of them in all. */
static int make_shard(const char *path, uint64_t bytes, unsigned shard, uint64_t *noise) {
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    _cleanup_free_ char *block = malloc(1 << 20);
    _cleanup_free_ char *header = calloc(1, 1 << 16);
    if (fd < 0 || !block || !header)
        return bench_fail(path, strerror(errno));
    size_t used = (size_t)snprintf(header, 1 << 16, "{");
    for (uint64_t at = 0, i = 0; at < bytes; i++) {
        uint64_t end = bytes - at < TENSOR_MAX ? bytes : at + TENSOR_MAX;
        used += (size_t)snprintf(header + used, (1 << 16) - used,
                                 "%s\"layers.%u.%" PRIu64 ".weight\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64
                                 "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                 i ? "," : "", shard, i, end - at, at, end);
        at = end;
    }
    header[used++] = '}';
    while (used % 8)
        header[used++] = ' ';
    uint64_t length = used;
    if (write_all(fd, &length, 8) < 0 || write_all(fd, header, used) < 0)
        return bench_fail(path, strerror(errno));
    for (uint64_t done = 0; done < bytes;) {
        for (size_t i = 0; i < 1 << 20; i += 8) {
            *noise ^= *noise << 13, *noise ^= *noise >> 7, *noise ^= *noise << 17;
            memcpy(block + i, noise, 8);
        }
        uint64_t n = bytes - done < 1 << 20 ? bytes - done : 1 << 20;
        if (write_all(fd, block, n) < 0)
            return bench_fail(path, strerror(errno));
        done += n;
    }
    if (fsync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        return bench_fail(path, strerror(errno));
    return 0;
}

int make_artifact(const char *folder, uint64_t bytes, unsigned shards) {
    uint64_t noise = UINT64_C(0x853c49e6748fea9b);
    if (mkdir(folder, 0755) < 0)
        return bench_fail(folder, strerror(errno));
    for (unsigned i = 0; i < shards; i++) {
        char path[4096];
        if (shards == 1)
            snprintf(path, sizeof(path), "%s/model.safetensors", folder);
        else
            snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", folder, i + 1, shards);
        if (make_shard(path, bytes / shards, i, &noise) < 0)
            return -1;
    }
    return 0;
}

void remove_artifact(const char *folder) {
    _cleanup_closedir_ DIR *d = opendir(folder);
    struct dirent *e;
    while (d && (e = readdir(d)))
        unlinkat(dirfd(d), e->d_name, 0);
    rmdir(folder);
}

uint64_t load_artifact(struct hearth *h, const char *folder, int verify) {
    struct hearth_error err;
    struct hearth_info info;
    struct hearth_load_options options = {.verify = (enum hearth_verify)verify};
    if (hearth_load(h, folder, &options, HEARTH_NO_DEADLINE, &info, &err)) {
        bench_fail(err.file[0] ? err.file : folder, err.message);
        return 0;
    }
    return info.id;
}
