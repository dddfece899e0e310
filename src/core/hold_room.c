/*
 * hold_room.c - room for the held client.
 *
 * Invariants:
 *   - at most one eviction is under way: who was asked clears hold.evicting before it tells the
 *     holder; one that does not is passed over after HOLD_PASS_NS, by whoever holds by then, and is
 *     then asked no longer;
 *   - a worker evicts only what is idle for long enough at the moment of closing, whatever it was
 *     when the holder looked;
 *   - idlest is a hint that only its worker writes, at the end of each turn: a connection that has
 *     moved since then is noticed by its worker, not by the holder.
 */
#include "core/hold_room.h"

#include "base/clock.h"
#include "core/accept_call.h"
#include "core/gauges.h"
#include "core/waiter.h"
#include "core/wakeup.h"
#include "core/worker.h"

int hold_room_take(struct worker *w)
{
	struct port *port = w->port;
	struct admit *admit = &port->admit;
	/* In a shared table descriptors are short for all, or for none. */
	if (!port->private_tables &&
	        (admit_is_short(admit, w->id) || kept_refill(&w->kept) < 0)) {
		worker_set_short(w);
		return -1;
	}
	bool can_pass = hold_pass_state(&port->hold) == HOLD_PASS_NONE;
	for (unsigned tries = 0; tries < port->n_workers; tries++) {
		struct worker *best = admit_can_take(admit, w->id) ? w : NULL;
		uint32_t least = best ? atomic_load(&w->conns.open) : UINT32_MAX;
		for (unsigned i = 0; can_pass && i < port->n_workers; i++) {
			struct worker *peer = &port->workers[i];
			uint32_t open = atomic_load(&peer->conns.open);
			if (peer != w && !atomic_load(&peer->stalled) &&
			        (!best || worker_share_limit(open) < least) &&
			        admit_can_take(admit, i)) {
				best = peer;
				least = open;
			}
		}
		if (!best)
			return -1;
		if (admit_take(admit, best->id) == 0)
			return (int)best->id;
	}
	return -1;
}

bool hold_room_lacks_fds(const struct worker *w)
{
	const struct admit *admit = &w->port->admit;
	bool is_short = false;
	for (unsigned i = 0; i < w->port->n_workers && !is_short; i++)
		is_short = admit_is_short(admit, i);
	return is_short && admit_free(admit) > 0;
}

bool hold_room_is_passing(struct worker *w)
{
	struct port *port = w->port;
	/* Who is on the way to a receiver has a slot, and no connection yet. */
	uint32_t passed = hold_pass_state(&port->hold) != HOLD_PASS_NONE;
	if (port_ordinary(port) + passed >= atomic_load(&port->admit.max) ||
	        hold_room_lacks_fds(w)) {
		w->held.passing_since = 0;
		return false;
	}
	if (w->held.passing_since == 0)
		w->held.passing_since = w->now;
	return w->now - w->held.passing_since < HOLD_PASSING_NS;
}

/* A peer has been told to turn, and has not begun to. */
static bool is_peer_due(const struct worker *w)
{
	for (unsigned i = 0; i < w->port->n_workers; i++) {
		const struct worker *peer = &w->port->workers[i];
		if (peer != w && !atomic_load(&peer->stalled) &&
		        atomic_load(&peer->kicked))
			return true;
	}
	return false;
}

bool hold_room_was_late(const struct worker *w)
{
	const struct held *held = &w->held;
	bool is_news = held->late_at > 0 && w->now - held->late_at < HOLD_LATE_NS;
	return w->port->n_workers > 1 && (is_news || w->now < held->peers_until);
}

static void kick_peers(const struct worker *w)
{
	for (unsigned i = 0; i < w->port->n_workers; i++) {
		if (i != w->id)
			worker_kick(&w->port->workers[i]);
	}
}

