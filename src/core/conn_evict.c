/*
 * conn_evict.c - which connection goes when another needs its room.
 *
 * Invariant: none is closed that has been idle for less than it was asked for, by what its socket says.
 */
#include "core/conn.h"

#include "base/clock.h"
#include "base/own.h"
#include "core/worker.h"

/* Connections to look at for one to evict. */
#define CONN_EVICT_LOOKS 64

/* The OPEN connection that has been idle longest, or NULL: the first of a list, for each is in order
 * of time. */
static struct conn *idlest(const struct worker *w)
{
	struct list *silent = list_first(&w->conns.silent[0]);
	struct list *talking = list_first(&w->conns.talking[0]);
	struct conn *a = silent ? container_of(silent, struct conn, timer) : NULL;
	struct conn *b = talking ? container_of(talking, struct conn, timer) : NULL;
	if (a && b)
		return a->active <= b->active ? a : b;
	return a ? a : b;
}

uint64_t conn_idlest(const struct worker *w)
{
	const struct conn *conn = idlest(w);
	return conn ? conn->active : CLOCK_INFINITY;
}

bool conn_evict(struct worker *w, uint64_t idle)
{
	for (unsigned i = 0; i < CONN_EVICT_LOOKS; i++) {
		struct conn *conn = idlest(w);
		if (!conn || w->now < clock_add(conn->active, idle))
			return false;
		if (!conn_has_moved(conn)) {
			conn_close(conn, CLOSE_EVICTED);
			return true;
		}
		conn_touch(conn, true);
	}
	return false;
}
