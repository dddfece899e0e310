/*
 * accept.c - ACCEPT: when a worker accepts and how many, and what it does when it can take no slot.
 *
 * Invariants:
 *   - A slot is taken before accept4 and given back if nothing was accepted.
 *   - A worker that can take no slot leaves the set at that moment. With EPOLLEXCLUSIVE
 *     the wake-up that it got was perhaps the only one, so it hands the look at the queue
 *     to a peer that can accept, or becomes the holder: nobody is stranded.
 *   - While there is a holder, the others that left for want of a slot stay out: the next
 *     slot is the held client's.
 *   - Everything that keeps a worker out of the set has a time or an event that brings it
 *     back.
 */

#include "base/clock.h"
#include "core/accept_call.h"
#include "core/admission.h"
#include "core/interest.h"
#include "core/judge.h"
#include "core/linger.h"
#include "core/overload.h"
#include "core/share.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/wakeup.h"
#include "core/worker.h"
#include "net/sock.h"

#define ACCEPT_BATCH_MAX    16U
#define ACCEPT_PATIENCE_MAX 32U

/* A newcomer, for which w has a slot, is judged before it is served. */
static void judge_and_admit(struct worker *w, int fd, const struct addr *peer)
{
	struct ticket ticket;
	enum shed_reason reason;
	if (judge_newcomer(w, peer, &ticket, &reason) == 0) {
		worker_admit(w, fd, CLOCK_INFINITY, &ticket);
		return;
	}
	shed(w, fd, sock_is_dead(fd) ? SHED_ABORTED : reason, peer);
	worker_give_slot(w, false);
}

/* Who waits now waits for a slot, not for somebody to look. */
static void step_as_holder(struct worker *w)
{
	(void)burst_look(&w->port->burst, w->now);
	hold_step(w);
}

/* w can take no slot. */
static void leave_full(struct worker *w)
{
	worker_block(w, WORKER_BLOCK_FULL);
	struct worker *peer = share_able_peer(w);
	if (peer)
		share_ask_to_look(peer);
	else if (hold_become(w))
		step_as_holder(w);
}

/* Draining: newcomers are answered at once, without a slot. */
static void accept_to_shed(struct worker *w)
{
	(void)burst_look(&w->port->burst, w->now);
	/* Who comes after the end of it is served. */
	for (unsigned i = 0; i < ACCEPT_BATCH_MAX && port_phase(w->port) == PORT_DRAINING;
	        i++) {
		struct addr peer;
		int fd = -1;
		int r = worker_accept_one(w, false, &fd, &peer);
		if (r == WORKER_ACCEPT_SHORT) {
			(void)conn_linger_reclaim(w, true);
			r = worker_accept_one(w, true, &fd, &peer);
			if (r == WORKER_ACCEPT_SHORT)
				worker_pause(w, ACCEPT_SKIP_PAUSE);
		}
		if (r == 0)
			shed(w, fd,
			        sock_is_dead(fd) ? SHED_ABORTED
			        : !w->config->dry_run && judge_is_denied(w, &peer)
			                ? SHED_DENIED
			                : SHED_DRAINING,
			        &peer);
		else if (r != WORKER_ACCEPT_SKIP)
			break;
	}
}

/* A busy queue is worth asking more than once a turn, but each time that it turns out to be empty
 * has cost as much as a connection's accept: the more often that was so, the more turns in a row have
 * to find all that they ask for before the next one asks for more. */
static void grow_batch(struct worker *w)
{
	if (w->batch > 1 && w->patience > 1)
		w->patience /= 2;
	if (w->batch < ACCEPT_BATCH_MAX && ++w->full_batches >= w->patience) {
		w->batch *= 2;
		w->full_batches = 0;
	}
}

static void shrink_batch(struct worker *w)
{
	w->batch = 1;
	w->full_batches = 0;
	if (w->patience < ACCEPT_PATIENCE_MAX)
		w->patience *= 2;
}

