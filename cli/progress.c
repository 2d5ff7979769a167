/* cli/progress.c: see progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/text.h"

#define SMOOTHING_S 1.0 /* a sample this long after the last counts as much as all before it */
#define BAR_MAX 40
#define BAR_MIN 8

void progress_init(struct progress *p, bool force, bool quiet) {
    bool terminal = isatty(STDERR_FILENO) == 1;
    *p = (struct progress){.shown = !quiet && (force || terminal), .on_terminal = terminal};
}

void progress_sample(struct progress *p, uint64_t now_ns, uint64_t bytes_done) {
    if (p->at_ns != 0 && now_ns > p->at_ns && bytes_done >= p->bytes) {
        double seconds = (double)(now_ns - p->at_ns) / 1e9;
        double current = (double)(bytes_done - p->bytes) / seconds;
        double weight = p->rate > 0 ? seconds / (seconds + SMOOTHING_S) : 1;
        p->rate += weight * (current - p->rate);
    }
    p->at_ns = now_ns;
    p->bytes = bytes_done;
}

static void time_left(const struct progress *p, const struct hearth_info *info, char *buffer, size_t size) {
    uint64_t left = info->bytes - info->bytes_done;
    double seconds = p->rate > 0 ? (double)left / p->rate : -1;
    if (seconds < 0 || seconds > 359999)
        snprintf(buffer, size, "-:-- left");
    else if (seconds >= 3600)
        snprintf(buffer, size, "%u:%02u:%02u left", (unsigned)seconds / 3600, (unsigned)seconds / 60 % 60,
                 (unsigned)seconds % 60);
    else
        snprintf(buffer, size, "%u:%02u left", (unsigned)(seconds + 0.5) / 60, (unsigned)(seconds + 0.5) % 60);
}

/* What stands right of the bar, or instead of it before bytes flow and after the last. */
static void figures(const struct progress *p, const struct hearth_info *info, char *buffer, size_t size) {
    char done[16], all[16], left[32];
    format_size(info->bytes_done, done, sizeof(done));
    format_size(info->bytes, all, sizeof(all));
    unsigned percent = (unsigned)((double)info->bytes_done * 100 / (double)info->bytes);
    if (info->bytes_done == info->bytes) {
        snprintf(buffer, size, "100%%  %s  verifying", all);
        return;
    }
    time_left(p, info, left, sizeof(left));
    snprintf(buffer, size, "%3u%%  %s of %s  %.2f GB/s  %s", percent, done, all, p->rate / 1e9, left);
}

/* The last part of the reference, short enough to leave room. */
static void title(const struct hearth_info *info, char *buffer, size_t size) {
    const char *slash = strrchr(info->ref, '/');
    const char *name = slash && slash[1] ? slash + 1 : info->ref;
    format_printable(name, strlen(name), buffer, size);
}

char *progress_format(const struct progress *p, const struct hearth_info *info, unsigned columns, char *buffer,
                      size_t size) {
    char name[28], right[96], bar[BAR_MAX + 4] = "";
    title(info, name, sizeof(name));
    bool reading = info->state == HEARTH_STATE_LOADING && info->bytes > 0 && info->bytes_done <= info->bytes;
    if (!reading) {
        char lacks[16] = "", why[64] = "";
        if (info->waits_for == HEARTH_WAIT_MEMORY)
            snprintf(why, sizeof(why), ": others hold %s that it needs",
                     format_size(info->lacks, lacks, sizeof(lacks)));
        else if (info->waits_for)
            snprintf(why, sizeof(why), " for %s", hearth_wait_name(info->waits_for));
        int n = snprintf(buffer, size, "%s  %s%s", name, hearth_state_name(info->state), why);
        if (n > (int)columns)
            buffer[columns] = '\0';
        return buffer;
    }
    figures(p, info, right, sizeof(right));
    size_t used = strlen(name) + 2 + strlen(right) + 3; /* and "[] " */
    size_t room = columns > used ? columns - used : 0;
    if (room > BAR_MAX)
        room = BAR_MAX;
    if (room >= BAR_MIN) {
        size_t full = (size_t)((double)info->bytes_done / (double)info->bytes * (double)room);
        bar[0] = '[';
        memset(bar + 1, '#', full);
        memset(bar + 1 + full, '.', room - full);
        memcpy(bar + 1 + room, "] ", 3);
    }
    snprintf(buffer, size, "%s  %s%s", name, bar, right);
    if (strlen(buffer) > columns) /* too narrow even so: the figures alone */
        snprintf(buffer, size, "%.*s", (int)columns, right);
    return buffer;
}

static unsigned columns_of_terminal(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1u : 79; /* the last would wrap */
}

void progress_show(struct progress *p, const struct hearth_info *info) {
    if (!p->shown)
        return;
    progress_sample(p, clock_now(), info->bytes_done);
    char line[512];
    progress_format(p, info, columns_of_terminal(), line, sizeof(line));
    unsigned length = (unsigned)strlen(line);
    fprintf(stderr, "\r%s%*s", line, p->previous > length ? (int)(p->previous - length) : 0, "");
    fflush(stderr);
    p->previous = length;
    p->drawn = true;
}

void progress_end(struct progress *p) {
    if (p->drawn)
        fputs(p->on_terminal ? "\r\x1b[K" : "\n", stderr);
    p->drawn = false;
}
