/* artifact/open, artifact/identity: only what was resolved is opened. And what other users and mounts change. */
#include "artifact_tree.h"

#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>

static int open_first(struct tree *t, int extra_flags) {
    int fd = -1;
    error_clear(&t->err);
    int r = artifact_open(t->artifact, 0, extra_flags, &fd, &t->err);
    if (r == 0)
        close(fd);
    return r;
}

static void a_file_is_opened_for_reading_alone(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    assert_int_equal(resolve(t, "m"), 0);
    int fd;
    char content[16] = "";
    assert_int_equal(artifact_open(t->artifact, 0, 0, &fd, &t->err), 0);
    assert_int_equal(read(fd, content, sizeof(content)), 7);
    assert_string_equal(content, "content");
    assert_int_equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    struct file_identity now;
    assert_int_equal(file_identity_of(fd, &now), 0);
    assert_true(file_identity_equal(&now, &t->artifact->files[0].identity));
    close(fd);
    assert_int_equal(file_identity_of(fd, &now), -EBADF);
}

static void direct_io_is_kept_or_said_to_be_unsupported(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    assert_int_equal(resolve(t, "m"), 0);
    int fd = -1, r = artifact_open(t->artifact, 0, O_DIRECT, &fd, &t->err);
    if (r == 0) {
        assert_int_equal(fcntl(fd, F_GETFL) & (O_DIRECT | O_NONBLOCK), O_DIRECT);
        close(fd);
    } else {
        assert_int_equal(r, HEARTH_E_UNSUPPORTED);
    }
    /* procfs has no O_DIRECT anywhere. */
    assert_int_equal(resolve_request(t, (struct artifact_request){.ref = "/proc/version"}), 0);
    assert_int_equal(open_first(t, O_DIRECT), HEARTH_E_UNSUPPORTED);
    assert_string_equal(t->err.file, "/proc/version");
}

static void assert_changed(struct tree *t, const char *found) {
    assert_int_equal(open_first(t, 0), HEARTH_E_CHANGED);
    assert_string_equal(t->err.file, at(t, "m/a"));
    assert_true(*t->err.expected);
    if (!strstr(t->err.found, found))
        fail_msg("%s", t->err.found);
}

static void a_changed_file_is_refused_with_what_changed(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    tree_file(t, "other", "content");
    assert_int_equal(resolve(t, "m"), 0);
    tree_file(t, "m/a", "longer content");
    assert_changed(t, "14 bytes");

    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(utimes(at(t, "m/a"), (struct timeval[2]){{1, 0}, {1, 0}}), 0);
    assert_changed(t, "1000000000");

    assert_int_equal(resolve(t, "m"), 0);
    usleep(20000); /* the kernel's clock for files moves in ticks */
    assert_int_equal(chmod(at(t, "m/a"), 0600), 0);
    assert_changed(t, "");
    assert_non_null(strstr(t->err.expected, "status change"));

    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(rename(at(t, "other"), at(t, "m/a")), 0);
    assert_changed(t, "another file");
}

