/*
 * fdtable.h - descriptor tables: one of a thread's own, and the descriptor kept back for
 * the moment when there is none.
 *
 * EMFILE compares the lowest free descriptor number with RLIMIT_NOFILE, ENFILE counts
 * open files of the whole system (open(2), fs/file.c). So a kept descriptor is an open
 * file of its own, not a dup, and at a low number.
 */
#ifndef NET_FDTABLE_H
#define NET_FDTABLE_H

#include <stdbool.h>
#include <stddef.h>

/* Gives the calling thread a descriptor table of its own that has only the n descriptors
 * of keep, under the same numbers (unshare(2), or close_range(2) with CLOSE_RANGE_UNSHARE
 * where that is forbidden). keep is sorted in place; negative numbers in it are passed
 * over. Returns 0 or -errno. */
int fdtable_make_private(int *keep, size_t n);
/* Would that be allowed? To be called while the process has one thread: then it changes
 * nothing. Returns 0 or -errno. */
int fdtable_try_private(void);

/* Descriptors that are kept back are lent out by closing them for a moment. In a table of
 * several threads another could take the place in that moment: so whoever lends or looks
 * for one out of need does it under this lock. Ordinary accepts do not take it, but keep
 * off while something is lent (fdtable_enter), and nothing is lent before those that are
 * under way are over.
 *
 * Nobody waits for a thread that has stalled under it: after 5 ms fdtable_lock returns
 * without the lock, at once for all others who come meanwhile, and the caller goes on as
 * if it had it. Then too another thread may be quicker. A thread with a table of its own
 * (fdtable_make_private) has nobody to exclude and takes no lock. fdtable_unlock gives
 * back what the same thread's fdtable_lock has got, if anything. Not to be nested. */
void fdtable_lock(void);
void fdtable_unlock(void);

/* Called under the lock, before something of the caller's is closed for something else that
 * is to take its place. Until fdtable_unlock the table counts as full for everybody else.
 * Waits for who has entered, at most 5 ms, and not again for those who stay longer. Does
 * nothing without the lock. */
void fdtable_lend(void);
/* Before and after a call that takes a descriptor from who lends one. false: somebody does,
 * and the table is as good as full; then there is nothing to leave. Always true in a table
 * of the caller's own. Any thread; not to be nested. */
bool fdtable_enter(void);
void fdtable_leave(void);
/* So many descriptors that are to be kept back for the main thread are missing (0: none):
 * they come before new connections, kept_probe says. */
void fdtable_want(unsigned n);
/* How many. 0 in a table of the caller's own. Any thread. */
unsigned fdtable_wanted(void);

/* One descriptor kept back. -1 while it is lent out and no other could be opened. */
struct kept {
	/* written by its thread only; others may look whether it is there */
	_Atomic int fd;
};

/* kept_refill, kept_probe and kept_accept take fdtable_lock themselves. */

/* Opens it, if it is not open. Returns 0 or -errno (EMFILE, ENFILE: still short). */
int kept_refill(struct kept *kept);
/* Is a descriptor to be had beside the kept one, and beside those that are wanted? Refills
 * first. Returns 0 or -errno. */
int kept_probe(struct kept *kept);
void kept_close(struct kept *kept);

/* Accepts a connection in the kept descriptor's place: close, accept4, and, if nothing
 * was accepted, open again. In a table of several threads another one may take the place
 * in between; then this fails with EMFILE and the connection stays in the queue. Returns
 * 0 and the new socket (non-blocking, close-on-exec), or -errno of accept4. */
int kept_accept(struct kept *kept, int listen_fd, int *ret_fd);

/* Moves the socket fd, which sits at a lower number than the kept descriptor, to a higher
 * one and the kept descriptor to its place. Nothing moves if there is no third number for
 * the exchange. Returns the number of the socket from now on. */
int kept_swap_low(struct kept *kept, int fd);

#endif
