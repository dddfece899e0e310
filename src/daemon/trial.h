/*
 * trial.h - what a start would run into, found out without starting: a start that would fail says
 * so before it has taken anything, and `portd -t` says the same.
 */
#ifndef DAEMON_TRIAL_H
#define DAEMON_TRIAL_H

#include <stdio.h>

#include "daemon/daemon.h"

/* Memory and tables, for the budget in d; while the process has one thread. Returns 0, or
 * EXIT_SYSTEM after a line of the log. */
int trial_run(const struct daemon *d);

/* The listener, for -t: a line in `warnings` if [listener] address could not be bound now. The port
 * itself is not taken, so one that is in use is found by a start only. */
void trial_listener(const struct daemon *d, FILE *warnings);

#endif
