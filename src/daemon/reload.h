/*
 * reload.h - take a changed configuration into force, all or nothing. SIGHUP and `portctl
 * reload` are the same. Main thread only.
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include <stdio.h>

struct daemon;

/* Loads the configuration again and puts it into force, or changes nothing. The verdict
 * goes to the log, to STATUS= (a failure stays there until a reload succeeds), and as the
 * control protocol has it to `answer`, which may be NULL. Returns 0, or 1 if it was
 * rejected. */
int reload_run(struct daemon *d, FILE *answer);

#endif
