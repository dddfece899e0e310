/*
 * explain.h - the answer to `portctl explain ADDRESS`: what core/port_explain.h says, in words or as
 * JSON. Main thread only.
 */
#ifndef DAEMON_EXPLAIN_H
#define DAEMON_EXPLAIN_H

#include <stdbool.h>
#include <stdio.h>

struct daemon;

/* address is what was asked for, any text without blanks. */
void explain_answer(struct daemon *d, bool json, const char *address, FILE *out);

#endif
