/*
 * hold.c - the head of the backlog queue. Invariants:
 *
 *   - The holder alone has the listener in its set, or nobody has. Whoever leaves the
 *     listener for want of a slot while there is no holder and no able peer becomes the
 *     holder.
 *   - The holder looks for a slot after it has become the holder; who gives one back
 *     looks for a holder afterwards (admit.h). So no slot stays free while one is held.
 *   - A descriptor accepted in the place of the kept one is given to a service only after
 *     another was opened to be kept: there is always one to answer the next client with.
 *
 * The holder resigns when the queue is empty and there are slots for everybody to accept
 * with; until then it is the only one to accept, and passes connections on to the
 * emptiest worker.
 */
#include "core/hold.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/accept_call.h"
#include "core/admission.h"
#include "core/hold_room.h"
#include "core/interest.h"
#include "core/judge.h"
#include "core/linger.h"
#include "core/overload.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/wakeup.h"
#include "core/worker.h"

/* Steps in one turn before open connections have theirs. */
#define HOLD_BATCH    64
#define HOLD_RETRY_NS (50 * CLOCK_MSEC)
/* Who turns a slot in passing into a connection does not say so. */
#define HOLD_LOOK_NS CLOCK_MSEC

enum step {
	STEP_ON,
	STEP_WAIT
};

static void held_ready(struct watch *watch, uint32_t events)
{
	struct held *held = container_of(watch, struct held, watch);
	/* The watch asks for nothing, so this is an error or a hang-up: the client is
	 * gone. */
	(void)events;
	held->dead = true;
	held->again = true;
}

void hold_init_worker(struct held *held)
{
	*held = (struct held){
	        .watch = {.fd = -1, .ready = held_ready}, .wake_at = CLOCK_INFINITY};
}

bool hold_become(struct worker *w)
{
	int nobody = HOLD_NOBODY;
	return atomic_compare_exchange_strong(&w->port->hold.holder, &nobody, (int)w->id);
}

uint64_t hold_next_deadline(const struct worker *w)
{
	return w->held.again ? 0 : w->held.wake_at;
}

static enum step wait_until(struct worker *w, uint64_t when, enum worker_listen how)
{
	worker_listen(w, how);
	w->held.wake_at = when;
	return STEP_WAIT;
}

static void put(struct worker *w, int fd, uint64_t age, const struct ticket *ticket)
{
	struct held *held = &w->held;
	held->watch.fd = fd;
	held->since = w->now;
	held->age = age;
	held->dead = false;
	held->ticket = *ticket;
	held->evict_tried = false;
	held->peers_asked = false;
	atomic_fetch_add(&w->port->hold.count, 1);
	/* Asks for nothing: EPOLLERR and EPOLLHUP come all the same. */
	(void)loop_add(&w->loop, &held->watch, 0);
}

/* The held client's socket, which is no longer watched; the client still counts as held.
 */
static int take_out(struct worker *w, uint64_t *ret_waited)
{
	struct held *held = &w->held;
	loop_remove(&w->loop, &held->watch);
	*ret_waited = clock_add(held->age, w->now - held->since);
	return TAKE_FD(held->watch.fd);
}

static void shed_held(struct worker *w, enum shed_reason reason)
{
	uint64_t waited;
	int fd = take_out(w, &waited);
	atomic_fetch_sub(&w->port->hold.count, 1);
	if (reason != SHED_ABORTED)
		counters_add_wait(&w->counters, waited);
	shed(w, fd, reason, &w->held.ticket.peer);
	judge_undo(w, &w->held.ticket);
}

/* Holds again what a receiver has not taken yet. */
static bool take_back(struct worker *w)
{
	int fd = -1;
	uint64_t waited = 0;
	struct ticket ticket;
	if (hold_pass_take_back(w, &fd, &waited, &ticket) != 0)
		return false;
	if (fd >= 0)
		put(w, fd, waited, &ticket);
	return true;
}

/* Gives the held client to the owner of a slot that was taken for it. Returns false if it could
 * not be passed on; the slot is given back then. */
