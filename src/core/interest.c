/*
 * interest.c - see interest.h.
 *
 * Invariant: w->listen is what the epoll set has.
 */
#include "core/interest.h"

void worker_listen(struct worker *w, enum worker_listen how)
{
	static const uint32_t events[] = {
	        [WORKER_LISTEN_SHARED] = EPOLLIN | EPOLLEXCLUSIVE,
	        [WORKER_LISTEN_SOLE] = EPOLLIN,
	        [WORKER_LISTEN_EDGE] = EPOLLIN | EPOLLET,
	};
	if (w->listen == how)
		return;
	if (w->listen != WORKER_LISTEN_OFF)
		loop_remove(&w->loop, &w->listener);
	w->listen = WORKER_LISTEN_OFF;
	/* epoll_ctl may want memory; then the next pulse tries again. */
	if (how != WORKER_LISTEN_OFF &&
	        loop_add(&w->loop, &w->listener, events[how]) == 0)
		w->listen = how;
}

void worker_block(struct worker *w, enum worker_block why)
{
	w->blocked |= why;
	worker_listen(w, WORKER_LISTEN_OFF);
}

void worker_unblock(struct worker *w, enum worker_block why)
{
	w->blocked &= ~(unsigned)why;
	if (w->blocked == 0)
		worker_listen(w, WORKER_LISTEN_SHARED);
}

bool worker_is_able(const struct worker *w)
{
	return !atomic_load(&w->stalled) && !atomic_load(&w->paused) &&
	       !admit_is_short(&w->port->admit, w->id);
}
