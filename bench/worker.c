/* bench/worker.c: a serving process in miniature, for the demo and the benchmarks.
 *
 *     hearth-worker shared SOCKET ID DIR     attaches to artifact ID, maps its weights, compares every byte of every
 *                                            tensor with what another process reads from DIR by plain read(2)
 *     hearth-worker touch SOCKET ID          the same, reading every byte of every weight file, comparing nothing
 *     hearth-worker private DIR FILE...      what a worker does without hearth: reads the files into memory of its own
 *
 * Then it prints one line of JSON (tensors, bytes, pss_bytes: its share of the physical memory behind the weights), and
 * holds everything until its standard input ends; `pss` on standard input measures again and prints another line, so
 * that several workers can be measured while all of them hold. Exit status 1 and a line on stderr when a byte differs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hearth/hearth.h>

#include "util/cleanup.h"
#include "util/text.h"

#define PIECE ((size_t)1 << 20)

struct mapping {
    const void *at;
    uint64_t bytes;
};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "hearth-worker: %s: %s\n", what, why);
    return 1;
}

/* The sum of Pss over the areas of /proc/self/smaps that overlap one of the mappings, in bytes. */
static uint64_t pss_of(const struct mapping *mappings, size_t n) {
    _cleanup_fclose_ FILE *f = fopen("/proc/self/smaps", "re");
    if (!f)
        return 0;
    char line[4352];
    bool inside = false;
    uint64_t kib = 0, sum = 0;
    unsigned long start, end;
    char dash;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx%c%lx ", &start, &dash, &end) == 3 && dash == '-') {
            inside = false;
            for (size_t i = 0; i < n && !inside; i++)
                inside = (uintptr_t)mappings[i].at < end && (uintptr_t)mappings[i].at + mappings[i].bytes > start;
        } else if (inside && sscanf(line, "Pss: %" SCNu64 " kB", &kib) == 1) {
            sum += kib * 1024;
        }
    }
    return sum;
}

/* Starts a process that reads `length` bytes at `offset` of a file with read(2) and writes them into the pipe it
 * returns. */
static int start_reader(const char *path, uint64_t offset, uint64_t length, pid_t *pid) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    fcntl(ends[1], F_SETPIPE_SZ, (int)PIECE); /* fewer turns; a smaller pipe works as well */
    *pid = fork();
    if (*pid == 0) {
        close(ends[0]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        char *buffer = malloc(PIECE);
        if (fd < 0 || !buffer || lseek(fd, (off_t)offset, SEEK_SET) < 0)
            _exit(2);
        while (length > 0) {
            ssize_t got = read(fd, buffer, length < PIECE ? (size_t)length : PIECE);
            if (got <= 0)
                _exit(3);
            for (ssize_t done = 0; done < got;) {
                ssize_t n = write(ends[1], buffer + done, (size_t)(got - done));
                if (n < 0)
                    _exit(4);
                done += n;
            }
            length -= (uint64_t)got;
        }
        _exit(0);
    }
    close(ends[1]);
    if (*pid < 0)
        return close_fd(ends[0]);
    return ends[0];
}

/* 0 when memory equals the file's bytes. */
static int compare(const char *path, uint64_t offset, uint64_t length, const unsigned char *memory) {
    pid_t pid;
    _cleanup_close_ int pipe = start_reader(path, offset, length, &pid);
    if (pipe < 0)
        return fail(path, strerror(errno));
    _cleanup_free_ char *buffer = malloc(PIECE);
    uint64_t at = 0;
    int result = buffer ? 0 : fail(path, "no memory");
    while (result == 0 && at < length) {
        ssize_t n = read(pipe, buffer, PIECE);
        if (n <= 0)
            result = fail(path, "the reading process ended early");
        else if (memcmp(buffer, memory + at, (size_t)n) != 0)
            result = fail(path, "bytes in memory differ from the file");
        else
            at += (uint64_t)n;
    }
    pipe = close_fd(pipe);
    int status;
    if (waitpid(pid, &status, 0) == pid && result == 0 && status != 0)
        result = fail(path, "the reading process failed");
    return result;
}

