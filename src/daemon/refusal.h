/*
 * refusal.h - what the system has refused, in words: the cause that holds on this machine, as far
 * as it can be found out, and a remedy that works there.
 *
 * Main thread only: files of /proc are opened for a moment.
 */
#ifndef DAEMON_REFUSAL_H
#define DAEMON_REFUSAL_H

#include "core/limits.h"
#include "net/addr.h"

/* Longest sentence, with its NUL. */
#define REFUSAL_MAX 1024

/* Why addr_resolve, socket(2), bind(2) or listen(2) said err about this address: for a line of its
 * own. Returns buf. */
char *refusal_of_listener(
        const struct addr_named *address, int err, char buf[static REFUSAL_MAX]);

/* The same for private tables (fdtable_try_private), the books of the sources (port_try), and
 * threads (port_start). */
char *refusal_of_tables(int err, char buf[static REFUSAL_MAX]);
char *refusal_of_books(
        const struct budget *budget, int err, char buf[static REFUSAL_MAX]);
char *refusal_of_workers(unsigned workers, int err, char buf[static REFUSAL_MAX]);

#endif
