/* cli/top.c: hearth top
 *
 * On a terminal it takes the other screen, redraws once an interval, and gives everything back whatever ends it: 'q',
 * a signal, or a daemon that has gone. Elsewhere it prints one frame and ends, so that it can be piped.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/top.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/error.h"

#define ENTER "\x1b[?1049h\x1b[?25l" /* the other screen, without a cursor */
#define LEAVE "\x1b[?25h\x1b[?1049l"
#define INTERVAL_NS NS_PER_S

struct screen {
    bool taken;
    struct termios former;
    bool reads_keys;
    int signals; /* a signalfd */
};

static void screen_take(struct screen *s) {
    struct termios raw;
    s->reads_keys = tcgetattr(STDIN_FILENO, &s->former) == 0;
    if (s->reads_keys) {
        raw = s->former;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* ISIG stays: Ctrl-C is a signal */
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs(ENTER, stdout);
    fflush(stdout);
    s->taken = true;
}

static void screen_give_back(struct screen *s) {
    if (!s->taken)
        return;
    fputs(LEAVE, stdout);
    fflush(stdout);
    if (s->reads_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &s->former);
    s->taken = false;
}

/* Beside what ends a wait: a window that changes its size, and Ctrl-Z. */
static int catch_signals(struct screen *s, struct hearth_error *err) {
    sigset_t set;
    s->signals = catch_interrupts(NULL, err);
    if (s->signals < 0)
        return (int)err->code;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGTSTP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return signalfd(s->signals, &set, 0) < 0 ? error_errno(err, errno, "cannot wait for signals") : 0;
}

static void sample_deinit(struct top_sample *s) {
    free(s->artifacts);
    *s = (struct top_sample){0};
}

static int sample_take(struct cli *c, struct hearth *h, struct top_sample *out, struct hearth_error *err) {
    c->deadline = hearth_deadline_in(c->verb->timeout_ns / NS_PER_MS); /* of each frame */
    int r = hearth_get_status(h, c->deadline, &out->status, err);
    if (r == 0)
        r = cli_list(c, h, &out->artifacts, &out->n_artifacts, err);
    out->at_ns = clock_now();
    return r;
}

/* A frame over the last one: each line is erased behind its end, and what is below the last. */
static void draw(struct top_sample *now, const struct top_sample *former) {
    struct winsize w = {0};
    char *text = NULL;
    size_t size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 1;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    top_frame(now, former, known ? w.ws_col : 80, known ? w.ws_row - 1u : 23, f);
    fclose(f);
    fputs("\x1b[H", stdout);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        printf("%.*s\x1b[K\r\n", (int)(end - line), line);
    fputs("\x1b[J", stdout);
    fflush(stdout);
    free(text);
}

/* False: it is over. */
static bool take_signal(struct cli *c, struct screen *s) {
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof(info)) != sizeof(info) || info.ssi_signo == SIGWINCH)
        return true;
    if (info.ssi_signo == SIGTSTP) {
        screen_give_back(s);
        raise(SIGSTOP);
        screen_take(s);
        return true;
    }
    if (info.ssi_signo != SIGINT) /* which is how one leaves */
        c->status = 128 + (int)info.ssi_signo;
    return false;
}

/* Waits for the next frame's time, or what makes one at once. False: it is over. */
static bool wait_for_next(struct cli *c, struct hearth *h, struct screen *s, uint64_t until) {
    struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN},
                           {.fd = s->reads_keys ? STDIN_FILENO : -1, .events = POLLIN},
                           {.fd = hearth_fd(h), .events = POLLIN}}; /* its hang-up is met by the next request */
    char key;
    if (poll(fds, 3, clock_poll_ms(until)) <= 0)
        return true;
    if (fds[0].revents)
        return take_signal(c, s);
    return !fds[1].revents || (read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q');
}

static int watch(struct cli *c, struct hearth *h, struct screen *s, struct hearth_error *err) {
    struct top_sample former = {0};
    for (;;) {
        struct top_sample now = {0};
        int r = sample_take(c, h, &now, err);
        if (r == 0)
            draw(&now, former.at_ns ? &former : NULL);
        sample_deinit(&former);
        former = now;
        uint64_t next = clock_now() + (c->options.interval_ns ? c->options.interval_ns : INTERVAL_NS);
        if (r == 0 && wait_for_next(c, h, s, next))
            continue;
        sample_deinit(&former);
        return r;
    }
}

static int top(struct cli *c, struct hearth_error *err) {
    _cleanup_(cleanup_connection) struct hearth *h = NULL;
    if (c->options.json) {
        error_set(err, HEARTH_E_INVALID, "top draws for people");
        error_hint(err, "hearth status --json, and hearth ls --json");
        return HEARTH_E_INVALID;
    }
    int r = cli_connect(c, false, &h, err);
    if (r != 0)
        return r;
    if (isatty(STDOUT_FILENO) != 1) {
        struct top_sample now = {0};
        r = sample_take(c, h, &now, err);
        if (r == 0)
            top_frame(&now, NULL, UINT_MAX, UINT_MAX, stdout);
        sample_deinit(&now);
        return r;
    }
    struct screen s = {.signals = -1};
    r = catch_signals(&s, err);
    if (r == 0) {
        screen_take(&s);
        r = watch(c, h, &s, err);
        screen_give_back(&s);
    }
    close_fd(s.signals);
    return r;
}

const struct verb verb_top = {
    .name = "top",
    .operands = "",
    .summary = "Watch what the daemon holds and loads",
    .about = "Redraws once a second until 'q' or Ctrl-C. Where stdout is no terminal, prints one frame.",
    .examples = "  hearth top\n"
                "  hearth top --interval 200ms\n",
    .options = OPTIONS_DAEMON | OPTION_INTERVAL,
    .timeout_ns = 30 * NS_PER_S,
    .run = top,
};
