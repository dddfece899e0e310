/*
 * overload.c - see overload.h.
 *
 * Invariant: beginnings and ends of spells go to port->spell_events in the order in which they happened: the
 * lock is held from one to its record.
 */
#include "core/overload.h"

#include "base/clock.h"
#include "core/gauges.h"
#include "core/wakeup.h"
#include "core/worker.h"

static void top_reset(struct port *port, uint64_t since)
{
	source_begin_spell(port->sources);
	port->top_since = since;
	port->top_spells = 0;
}

static void top_begin(struct port *port, uint64_t now)
{
	if (!port->top_sums)
		top_reset(port, now);
	port->top_spells++;
}

void port_top_sum(struct port *port, bool sum)
{
	struct state_spell spell;
	(void)pthread_mutex_lock(&port->spell_lock);
	if (port->top_sums && !sum) {
		bool on = state_read_spell(&port->state, clock_now(), &spell);
		top_reset(port, on ? spell.began : 0);
		port->top_spells = on;
	}
	port->top_sums = sum;
	(void)pthread_mutex_unlock(&port->spell_lock);
}

uint32_t port_top_spells(struct port *port)
{
	(void)pthread_mutex_lock(&port->spell_lock);
	uint32_t n = port->top_spells;
	(void)pthread_mutex_unlock(&port->spell_lock);
	return n;
}

bool port_top_is_of(struct port *port, const struct state_spell *spell)
{
	(void)pthread_mutex_lock(&port->spell_lock);
	bool is = port->top_spells == 1 && port->top_since == spell->began;
	(void)pthread_mutex_unlock(&port->spell_lock);
	return is;
}

void port_begin_spell(struct worker *w, enum state_cause cause)
{
	struct port *port = w->port;
	if (state_is_spell(&port->state))
		return;
	struct listener_queue queue = {0};
	(void)port_look_at_queue(port, w->now, &queue);
	struct event event = {.kind = EVENT_FULL, .worker = w->id};
	event.spell = (struct state_spell){
	        .cause = cause, .began = w->now, .depth_began = queue.depth};
	(void)pthread_mutex_lock(&port->spell_lock);
	bool began = state_spell_begin(&port->state, cause, queue.depth, w->now) == 1;
	if (began) {
		top_begin(port, w->now);
		(void)event_push(&port->spell_events, &event);
	}
	(void)pthread_mutex_unlock(&port->spell_lock);
	if (began)
		worker_tell_main(w);
}

void port_check_full(struct worker *w)
{
	const struct admit *admit = &w->port->admit;
	if (admit_free(admit) == 0 && port_ordinary(w->port) >= atomic_load(&admit->max))
		port_begin_spell(w, STATE_CAUSE_SLOTS);
}

void port_check_spell(struct worker *w)
{
	struct port *port = w->port;
	if (port_ordinary(port) > atomic_load(&port->admit.low))
		return;
	bool able = false;
	for (unsigned i = 0; i < port->n_workers && !able; i++)
		able = admit_can_take(&port->admit, i);
	if (!able)
		return;
	struct event event = {.kind = EVENT_NOT_FULL, .worker = w->id};
	(void)pthread_mutex_lock(&port->spell_lock);
	bool ended = state_spell_end(&port->state, w->now, &event.spell) == 1;
	if (ended)
		(void)event_push(&port->spell_events, &event);
	(void)pthread_mutex_unlock(&port->spell_lock);
	if (ended)
		worker_tell_main(w);
}
