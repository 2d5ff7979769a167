/* util/page_reporting.c: see page_reporting.h. */
#include "util/page_reporting.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/kernel_file.h"

#define BALLOON "/sys/bus/virtio/drivers/virtio_balloon"
#define FEATURE_REPORTING 5 /* VIRTIO_BALLOON_F_REPORTING; the file has a digit a feature, 64 or 128 of them */

bool page_reporting(const char *root) {
    char path[PATH_MAX], features[256];
    snprintf(path, sizeof(path), "%s" BALLOON, root);
    _cleanup_closedir_ DIR *devices = opendir(path);
    for (struct dirent *e; devices && (e = readdir(devices));) {
        if (strncmp(e->d_name, "virtio", 6) != 0)
            continue;
        snprintf(path, sizeof(path), "%s" BALLOON "/%s/features", root, e->d_name);
        if (kernel_line(path, features, sizeof(features)) && strlen(features) > FEATURE_REPORTING &&
            features[FEATURE_REPORTING] == '1')
            return true;
    }
    return false;
}