static bool give(struct worker *w, unsigned owner)
{
	uint64_t waited;
	if (owner == w->id) {
		int fd = kept_swap_low(&w->kept, take_out(w, &waited));
		atomic_fetch_sub(&w->port->hold.count, 1);
		worker_admit(w, fd, waited, &w->held.ticket);
		return true;
	}
	waited = clock_add(w->held.age, w->now - w->held.since);
	loop_remove(&w->loop, &w->held.watch);
	if (hold_pass_offer(w, w->held.watch.fd, owner, waited, &w->held.ticket,
	            &w->held.offer) < 0) {
		(void)loop_add(&w->loop, &w->held.watch, 0);
		admit_give(&w->port->admit, owner);
		return false;
	}
	w->held.watch.fd = -1;
	w->held.pass_to = owner;
	w->held.pass_until = w->now + HOLD_PASS_NS;
	return true;
}

/* A client is on its way, of which this worker knows. */
static enum step step_passing(struct worker *w)
{
	struct held *held = &w->held;
	bool open = hold_pass_is_open(&w->port->hold, held->offer);
	if (open && w->now < held->pass_until)
		return wait_until(w, held->pass_until, WORKER_LISTEN_OFF);
	held->pass_until = 0;
	/* Once it is being taken it is the receiver's, however long that one needs. */
	if (open && take_back(w))
		atomic_store(&w->port->workers[held->pass_to].stalled, true);
	return STEP_ON;
}

static bool queue_is_high(struct worker *w)
{
	struct listener_queue queue;
	if (port_look_at_queue(w->port, w->now, &queue) < 0)
		return false;
	/* 0: behind the closed gate the queue is as short as can be, on purpose. Asked of the
	 * kernel, as it comes with the depth: a flag of ours would be early or late. */
	return queue.effective > 0 &&
	       (uint64_t)queue.depth * 4 >= (uint64_t)queue.effective * 3;
}

/* When the held client's time runs out, ns. */
static uint64_t held_expiry(const struct worker *w)
{
	const struct held *held = &w->held;
	uint64_t timeout = w->config->queue_timeout;
	uint64_t left = timeout > held->age ? timeout - held->age : 0;
	return timeout == CLOCK_INFINITY ? CLOCK_INFINITY : clock_add(held->since, left);
}

/* Tries to find the held client a slot. */
static bool place_held(struct worker *w)
{
	struct ticket *ticket = &w->held.ticket;
	int owner = hold_room_take(w);
	if (owner >= 0)
		return give(w, (unsigned)owner);
	/* A reload may have changed the list since it was judged. */
	ticket->priority = judge_is_priority(w, &ticket->peer);
	if (!ticket->priority || !hold_room_take_priority(w))
		return false;
	ticket->priority_slot = true;
	return give(w, w->id);
}

static enum step step_held(struct worker *w)
{
	if (w->held.dead) {
		shed_held(w, SHED_ABORTED);
		return STEP_ON;
	}
	if (place_held(w))
		return STEP_ON;
	if (hold_room_is_passing(w) || hold_room_awaits_peers(w))
		return wait_until(w, w->now + HOLD_LOOK_NS, WORKER_LISTEN_OFF);

	bool fds = hold_room_lacks_fds(w);
	port_begin_spell(w, fds ? STATE_CAUSE_FDS : STATE_CAUSE_SLOTS);
	uint64_t expiry = held_expiry(w), room_at;
	bool expired = w->now >= expiry;
	enum hold_room room = hold_room_evict(w, expired, &room_at);
	if (room == HOLD_ROOM_MADE) {
		/* One at a time: at ENFILE somebody else may have been quicker. */
		(void)worker_check_short(w, true);
		return place_held(w)
		               ? STEP_ON
		               : wait_until(w, w->now + HOLD_RETRY_NS, WORKER_LISTEN_OFF);
	}
	if (room == HOLD_ROOM_ASKED)
		return wait_until(w, room_at, WORKER_LISTEN_OFF);
	if (expired || (expiry != CLOCK_INFINITY && queue_is_high(w))) {
		/* A slot that has come free since is the client's, not the next one's. */
		if (!place_held(w))
			shed_held(w, !expired ? SHED_BACKLOG
			             : fds    ? SHED_FDS
			                      : SHED_FULL);
		return STEP_ON;
	}
	/* Slots, but none to be had: one was only in passing. Nobody need tell of it again. */
	uint64_t again = admit_free(&w->port->admit) > 0 && !fds ? w->now + HOLD_RETRY_NS
	                                                         : room_at;
	return wait_until(w, again < expiry ? again : expiry,
	        expiry == CLOCK_INFINITY ? WORKER_LISTEN_OFF : WORKER_LISTEN_EDGE);
}

