/* cli/table.c: see table.h. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <hearth/hearth.h>

#include "util/text.h"

struct table {
    const char *alignment;
    size_t columns;
    char **cells;
    size_t n_cells;
};

/* A table that a person reads is small; without memory for it there is nothing better to do. */
static void *or_abort(void *p) {
    if (!p)
        abort();
    return p;
}

struct table *table_new(const char *alignment) {
    struct table *t = or_abort(calloc(1, sizeof(*t)));
    t->alignment = alignment;
    t->columns = strlen(alignment);
    return t;
}

void table_cell_n(struct table *t, const char *text, size_t length) {
    size_t size = 4 * length + 5; /* "\xNN" a byte; format_printable keeps 4 in reserve */
    char *printable = or_abort(malloc(size));
    format_printable(text, length, printable, size);
    t->cells = or_abort(reallocarray(t->cells, t->n_cells + 1, sizeof(*t->cells)));
    t->cells[t->n_cells++] = printable;
}

void table_cell(struct table *t, const char *format, ...) {
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        abort();
    table_cell_n(t, text, (size_t)n);
    free(text);
}

void table_size(struct table *t, unsigned long long bytes) {
    char text[16];
    table_cell(t, "%s", format_size(bytes, text, sizeof(text)));
}

void table_state(struct table *t, const struct hearth_info *a) {
    table_cell(t, "%s%s%s%s%s%s%s", hearth_state_name(a->state), a->waits_for ? " for " : "",
               a->waits_for ? hearth_wait_name(a->waits_for) : "", a->flags & HEARTH_INFO_STALE ? ", stale" : "",
               a->flags & HEARTH_INFO_PINNED ? ", pinned" : "", a->flags & HEARTH_INFO_BACKGROUND ? ", background" : "",
               a->flags & HEARTH_INFO_HELD ? ", held by programs" : "");
}

/* Characters, not bytes: cells are valid UTF-8, whose continuation bytes are 10xxxxxx. */
static size_t width(const char *text) {
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void blanks(size_t n, FILE *out) {
    fprintf(out, "%*s", (int)n, "");
}

void table_print(const struct table *t, unsigned indent, FILE *out) {
    size_t *widths = or_abort(calloc(t->columns + 1, sizeof(*widths)));
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t w = width(t->cells[i]);
        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
    size_t gap = indent;
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->columns;
        size_t space = widths[column] - width(t->cells[i]);
        bool right = t->alignment[column] == 'r';
        if (t->cells[i][0]) { /* blanks are owed until something follows them */
            blanks(gap + (right ? space : 0), out);
            fputs(t->cells[i], out);
            gap = right ? 2 : space + 2;
        } else {
            gap += space + 2;
        }
        if (column + 1 == t->columns || i + 1 == t->n_cells) {
            fputc('\n', out);
            gap = indent;
        }
    }
    free(widths);
}

struct table *table_free(struct table *t) {
    if (t) {
        for (size_t i = 0; i < t->n_cells; i++)
            free(t->cells[i]);
        free(t->cells);
        free(t);
    }
    return NULL;
}
