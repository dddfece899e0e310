/*
 * output.h - where an answer goes: standard output, or a file that appears whole or not
 * at all.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <stddef.h>

/* Makes sure that descriptors 0 to 2 exist, so that nothing else gets their numbers.
 * Reads from and writes to one that was closed fail. Returns 0 or -errno. */
int output_guard_standard(void);

/* Writes all of it to standard output. Returns 0 or -errno. SIGPIPE must be ignored. */
int output_write_standard(const char *bytes, size_t len);

/* Replaces the file at path, or creates it, with mode 0644: written aside in the same
 * directory, fsync'ed, renamed. Readers see the old file or the new one. Returns 0 or
 * -errno, with nothing left behind; -EINVAL if there is something at path that is not a
 * regular file (a symbolic link is not followed: it would be replaced). */
int output_write_file(const char *path, const char *bytes, size_t len);

#endif
