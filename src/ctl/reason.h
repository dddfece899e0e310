/*
 * reason.h - why there is no answer, in words.
 */
#ifndef CTL_REASON_H
#define CTL_REASON_H

#include <stddef.h>

/* One line, without its newline, for an outcome of client_ask other than 0. err is the errno that
 * it left, timeout_s what it was given. Cut to size. */
void reason_format(const char *path, int outcome, int err, unsigned timeout_s, char *buf,
        size_t size);

#endif
