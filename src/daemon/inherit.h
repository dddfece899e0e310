/*
 * inherit.h - the listener that outlives this process: taken over from the service manager at
 * start, and given into its keeping.
 *
 * It comes by $LISTEN_FDS (sd_listen_fds(3)), from one of two places:
 *
 *   a socket unit     somebody else has bound it and will keep it: it wins over [listener]
 *                     address, with a warning if they differ, and is not stored;
 *   the store         an earlier portd has bound it and stored it under INHERIT_NAME
 *                     (FDSTORE=1, sd_pid_notify_with_fds(3)). If its address is not the configured
 *                     one any more it is dropped, and the configured one bound.
 *
 * Main thread only, and before any other thread runs but for inherit_store.
 */
#ifndef DAEMON_INHERIT_H
#define DAEMON_INHERIT_H

struct daemon;

/* What portd calls its own listener in the descriptor store. */
#define INHERIT_NAME "portd-listener"

enum listener_origin {
	LISTENER_BOUND,  /* by this process */
	LISTENER_STORED, /* by an earlier one */
	LISTENER_SOCKET  /* from a socket unit */
};

/* Finds out what was handed over. Descriptors are handed over by their numbers alone, from 3 on: call it
 * before anything of portd's own could have such a number. $LISTEN_* are gone afterwards. */
void inherit_take(struct daemon *d);

/* Judges what inherit_take has found, once. Fills d->listen_fd, d->address and d->origin if there is a listener to be used, else leaves d->listen_fd at -1; one
 * that is not to be used any more goes to d->stale_fd. Returns 0, or the code to exit with after
 * saying why: more than one socket, or one that is no TCP listener. */
int inherit_listener(struct daemon *d);

/* Forgets what inherit_take has found, if nobody has judged it. */
void inherit_forget(struct daemon *d);

/* The stale one stands in the way of binding: stops its listening. Returns 0, or 1 if there is none. */
int inherit_retire(struct daemon *d);

/* The port is open: gives the listener into the manager's keeping, where that is wanted and has not
 * been done, and has what is stale forgotten. Call it again with every tick: what could not be sent
 * is sent then. */
void inherit_store(struct daemon *d);

#endif
