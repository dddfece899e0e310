/*
 * linger.h - a client that has been answered, and is to have the answer for sure: the socket is closed when
 * its client has ended, has sent too much, or the time is over.
 */
#ifndef CORE_LINGER_H
#define CORE_LINGER_H

#include <stdbool.h>

struct conn;
struct worker;

/* conn, OPEN or FREE, has been answered: says so to the client, and waits for its end. */
void conn_begin_linger(struct conn *conn);
/* Lingers on fd, which was shed and answered: takes it over. Without memory it is closed
 * at once. */
void conn_linger_shed(struct worker *worker, int fd);
/* Closes the lingering connection that began first, if its client has all (or if forced).
 * Returns true if there is one less now. */
bool conn_linger_reclaim(struct worker *worker, bool force);

#endif
