/* util/memfd: what the seals promise holds against everybody, root and the maker included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/kernel.h"
#include "util/memfd.h"

#define BYTES 70000 /* more than a page of any size, and no multiple of one */

/* The errno of opening it for writing through /proc, or of writing to what that gave; 0 when it was written. */
static int write_through_proc(int fd) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    _cleanup_close_ int again = open(path, O_RDWR | O_CLOEXEC);
    if (again < 0 || pwrite(again, "x", 1, 0) < 0)
        return errno;
    return 0;
}

static void it_has_the_exact_size_and_nobody_may_write_or_execute_it(void **state) {
    (void)state;
    _cleanup_close_ int fd = memfd_new("model.safetensors", BYTES, 0);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, BYTES);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    char path[64], target[256] = {0};
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_true(readlink(path, target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "/memfd:model.safetensors (deleted)");
}

static void a_name_longer_than_the_kernel_takes_is_cut(void **state) {
    (void)state;
    char name[NAME_MAX + 1];
    memset(name, 'n', NAME_MAX);
    name[NAME_MAX] = '\0';
    _cleanup_close_ int fd = memfd_new(name, 1, 0);
    assert_true(fd >= 0);
}

static void a_size_beyond_off_t_is_an_error(void **state) {
    (void)state;
    assert_int_equal(memfd_new("x", (uint64_t)INT64_MAX + 1, 0), -EFBIG);
}

static void while_it_fills_only_the_mapping_made_before_can_write(void **state) {
    (void)state;
    _cleanup_close_ int fd = memfd_new("filling", BYTES, 0);
    assert_true(fd >= 0);
    char *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(memfd_seal(fd, SEALS_FILLING), 0);

    map[BYTES - 1] = 'z';
    char last = 0;
    assert_int_equal(pread(fd, &last, 1, BYTES - 1), 1);
    assert_int_equal(last, 'z');
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_not_equal(write_through_proc(fd), 0);
    assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 2 * BYTES), -1);

    /* The last seals wait for the mapping to go. */
    assert_int_equal(memfd_seal(fd, SEALS_FINAL), -EBUSY);
    assert_int_equal(munmap(map, BYTES), 0);
    assert_int_equal(memfd_seal(fd, SEALS_FINAL), 0);
}

static void *unpin_later(void *user) {
    char bytes[BYTES];
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL); /* longer than the kernel itself waits */
    assert_true(read(*(int *)user, bytes, sizeof(bytes)) > 0);
    return NULL;
}

/* Pages in a pipe are pinned, as those of a read are that has just ended. */
static void pinned_pages_are_waited_for(void **state) {
    (void)state;
    int ends[2];
    pthread_t thread;
    _cleanup_close_ int fd = memfd_new("pinned", BYTES, 0);
    assert_int_equal(pipe(ends), 0);
    void *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    memset(map, 1, BYTES);
    struct iovec piece = {map, 1};
    assert_int_equal(vmsplice(ends[1], &piece, 1, 0), 1);
    assert_int_equal(munmap(map, BYTES), 0);
    assert_int_equal(memfd_seal(fd, SEALS_FINAL), -EBUSY);
    assert_int_equal(pthread_create(&thread, NULL, unpin_later, &ends[0]), 0);
    assert_int_equal(memfd_seal_final(fd), 0);
    pthread_join(thread, NULL);
    close(ends[0]);
    close(ends[1]);
}

static void a_finished_one_never_changes(void **state) {
    (void)state;
    _cleanup_close_ int fd = memfd_from_bytes("finished", "0123456789", 10);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_not_equal(write_through_proc(fd), 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 100), -1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10), -1);
    assert_int_equal(memfd_seal(fd, F_SEAL_FUTURE_WRITE), -EPERM);
    assert_ptr_equal(mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    /* A private copy may be written, and stays private. */
    char *copy = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(copy, MAP_FAILED);
    copy[0] = 'x';
    char bytes[10];
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), 10);
    assert_memory_equal(bytes, "0123456789", 10);
    assert_int_equal(munmap(copy, 10), 0);
}

static void one_without_bytes_is_one_too(void **state) {
    (void)state;
    _cleanup_close_ int fd = memfd_from_bytes("empty", "", 0);
    assert_true(fd >= 0);
    char byte;
    assert_int_equal(read(fd, &byte, 1), 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS) & SEALS_FINAL, SEALS_FINAL);
}

static void a_reopened_one_is_read_only_and_has_an_offset_of_its_own(void **state) {
    (void)state;
    _cleanup_close_ int fd = memfd_from_bytes("shared", "abc", 3);
    assert_true(fd >= 0);
    _cleanup_close_ int one = memfd_reopen_readonly(fd);
    _cleanup_close_ int two = memfd_reopen_readonly(fd);
    assert_true(one >= 0 && two >= 0);
    assert_int_equal(fcntl(one, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(one, F_GETFD), FD_CLOEXEC);
    char bytes[3];
    assert_int_equal(read(one, bytes, 2), 2);
    assert_int_equal(read(two, bytes, 3), 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_int_equal(lseek(one, 0, SEEK_CUR), 2);
    assert_int_equal(write(one, "x", 1), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(memfd_reopen_readonly(-1), -ENOENT);
}

/* As an ordinary user: root may open what nobody may. */
static int reopen_after_chmod(void) {
    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        return 1;
    int fd = memfd_from_bytes("shared", "abc", 3), again = -1;
    if (fd < 0 || fchmod(fd, 0) < 0 || (again = memfd_reopen_readonly(fd)) < 0)
        return 2;
    struct stat st;
    if (fstat(again, &st) < 0 || (st.st_mode & 0777) != 0444)
        return 3;
    return fchmod(fd, 0) == 0 && memfd_reopen_unleased(fd) >= 0 ? 0 : 4;
}

static void nobody_can_keep_others_from_opening_it(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(reopen_after_chmod());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_has_the_exact_size_and_nobody_may_write_or_execute_it),
        cmocka_unit_test(a_name_longer_than_the_kernel_takes_is_cut),
        cmocka_unit_test(a_size_beyond_off_t_is_an_error),
        cmocka_unit_test(while_it_fills_only_the_mapping_made_before_can_write),
        cmocka_unit_test(pinned_pages_are_waited_for),
        cmocka_unit_test(a_finished_one_never_changes),
        cmocka_unit_test(one_without_bytes_is_one_too),
        cmocka_unit_test(a_reopened_one_is_read_only_and_has_an_offset_of_its_own),
        cmocka_unit_test(nobody_can_keep_others_from_opening_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