/* Returns false if the role was w's no longer: main takes it from a worker that has stalled. */
static bool leave_role_to(struct worker *w, int successor)
{
	int me = (int)w->id;
	w->held.wake_at = CLOCK_INFINITY;
	w->held.passing_since = 0;
	return atomic_compare_exchange_strong(&w->port->hold.holder, &me, successor);
}

/* A client has got the number of w's kept descriptor while it was lent: a peer still has its own. */
static bool can_answer_for(const struct worker *w, const struct worker *peer)
{
	return w->kept.fd < 0 && w->conns.lingering == 0 && peer->kept.fd >= 0 &&
	       !peer->stalled && !peer->paused;
}

/* This worker cannot accept, not even in the kept descriptor's place. A peer that may be able to
 * takes the role over: a shortage can be one worker's own. */
static bool hand_over(struct worker *w)
{
	struct port *port = w->port;
	for (unsigned i = 0; i < port->n_workers; i++) {
		struct worker *peer = &port->workers[i];
		if (peer == w || (!worker_is_able(peer) && !can_answer_for(w, peer)))
			continue;
		worker_listen(w, WORKER_LISTEN_OFF);
		if (leave_role_to(w, (int)i))
			hold_notify(w);
		return true;
	}
	return false;
}

/* The queue is empty. With slots for everybody, everybody may accept again. */
static enum step queue_is_empty(struct worker *w)
{
	struct port *port = w->port;
	uint32_t max = atomic_load(&port->admit.max);
	uint32_t enough = port->n_workers < max ? port->n_workers : max;
	if (admit_free(&port->admit) < enough || !admit_can_take(&port->admit, w->id))
		return wait_until(w, CLOCK_INFINITY, WORKER_LISTEN_SOLE);

	worker_listen(w, WORKER_LISTEN_OFF);
	if (!leave_role_to(w, HOLD_NOBODY))
		return STEP_WAIT;
	worker_unblock(w, WORKER_BLOCK_FULL);
	for (unsigned i = 0; i < port->n_workers; i++) {
		if (i != w->id)
			worker_kick(&port->workers[i]);
	}
	return STEP_WAIT;
}

/* Is there a descriptor to accept into? While short, the kept one; closing what only
 * lingers may bring it back. */
static bool can_accept(struct worker *w)
{
	return !admit_is_short(&w->port->admit, w->id) || kept_refill(&w->kept) == 0 ||
	       (conn_linger_reclaim(w, false) && kept_refill(&w->kept) == 0);
}

/* What becomes of a connection that the holder has just accepted: fd, with a slot of
 * owner's, or without one (-1). Only who has to wait is held. */
static enum step place(struct worker *w, int fd, int owner, const struct addr *peer)
{
	uint64_t age = 0;
	struct ticket ticket;
	enum shed_reason reason = SHED_ABORTED;
	if (worker_read_age(w, fd, &age) == 1 ||
	        judge_newcomer(w, peer, &ticket, &reason) != 0) {
		if (owner >= 0)
			admit_give(&w->port->admit, (unsigned)owner);
		shed(w, fd, reason, peer);
		return STEP_ON;
	}
	/* accept4 takes long enough for a slot to come free. */
	if (owner < 0 && admit_free(&w->port->admit) > 0)
		owner = hold_room_take(w);
	if (owner == (int)w->id) {
		worker_admit(w, kept_swap_low(&w->kept, fd), age, &ticket);
		return STEP_ON;
	}
	if (owner < 0 && age >= w->config->queue_timeout &&
	        !hold_room_is_possible(w, ticket.priority) && !hold_room_is_passing(w) &&
	        !hold_room_was_late(w)) {
		counters_add_wait(&w->counters, age);
		shed(w, fd, hold_room_lacks_fds(w) ? SHED_FDS : SHED_FULL, peer);
		judge_undo(w, &ticket);
		return STEP_ON;
	}
	put(w, fd, age, &ticket);
	if (owner >= 0)
		(void)give(w, (unsigned)owner);
	return STEP_ON;
}