static void accept_batch(struct worker *w)
{
	uint32_t share = w->eager ? ACCEPT_BATCH_MAX : share_left(w);
	unsigned batch = w->batch < share ? w->batch : share;
	uint64_t age, gap = burst_look(&w->port->burst, w->now);
	for (unsigned i = 0; i < batch; i++) {
		if (admit_take(&w->port->admit, w->id) != 0) {
			leave_full(w);
			return;
		}
		struct addr peer;
		int fd = -1;
		int r = worker_accept_one(w, false, &fd, &peer);
		if (r == 0) {
			if (gap > 0 && worker_read_age(w, fd, &age) == 0)
				burst_note_pause(&w->port->burst, gap, age);
			gap = 0;
			judge_and_admit(w, fd, &peer);
			continue;
		}
		worker_give_slot(w, false);
		if (r == WORKER_ACCEPT_SHORT)
			leave_full(w);
		if (r == WORKER_ACCEPT_NOTHING)
			shrink_batch(w);
		if (r != WORKER_ACCEPT_SKIP)
			return;
	}
	grow_batch(w);
}

void worker_accept(struct worker *w)
{
	enum port_phase phase = port_phase(w->port);
	if (phase == PORT_DRAINING && w->blocked == 0)
		accept_to_shed(w);
	if (phase != PORT_OPEN || w->blocked != 0)
		return;
	/* The next slot is the held client's, who has waited longer. */
	if (atomic_load(&w->port->hold.holder) != HOLD_NOBODY) {
		worker_block(w, WORKER_BLOCK_FULL);
		return;
	}

	accept_batch(w);
	/* Out of its turn, one batch is all. */
	w->eager = false;
	if (w->blocked == 0 && share_left(w) == 0)
		share_leave(w);
}

/* w is out for want of a slot. */
static void rejoin_full(struct worker *w)
{
	if (atomic_load(&w->port->hold.holder) != HOLD_NOBODY)
		return;
	if (admit_can_take(&w->port->admit, w->id))
		worker_unblock(w, WORKER_BLOCK_FULL);
	else if (!share_able_peer(w) && !admit_can_take(&w->port->admit, w->id) &&
	         hold_become(w))
		w->held.again = true;
}

void worker_rejoin(struct worker *w)
{
	bool gave = w->gave;
	w->gave = false;
	if ((w->blocked & WORKER_BLOCK_PAUSE) && w->now >= w->paused_until) {
		atomic_store(&w->paused, false);
		worker_unblock(w, WORKER_BLOCK_PAUSE);
		w->held.again = true;
	}
	if (w->blocked & WORKER_BLOCK_SHARE)
		share_rejoin(w);
	if (admit_is_short(&w->port->admit, w->id) && (gave || w->now >= w->retry_at)) {
		(void)worker_check_short(w, gave);
		w->held.again = true;
	}
	if (w->blocked & WORKER_BLOCK_CLOSED)
		return;
	if (w->blocked & WORKER_BLOCK_FULL)
		rejoin_full(w);
	if (hold_is_mine(&w->port->hold, w->id)) {
		if (gave || w->held.again || w->now >= hold_next_deadline(w))
			step_as_holder(w);
	} else {
		hold_abandoned(w);
	}
	if (w->blocked == 0 && w->listen == WORKER_LISTEN_OFF)
		worker_listen(w, WORKER_LISTEN_SHARED);
}

uint64_t worker_next_deadline(const struct worker *w)
{
	uint64_t next = conn_next_deadline(w);
	if (keepalive_deadline(w) < next)
		next = keepalive_deadline(w);
	if ((w->blocked & WORKER_BLOCK_PAUSE) && w->paused_until < next)
		next = w->paused_until;
	if ((w->blocked & WORKER_BLOCK_SHARE) && w->share_until < next)
		next = w->share_until;
	if (admit_is_short(&w->port->admit, w->id) && w->retry_at < next)
		next = w->retry_at;
	/* Also of a holder that was: it may have a client to settle. */
	if (hold_next_deadline(w) < next)
		next = hold_next_deadline(w);
	return next;
}
