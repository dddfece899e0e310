/*
 * stop.c - see stop.h.
 *
 * Invariant: whoever is told that portd is stopping finds that nothing more is accepted.
 */
#include "daemon/stop.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/gate.h"
#include "daemon/lifecycle.h"
#include "daemon/pulse.h"
#include "daemon/status.h"

#define DEADLINE_SLACK_USEC 5000

void daemon_end_if_drained(struct daemon *d)
{
	if (d->stopping && port_is_drained(d->port))
		(void)sd_event_exit(d->event, 0);
}

static int daemon_on_deadline(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	(void)usec;
	log_info("the drain deadline has passed");
	return sd_event_exit(d->event, 0);
}

void daemon_stop(struct daemon *d)
{
	if (d->stopping) {
		log_info("stopping at once: asked again");
		(void)sd_event_exit(d->event, 0);
		return;
	}
	/* Before `stopping`: a listener that is found destroyed is still told of. */
	gate_lift(d);
	d->stopping = true;
	d->drain_deadline = clock_add(clock_now(), d->config.drain);
	/* Who is told that portd is stopping finds that nothing more is accepted. */
	port_stop(d->port, d->kept_elsewhere);
	notify_state(&d->notify, "STOPPING=1");
	pulse_tell_events(d);
	tell_finish(&d->tell);
	journal_tell_stopping(d);
	events_stopping(d);
	status_send(d);

	int r = 0;
	if (d->config.drain == 0)
		(void)sd_event_exit(d->event, 0);
	else if (d->config.drain != CLOCK_INFINITY)
		r = sd_event_add_time(d->event, &d->drain_timer, CLOCK_MONOTONIC,
		        d->drain_deadline / CLOCK_USEC, DEADLINE_SLACK_USEC,
		        daemon_on_deadline, d);
	/* Without its deadline a drain might never end. */
	if (r < 0)
		(void)sd_event_exit(d->event, 0);
	if (d->config.drain)
		(void)notify_send(&d->notify, "EXTEND_TIMEOUT_USEC=" DAEMON_EXTEND_USEC);
	daemon_end_if_drained(d);
}

void daemon_fail(struct daemon *d)
{
	d->failed = true;
	if (d->config.drain > DAEMON_FAIL_DRAIN_NS)
		d->config.drain = DAEMON_FAIL_DRAIN_NS;
	daemon_stop(d);
}