bool hold_room_awaits_peers(struct worker *w)
{
	struct held *held = &w->held;
	/* Once for a client, or who is late ever again would never come to an end. */
	if (!held->peers_asked && w->now >= held->peers_until && hold_room_was_late(w)) {
		held->peers_asked = true;
		held->late_at = 0;
		held->peers_kicks = 1;
		held->peers_until = w->now + HOLD_LATE_NS;
		kick_peers(w);
		return true;
	}
	if (w->now >= held->peers_until)
		return false;
	if (is_peer_due(w))
		return true;
	/* Who hears the second kick is through with what came along with the first. */
	if (held->peers_kicks == 1) {
		held->peers_kicks = 2;
		kick_peers(w);
		return true;
	}
	held->peers_until = w->now;
	return false;
}

bool hold_room_is_possible(const struct worker *w, bool priority)
{
	const struct admit *admit = &w->port->admit;
	return w->config->evict_idle != CLOCK_INFINITY ||
	       (priority && atomic_load_explicit(
	                            &admit->priority_max, memory_order_relaxed) > 0);
}

/* The worker with the connection that has been idle longest; NULL if none is open. */
static struct worker *find_idlest(struct worker *w, uint64_t *ret_since)
{
	struct port *port = w->port;
	struct worker *best = NULL;
	*ret_since = CLOCK_INFINITY;
	for (unsigned i = 0; i < port->n_workers; i++) {
		struct worker *peer = &port->workers[i];
		uint64_t since = peer == w ? conn_idlest(w) : atomic_load(&peer->idlest);
		if (since < *ret_since && (peer == w || !atomic_load(&peer->stalled))) {
			best = peer;
			*ret_since = since;
		}
	}
	return best;
}

/* Who was asked has not answered in time: it stands still. main says so sooner or later; its next
 * pulse says that it turns again. */
static void pass_over(struct port *port, int asked)
{
	if (atomic_compare_exchange_strong(&port->hold.evicting, &asked, HOLD_NOBODY))
		atomic_store(&port->workers[asked].stalled, true);
}

/* Does one connection less make room? Not where more are open than there are slots, as after a reload
 * to fewer: it would go for nobody. */
static bool one_is_enough(const struct worker *w)
{
	const struct admit *admit = &w->port->admit;
	return atomic_load(&admit->used) <= atomic_load(&admit->max) ||
	       hold_room_lacks_fds(w);
}

enum hold_room hold_room_evict(struct worker *w, bool expired, uint64_t *ret_when)
{
	struct hold *hold = &w->port->hold;
	uint64_t idle = w->config->evict_idle, since;
	*ret_when = CLOCK_INFINITY;
	if (idle == CLOCK_INFINITY || !one_is_enough(w))
		return HOLD_ROOM_NONE;
	int asked = atomic_load(&hold->evicting);
	if (asked != HOLD_NOBODY) {
		*ret_when = atomic_load(&hold->evict_until);
		if (w->now < *ret_when)
			return HOLD_ROOM_ASKED;
		pass_over(w->port, asked);
	}
	if (expired && w->held.evict_tried)
		return HOLD_ROOM_NONE;
	struct worker *peer = find_idlest(w, &since);
	*ret_when = clock_add(since, idle);
	if (!peer || w->now < *ret_when)
		return HOLD_ROOM_NONE;
	w->held.evict_tried = true;
	if (peer == w)
		return conn_evict(w, idle) ? HOLD_ROOM_MADE : HOLD_ROOM_NONE;
	*ret_when = w->now + HOLD_PASS_NS;
	atomic_store(&hold->evict_until, *ret_when);
	atomic_store(&hold->evicting, (int)peer->id);
	atomic_store(&peer->evict, true);
	worker_kick(peer);
	return HOLD_ROOM_ASKED;
}

void hold_room_answer(struct worker *w)
{
	struct hold *hold = &w->port->hold;
	int me = (int)w->id;
	if (atomic_load(&hold->evicting) == me)
		(void)conn_evict(w, w->config->evict_idle);
	atomic_store(&w->idlest, conn_idlest(w));
	(void)atomic_compare_exchange_strong(&hold->evicting, &me, HOLD_NOBODY);
	hold_notify(w);
}

bool hold_room_take_priority(struct worker *w)
{
	if (kept_refill(&w->kept) < 0) {
		worker_set_short(w);
		return false;
	}
	return admit_take_priority(&w->port->admit) == 0;
}
