/* util/kernel_file.h: the small text files in which the kernel says how it is set: /proc, /sys, control groups.
 *
 * None of them is on storage, so that reading one does not wait for any. What cannot be read is not there: a kernel
 * that is older, or a container that hides it.
 *
 * Thread rule: any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first line, without its newline. False when there is none or it does not fit. */
bool kernel_line(const char *path, char *out, size_t size);
/* A file that holds one number. False when it is not there or is no number ("max"). */
bool kernel_number(const char *path, uint64_t *out);
/* The number behind `key` in a file of "key number" or "key: number" lines; 0 when absent. */
uint64_t kernel_keyed(const char *path, const char *key);
/* Several of them by one reading; what is absent is left as it is. False, with errno, when the file cannot be opened.
 */
bool kernel_keys(const char *path, const char *const *keys, uint64_t *values, size_t n);
/* The word in brackets of a file like "always within_size [never]". */
bool kernel_word(const char *path, char *out, size_t size);