static void report(size_t tensors, uint64_t bytes, const struct mapping *mappings, size_t n) {
    printf("{\"pid\": %d, \"tensors\": %zu, \"bytes\": %" PRIu64 ", \"pss_bytes\": %" PRIu64 "}\n", (int)getpid(),
           tensors, bytes, pss_of(mappings, n));
    fflush(stdout);
}

/* Holds until standard input ends. */
static void hold(size_t tensors, uint64_t bytes, const struct mapping *mappings, size_t n) {
    char line[16];
    report(tensors, bytes, mappings, n);
    while (fgets(line, sizeof(line), stdin))
        report(tensors, bytes, mappings, n);
}

/* Reads every byte, so that the compiler cannot leave a page out. */
static uint64_t read_all(const unsigned char *p, uint64_t bytes) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i++)
        sum += p[i];
    return sum;
}

static int shared(const char *socket, const char *id_text, const char *directory) {
    struct hearth *h = NULL;
    struct hearth_artifact *a = NULL;
    struct hearth_error err;
    uint64_t id, bytes = 0;
    if (!parse_id(id_text, &id))
        return fail(id_text, "is not an id");
    if (hearth_connect(socket, hearth_deadline_in(5000), &h, &err) ||
        hearth_attach(h, id, hearth_deadline_in(30000), &a, &err))
        return fail(id_text, err.message);
    size_t n_files = hearth_file_count(a), n = 0, n_tensors = hearth_tensor_count(a);
    struct mapping *weights = calloc(n_files, sizeof(*weights));
    if (!weights)
        return fail(id_text, "no memory");
    volatile uint64_t sum = 0;
    for (size_t i = 0; i < n_files; i++) {
        struct hearth_file file;
        const void *at;
        if (hearth_file_at(a, i, &file, &err) || file.role != HEARTH_ROLE_WEIGHTS || file.bytes == 0)
            continue;
        if (hearth_file_map(a, i, hearth_deadline_in(5000), &at, &err))
            return fail(file.path, err.message);
        weights[n++] = (struct mapping){at, file.bytes};
        bytes += file.bytes;
        sum = sum + read_all(at, file.bytes);
    }
    for (size_t i = 0; directory && i < n_tensors; i++) {
        struct hearth_tensor t;
        struct hearth_file file;
        char path[8192];
        if (hearth_tensor_at(a, i, &t, &err) || hearth_file_at(a, t.file, &file, &err))
            return fail(id_text, err.message);
        snprintf(path, sizeof(path), "%s/%s", directory, file.path);
        if (compare(path, t.offset, t.bytes, t.data) != 0)
            return fail(t.name, "is not what is on disk");
    }
    hold(n_tensors, bytes, weights, n);
    free(weights);
    hearth_release(a);
    hearth_close(h);
    return 0;
}

static int private_copies(const char *directory, char **files, int n_files) {
    struct mapping *copies = calloc((size_t)n_files, sizeof(*copies));
    uint64_t bytes = 0;
    if (!copies)
        return fail(directory, "no memory");
    for (int i = 0; i < n_files; i++) {
        char path[8192];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
            return fail(path, strerror(errno));
        char *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return fail(path, strerror(errno));
        for (off_t at = 0; at < st.st_size;) {
            ssize_t n = read(fd, memory + at, (size_t)(st.st_size - at));
            if (n <= 0)
                return fail(path, "could not be read whole");
            at += n;
        }
        copies[i] = (struct mapping){memory, (uint64_t)st.st_size};
        bytes += (uint64_t)st.st_size;
    }
    hold(0, bytes, copies, (size_t)n_files);
    free(copies);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "shared") == 0)
        return shared(argv[2], argv[3], argv[4]);
    if (argc == 4 && strcmp(argv[1], "touch") == 0)
        return shared(argv[2], argv[3], NULL);
    if (argc >= 4 && strcmp(argv[1], "private") == 0)
        return private_copies(argv[2], argv + 3, argc - 3);
    fputs("usage: hearth-worker shared SOCKET ID DIR | touch SOCKET ID | private DIR FILE...\n", stderr);
    return 2;
}