static void a_file_that_somebody_still_writes_is_refused(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    int writer = open(at(t, "m/a"), O_RDWR | O_CLOEXEC);
    assert_true(writer >= 0);
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(open_first(t, 0), HEARTH_E_CHANGED);
    assert_string_equal(t->err.file, at(t, "m/a"));
    assert_true(*t->err.hint);
    /* What it has mapped it writes still. */
    char *mapped = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
    assert_true(mapped != MAP_FAILED);
    close(writer);
    assert_int_equal(open_first(t, 0), HEARTH_E_CHANGED);
    munmap(mapped, 7);
    /* Readers are no harm, and nobody who comes to write is made to wait. */
    int reader = open(at(t, "m/a"), O_RDONLY | O_CLOEXEC), fd = -1;
    assert_true(reader >= 0);
    assert_int_equal(artifact_open(t->artifact, 0, 0, &fd, &t->err), 0);
    writer = open(at(t, "m/a"), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(writer >= 0);
    close(writer);
    close(reader);
    close(fd);
}

static void what_was_put_in_its_place_is_not_opened(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    tree_file(t, "secret", "content");
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(unlink(at(t, "m/a")), 0);
    assert_int_equal(open_first(t, 0), HEARTH_E_NOT_FOUND);
    assert_string_equal(t->err.file, at(t, "m/a"));
    tree_link(t, "m/a", "../secret");
    assert_int_equal(open_first(t, 0), HEARTH_E_CHANGED);
    assert_int_equal(unlink(at(t, "m/a")), 0);
    tree_link(t, "m/a", "a");
    assert_int_equal(open_first(t, 0), HEARTH_E_CHANGED);
    assert_int_equal(unlink(at(t, "m/a")), 0);
    assert_int_equal(mkfifo(at(t, "m/a"), 0600),
                     0); /* must not wait for a writer; it may have got the inode's number */
    assert_changed(t, "");
}

static void the_directory_may_move_meanwhile(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/a", "content");
    assert_int_equal(resolve(t, "m"), 0);
    assert_int_equal(rename(at(t, "m"), at(t, "n")), 0);
    assert_int_equal(open_first(t, 0), 0);
}

/* Runs f in a process of an ordinary user, or as we are when we are one; returns what it returned. */
static int as_ordinary_user(struct tree *t, int (*f)(struct tree *)) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
            _exit(125);
        _exit(f(t));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int resolve_m(struct tree *t) {
    int r = resolve(t, "m");
    return r == HEARTH_E_DENIED && strcmp(t->err.file, at(t, "m/closed")) != 0 ? 126 : r;
}

static int open_m(struct tree *t) {
    int r = resolve(t, "m");
    r = r ? r : open_first(t, 0);
    return r == HEARTH_E_DENIED && strcmp(t->err.file, at(t, "m/closed")) != 0 ? 126 : r;
}

static void what_may_not_be_read_is_denied_by_name(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/closed", "1");
    assert_int_equal(as_ordinary_user(t, open_m), 0);
    assert_int_equal(chmod(at(t, "m/closed"), 0), 0);
    assert_int_equal(as_ordinary_user(t, open_m), HEARTH_E_DENIED);
    assert_int_equal(unlink(at(t, "m/closed")), 0);
    tree_file(t, "m/a", "1");
    tree_file(t, "m/closed/b", "1");
    assert_int_equal(as_ordinary_user(t, resolve_m), 0);
    assert_int_equal(chmod(at(t, "m/closed"), 0), 0);
    assert_int_equal(as_ordinary_user(t, resolve_m), HEARTH_E_DENIED);
    assert_int_equal(chmod(at(t, "m/closed"), 0755), 0);
}

enum { CANNOT_MOUNT = 77 };

/* In a mount namespace of its own, so that nothing is left mounted. */
static int resolve_over_a_mount(struct tree *t) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", at(t, "m/mounted"), "tmpfs", 0, "size=1m") < 0)
        return CANNOT_MOUNT;
    tree_file(t, "m/mounted/a", "123");
    int r = resolve(t, "m");
    if (r)
        return r;
    const struct artifact *a = t->artifact;
    if (strcmp(files_of(t), "b mounted/a") != 0 || a->files[0].identity.device == a->files[1].identity.device)
        return 78;
    int fd;
    return artifact_open(a, 1, 0, &fd, &t->err);
}

static void a_mount_point_inside_is_part_of_it(void **state) {
    struct tree *t = *state;
    tree_file(t, "m/b", "1");
    tree_file(t, "m/mounted/hidden", "1");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(resolve_over_a_mount(t));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT_MOUNT) {
        print_message("this user cannot mount anything\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        tree_test(a_file_is_opened_for_reading_alone),          tree_test(direct_io_is_kept_or_said_to_be_unsupported),
        tree_test(a_changed_file_is_refused_with_what_changed), tree_test(a_file_that_somebody_still_writes_is_refused),
        tree_test(what_was_put_in_its_place_is_not_opened),     tree_test(the_directory_may_move_meanwhile),
        tree_test(what_may_not_be_read_is_denied_by_name),      tree_test(a_mount_point_inside_is_part_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
