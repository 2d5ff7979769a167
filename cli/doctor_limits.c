/* cli/doctor_limits.c: open files, and the state directory. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "util/state_dir.h"
#include "util/text.h"

#define FEW_DESCRIPTORS 256u
#define SOME_DESCRIPTORS 16384u
#define LITTLE_STATE_BYTES (UINT64_C(16) << 20)

void check_descriptors(struct doctor *d, uint64_t soft, uint64_t hard) {
    enum level level = hard < FEW_DESCRIPTORS ? LEVEL_PROBLEM : hard < SOME_DESCRIPTORS ? LEVEL_WARNING : LEVEL_OK;
    struct finding *f;
    if (hard == UINT64_MAX) {
        finding_add(d, "open files", LEVEL_OK, "no limit");
        return;
    }
    f = finding_add(d, "open files", level, "at most %" PRIu64 " (soft limit %" PRIu64 ", which hearthd raises)", hard,
                    soft);
    if (level == LEVEL_OK)
        return;
    finding_cost(f, "hearthd holds one for each file of each artifact: about %" PRIu64 " files", hard - hard / 4);
    finding_mend(f, "LimitNOFILE=524288 in the unit, docker run --ulimit nofile=524288, or /etc/security/limits.conf");
}

/* The first directory at or above `path` that is there; cuts it. */
static bool existing(char *path, struct stat *st) {
    while (stat(path, st) < 0) {
        char *slash = strrchr(path, '/');
        if (errno != ENOENT || !slash || slash == path)
            return false;
        *slash = '\0';
    }
    return true;
}

void check_locking(struct doctor *d, uint64_t memlock) {
    char size[16];
    /* Reads register no buffers, whose pins would keep blobs from being sealed: it is only about swap. */
    if (memlock == UINT64_MAX)
        finding_add(d, "locked memory", LEVEL_OK, "no limit");
    else
        finding_add(d, "locked memory", LEVEL_OK, "at most %s", format_size(memlock, size, sizeof(size)));
}

void check_state_directory(struct doctor *d) {
    char path[PATH_MAX], free_bytes[16];
    state_dir_default(false, path, sizeof(path));
    if (path[0] != '/') {
        struct finding *f = finding_add(d, CHECK_STATE, LEVEL_WARNING, "there is no $XDG_STATE_HOME and no $HOME");
        finding_cost(f, "pins, records and history do not survive a restart");
        finding_mend(f, "export XDG_STATE_HOME=DIRECTORY, or state-dir = DIRECTORY in hearthd.conf");
        return;
    }
    char *whole = strdup(path);
    struct stat st;
    struct statvfs fs;
    if (!whole)
        abort();
    if (!existing(path, &st) || !S_ISDIR(st.st_mode) || access(path, W_OK | X_OK) < 0) {
        struct finding *f = finding_add(d, CHECK_STATE, LEVEL_WARNING, "%s cannot be written", whole);
        finding_cost(f, "pins, records and history do not survive a restart");
        finding_mend(f, "mkdir -p %s && chmod 700 %s", whole, whole);
    } else if (statvfs(path, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < LITTLE_STATE_BYTES) {
        struct finding *f =
            finding_add(d, CHECK_STATE, LEVEL_WARNING, "%s has only %s left", whole,
                        format_size((uint64_t)fs.f_bavail * fs.f_frsize, free_bytes, sizeof(free_bytes)));
        finding_cost(f, "pins, records and history may not survive a restart");
        finding_mend(f, "df -h %s", path);
    } else {
        finding_add(d, CHECK_STATE, LEVEL_OK, "%s%s", whole,
                    strcmp(path, whole) == 0 ? "" : ", which hearthd will make");
    }
    free(whole);
}
