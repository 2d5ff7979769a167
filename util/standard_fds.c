/* util/standard_fds.c: see standard_fds.h. */
#include "util/standard_fds.h"

#include <fcntl.h>
#include <unistd.h>

void standard_fds_fill(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        int filled = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* the lowest free number: this one */
        if (filled < 0)
            return; /* no /dev: as before, then */
    }
}
