/*
 * waiter.c - see waiter.h.
 *
 * Invariant: first what is free is to be seen, then the holder is looked for, who looks the other way round
 * (hold.c): none of them misses the other.
 */
#include "core/waiter.h"

#include "core/wakeup.h"
#include "core/worker.h"

void hold_notify(struct worker *w)
{
	int holder = atomic_load(&w->port->hold.holder);
	if (holder == (int)w->id) {
		w->held.again = true;
	} else if (holder != HOLD_NOBODY) {
		struct worker *peer = &w->port->workers[holder];
		atomic_store(&peer->freed, true);
		worker_kick(peer);
	}
}

void worker_give_slot(struct worker *w, bool priority_slot)
{
	if (priority_slot)
		admit_give_priority(&w->port->admit);
	else
		admit_give(&w->port->admit, w->id);
	hold_notify(w);
}
