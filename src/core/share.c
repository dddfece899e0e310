/*
 * share.c - the even shares of the workers.
 *
 * Invariants:
 *   - A worker that leaves for having more than its share hands its look at the queue to a
 *     peer: with EPOLLEXCLUSIVE the wake-up that it got was perhaps the only one.
 *   - Whoever is out looks again after a pause, and comes back where nobody else takes the
 *     work: a peer that should may have stalled.
 */
#include "core/share.h"

#include "base/clock.h"
#include "core/interest.h"
#include "core/wakeup.h"
#include "core/worker.h"

#define SHARE_PAUSE_FIRST (10 * CLOCK_MSEC)
#define SHARE_PAUSE_MAX   (640 * CLOCK_MSEC)

struct worker *share_able_peer(struct worker *w)
{
	struct port *port = w->port;
	struct worker *best = NULL;
	for (unsigned i = 0; i < port->n_workers; i++) {
		struct worker *peer = &port->workers[i];
		if (peer == w || !worker_is_able(peer) ||
		        !admit_can_take(&port->admit, i))
			continue;
		if (!best ||
		        atomic_load(&peer->conns.open) < atomic_load(&best->conns.open))
			best = peer;
	}
	return best;
}

void share_ask_to_look(struct worker *peer)
{
	atomic_store(&peer->look, true);
	worker_kick(peer);
}

/* Open connections of the emptiest peer that could accept; UINT32_MAX if none could. */
static uint32_t least_open(struct worker *w)
{
	struct worker *peer = share_able_peer(w);
	return peer ? atomic_load(&peer->conns.open) : UINT32_MAX;
}

uint32_t share_left(struct worker *w)
{
	uint32_t open = atomic_load_explicit(&w->conns.open, memory_order_relaxed);
	if (w->port->n_workers < 2 || open < WORKER_SHARE_MIN)
		return WORKER_SHARE_MIN;
	uint32_t limit = worker_share_limit(least_open(w));
	return open < limit ? limit - open : 0;
}

/* w accepts nothing while it is out, so this grows only by what others accept. */
static uint64_t accepted_by_all(const struct port *port)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		sum += counters_get(&port->workers[i].counters, COUNTER_ACCEPTED);
	return sum;
}

void share_leave(struct worker *w)
{
	w->share_pause = SHARE_PAUSE_FIRST;
	w->share_until = w->now + w->share_pause;
	w->share_seen = accepted_by_all(w->port);
	worker_block(w, WORKER_BLOCK_SHARE);
	struct worker *peer = share_able_peer(w);
	if (peer)
		share_ask_to_look(peer);
	else
		worker_unblock(w, WORKER_BLOCK_SHARE);
}

void share_rejoin(struct worker *w)
{
	if (share_left(w) == 0) {
		if (w->now < w->share_until)
			return;
		struct listener_queue queue = {0};
		(void)listener_read_queue(w->port->listen_fd, &queue);
		/* Only where nobody else has accepted since, or those who are merely slow to
		 * get a CPU would end up with less. */
		uint64_t seen = accepted_by_all(w->port);
		w->eager = queue.depth > 0 && seen == w->share_seen;
		w->share_seen = seen;
		if (!w->eager) {
			if (queue.depth == 0 && w->share_pause < SHARE_PAUSE_MAX)
				w->share_pause *= 2;
			w->share_until = w->now + w->share_pause;
			return;
		}
	}
	worker_unblock(w, WORKER_BLOCK_SHARE);
}
