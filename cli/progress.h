/* cli/progress.h: one line on stderr that is redrawn while an artifact loads.
 *
 *     all-minilm  [############........]  60%  1.2 GiB of 2.0 GiB  2.31 GB/s  0:01 left
 *
 * The rate follows the last seconds rather than the mean, so that the time left is honest when the disk slows down.
 * Formatting is a pure function; only progress_show() and progress_end() write.
 *
 * Thread rule: one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hearth/hearth.h>

struct progress {
    bool shown;       /* the user wants it */
    bool on_terminal; /* it can be erased */
    bool drawn;
    uint64_t at_ns;    /* of the last sample; 0 before the first */
    uint64_t bytes;    /* done at that time */
    double rate;       /* bytes a second, smoothed; 0 while unknown */
    unsigned previous; /* characters of the line now on the screen */
};

/* `force`: also where stderr is not a terminal; `quiet` wins. */
void progress_init(struct progress *p, bool force, bool quiet);
/* Takes a sample into the rate. */
void progress_sample(struct progress *p, uint64_t now_ns, uint64_t bytes_done);
/* The line, at most `columns` characters; the bar takes what is left over. Returns buffer. */
char *progress_format(const struct progress *p, const struct hearth_info *info, unsigned columns, char *buffer,
                      size_t size);
void progress_show(struct progress *p, const struct hearth_info *info);
/* Erases the line from a terminal; elsewhere ends it. */
void progress_end(struct progress *p);