static enum step step_empty(struct worker *w)
{
	struct port *port = w->port;
	if (w->blocked & WORKER_BLOCK_PAUSE) {
		if (hand_over(w))
			return STEP_WAIT;
		return wait_until(w, CLOCK_INFINITY, WORKER_LISTEN_OFF);
	}
	int owner = hold_room_take(w);
	if (owner < 0) {
		if (hold_room_is_passing(w))
			return wait_until(w, w->now + HOLD_LOOK_NS, WORKER_LISTEN_OFF);
		port_begin_spell(
		        w, hold_room_lacks_fds(w) ? STATE_CAUSE_FDS : STATE_CAUSE_SLOTS);
		if (w->config->queue_timeout == CLOCK_INFINITY &&
		        !hold_room_is_possible(w, true)) {
			if (admit_is_short(&port->admit, w->id) && hand_over(w))
				return STEP_WAIT;
			return wait_until(w, CLOCK_INFINITY, WORKER_LISTEN_OFF);
		}
	}
	bool through_kept = admit_is_short(&port->admit, w->id);
	struct addr peer;
	int fd = -1;
	int r = WORKER_ACCEPT_SHORT;
	if (can_accept(w))
		r = worker_accept_one(w, through_kept, &fd, &peer);
	if (r == 0) {
		/* One accepted and another opened in its place: there are descriptors again. */
		if (through_kept && kept_refill(&w->kept) == 0)
			admit_set_short(&port->admit, w->id, false);
		return place(w, fd, owner, &peer);
	}
	if (owner >= 0)
		admit_give(&port->admit, (unsigned)owner);
	if (r == WORKER_ACCEPT_NOTHING)
		return queue_is_empty(w);
	/* The next look at descriptors is paced (worker_check_short), and steps again. */
	if (r == WORKER_ACCEPT_SHORT && through_kept)
		return hand_over(w) ? STEP_WAIT
		                    : wait_until(w, CLOCK_INFINITY, WORKER_LISTEN_OFF);
	return STEP_ON;
}

void hold_step(struct worker *w)
{
	struct held *held = &w->held;
	held->again = false;
	/* Who was handed the role may not have left for want of a slot yet. */
	w->blocked |= WORKER_BLOCK_FULL;
	for (unsigned i = 0; i < HOLD_BATCH; i++) {
		enum step step;
		if (port_phase(w->port) != PORT_OPEN) {
			hold_quit(w);
			return;
		}
		/* Dismissed meanwhile: the next turn settles what is left (hold_abandoned). */
		if (!hold_is_mine(&w->port->hold, w->id))
			break;
		if (held->pass_until > 0)
			step = step_passing(w);
		else if (held->watch.fd >= 0)
			step = step_held(w);
		else
			step = step_empty(w);
		if (step == STEP_WAIT)
			return;
	}
	held->again = true;
}

/* The role ends. Where what is queued stays for the next process, nobody is turned away: the held
 * client has its descriptor already, and is served as one more than the slots. */
static void settle_held(struct worker *w)
{
	struct port *port = w->port;
	uint64_t waited;
	if (w->held.dead) {
		shed_held(w, SHED_ABORTED);
	} else if (!atomic_load(&port->keeps_queue) || port_phase(port) != PORT_STOPPED) {
		shed_held(w, SHED_DRAINING);
	} else {
		int fd = take_out(w, &waited);
		admit_take_over(&port->admit, w->id);
		worker_admit(w, fd, waited, &w->held.ticket);
		atomic_fetch_sub(&port->hold.count, 1);
	}
}

void hold_quit(struct worker *w)
{
	struct held *held = &w->held;
	if (held->pass_until > 0)
		(void)take_back(w);
	if (held->watch.fd >= 0)
		settle_held(w);
	held->pass_until = 0;
	held->again = false;
	if (leave_role_to(w, HOLD_NOBODY))
		worker_listen(w, WORKER_LISTEN_OFF);
	worker_unblock(w, WORKER_BLOCK_FULL);
}

void hold_abandoned(struct worker *w)
{
	struct held *held = &w->held;
	if (w->listen == WORKER_LISTEN_SOLE || w->listen == WORKER_LISTEN_EDGE)
		worker_listen(w, WORKER_LISTEN_OFF);
	held->again = false;
	held->wake_at = CLOCK_INFINITY;
	held->passing_since = 0;
	if (held->pass_until > 0)
		(void)step_passing(w);
	if (held->watch.fd < 0)
		return;
	if (hold_become(w))
		held->again = true;
	else if (held->dead)
		shed_held(w, SHED_ABORTED);
	else if (admit_take(&w->port->admit, w->id) == 0)
		(void)give(w, w->id);
	else if (w->now >= held_expiry(w))
		shed_held(w, hold_room_lacks_fds(w) ? SHED_FDS : SHED_FULL);
	else
		held->wake_at = held_expiry(w);
}
