/*
 * start.h - what comes before the port is open, step by step, each saying what is wrong
 * and what helps. Main thread only.
 *
 * Each step returns 0, or the code to exit with (options.h) after saying why on stderr.
 */
#ifndef DAEMON_START_H
#define DAEMON_START_H

#include <stdio.h>

#include "core/service.h"
#include "daemon/daemon.h"
#include "daemon/options.h"

/* Makes sure that 0, 1 and 2 are open: no socket may take their place and be written to
 * as one of them. To be called first. */
int start_standard_fds(void);

/* Loads the configuration and finds its service and group. Every mistake is a line on
 * stderr. options and services (NULL at the end, at most DAEMON_SERVICES_MAX) must
 * outlive d. */
int start_load(struct daemon *d, const struct options *options,
        const struct service *const *services);

/* Says that a signal to stop has come before there was anything to stop. Returns EXIT_STOPPED. */
int start_end_early(void);

/* Probes the machine and computes the budget. */
int start_compute(struct daemon *d);

/* What -T and -t ask for, the configuration on stdout, the verdict on stderr. */
int start_print(const struct daemon *d);
int start_say_fine(const struct daemon *d);

/* What must be done before any thread exists: signals, the environment, the descriptor
 * limit, which is raised to what the budget needs and never lowered. */
int start_process(struct daemon *d);

/* Listener, port and workers: what they open has low numbers. */
int start_port(struct daemon *d);

/* The main thread's own: reserve, event loop, control socket. */
int start_main_thread(struct daemon *d);

/* listen(2), and one line that says how many connections there may be and what binds
 * them. */
int start_open_port(struct daemon *d);

#endif
