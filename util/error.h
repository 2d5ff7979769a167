/* util/error.h: making `struct hearth_error` values.
 *
 * error_set() and error_errno() start an error and return its code, so that failing is one statement:
 *
 *     return error_set(err, HEARTH_E_MALFORMED, "the header says %" PRIu64 " bytes", n);
 *
 * error_at(), error_expected(), error_found() and error_hint() add facts to the error just made. All of them accept
 * err == NULL and truncate what does not fit.
 */
#pragma once

#include <stdarg.h>
#include <stdint.h>

#include <hearth/error.h>

#define HEARTH_ERROR_INIT \
    { .offset = HEARTH_NO_OFFSET }

void error_clear(struct hearth_error *err);

/* Returns code. */
int error_set(struct hearth_error *err, enum hearth_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: `sys_errno` (positive) chooses the code, its text is added to the message. */
int error_errno(struct hearth_error *err, int sys_errno, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The code that an errno stands for. */
enum hearth_code error_code_of_errno(int sys_errno);

/* file may be NULL. offset: HEARTH_NO_OFFSET where none applies. */
void error_at(struct hearth_error *err, const char *file, uint64_t offset);
void error_expected(struct hearth_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_found(struct hearth_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_hint(struct hearth_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True for codes that mean "refused": malformed, unsafe, integrity, changed, parser (exit code 4 of the CLI). */
int error_is_refusal(enum hearth_code code);
