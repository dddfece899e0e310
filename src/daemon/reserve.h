/*
 * reserve.h - descriptors kept back, so that the main thread can still open something
 * when the process, or the machine, has none left.
 *
 * With fd_table = shared, and at ENFILE, a control client or a configuration file could
 * not be opened just when the operator needs it most. Each place holds an open file of
 * its own on /dev/null: a dup would free a number but no file, which ENFILE counts.
 *
 * Main thread only, and what closes or opens under fdtable_lock (net/fdtable.h): from
 * before something is lent until what was opened instead is there, or the place is filled
 * again. What is missing comes before new connections (fdtable_want).
 *
 * A reload reads its files under that lock, each before it opens the next: to open all
 * first would take as many descriptors as there are files, just when there are none.
 * Workers do not wait for that longer than fdtable_lock lets them.
 */
#ifndef DAEMON_RESERVE_H
#define DAEMON_RESERVE_H

#include <stdbool.h>

#define RESERVE_SIZE 4U
/* Kept from control clients: the configuration and its drop-in directory for a reload. */
#define RESERVE_RELOAD 2U

struct reserve {
	int fd[RESERVE_SIZE]; /* -1: lent out, or lost to a worker meanwhile */
};

/* Empty: nothing is kept back. */
void reserve_init(struct reserve *r);

/* Opens /dev/null for every empty place, as far as it goes. Call it again whenever a
 * descriptor may have come free. Returns how many places are still empty. */
unsigned reserve_fill(struct reserve *r);

/* True if n descriptors are not to be had without the reserve. A hint: they may be gone a
 * moment later. */
bool reserve_is_needed(unsigned n);

/* How many descriptors are kept back now. */
unsigned reserve_available(const struct reserve *r);

/* Closes up to n of them, low places first, so that as many can be opened. A worker
 * that is accepting at that moment may be quicker: the caller must bear that. Returns how many were closed. */
unsigned reserve_lend(struct reserve *r, unsigned n);

/* Closes all. */
void reserve_close(struct reserve *r);

#endif
