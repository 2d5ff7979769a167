/* cli/table.h: columns for people.
 *
 * Cells are added row by row, left to right; the first row is the heading when one is wanted. Columns are as wide as
 * their widest cell, counted in characters; nothing is cut. Cells are made printable as they are added, so that a name
 * from a file cannot move the cursor.
 *
 * Thread rule: one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct table;

/* `alignment`: one letter a column, 'l' or 'r'. Aborts when there is no memory. */
struct table *table_new(const char *alignment);
void table_cell(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_cell_n(struct table *t, const char *text, size_t length);
/* A size with its unit, "4.0 GiB". */
void table_size(struct table *t, unsigned long long bytes);
/* An artifact's state, and what is worth knowing of it: "resident, stale", "queued for memory, background". */
struct hearth_info;
void table_state(struct table *t, const struct hearth_info *info);
/* Two columns between every two, `indent` before the first; no blanks at the ends of lines. */
void table_print(const struct table *t, unsigned indent, FILE *out);
/* Returns NULL. */
struct table *table_free(struct table *t);

static inline void cleanup_table(struct table **t) {
    table_free(*t);
}
#define _cleanup_table_ __attribute__((cleanup(cleanup_table)))
