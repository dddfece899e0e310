/*
 * gate.c - [shed] gate.
 *
 * Invariant: the gate is closed only while a spell is on that is old enough, and opened by whatever
 * sees first that it is not: so no cause that has gone can leave the port shut for longer than a
 * tick.
 */
#include "daemon/gate.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/listening.h"
#include "daemon/pulse.h"
#include "daemon/status.h"

static void tell_gate(struct daemon *d, bool closed)
{
	struct stats s;

	status_collect(d, &s);
	struct journal_record r =
	        journal_record(closed ? JOURNAL_GATE_CLOSED : JOURNAL_GATE_OPEN, &s);
	if (closed)
		journal_add_number(&r, "PORTD_QUEUE_DEPTH", s.queue_depth);
	tell(&d->tell, TELL_GATE, clock_now(), &r, "%s",
	        closed ? "the gate is closed: SYNs stay unanswered while portd is full"
	               : "the gate is open again");
}

static void gate_set(struct daemon *d, bool closed)
{
	int r = port_set_gate(d->port, closed);

	if (r == 0)
		return;
	/* The listener may have been found destroyed. */
	listening_check(d);
	if (r > 0) {
		events_gate(d, closed);
		tell_gate(d, closed);
		return;
	}
	if (d->down_since > 0)
		return;
	errno = -r;
	tell(&d->tell, TELL_GATE, clock_now(), NULL, "cannot %s the gate: %m",
	        closed ? "close" : "open");
}

void gate_check(struct daemon *d)
{
	struct state_spell spell;
	bool wanted = d->config.gate && !d->stopping && !d->draining &&
	              port_spell(d->port, &spell);

	if (wanted && spell.lasted < d->config.gate_after) {
		uint64_t at = clock_add(spell.began, d->config.gate_after);
		if (at != CLOCK_INFINITY &&
		        sd_event_source_set_time(d->gate_timer, at / CLOCK_USEC + 1) >= 0)
			(void)sd_event_source_set_enabled(
			        d->gate_timer, SD_EVENT_ONESHOT);
		wanted = false;
	}
	/* First the spell is told of, then what it leads to. */
	if (wanted)
		pulse_tell_events(d);
	gate_set(d, wanted);
}

void gate_lift(struct daemon *d)
{
	gate_set(d, false);
}

static int gate_on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	(void)source;
	(void)usec;
	gate_check(arg);
	return 0;
}

int gate_open_timer(struct daemon *d)
{
	int r = sd_event_add_time(
	        d->event, &d->gate_timer, CLOCK_MONOTONIC, 0, 1000, gate_on_timer, d);

	return r < 0 ? r : sd_event_source_set_enabled(d->gate_timer, SD_EVENT_OFF);
}
