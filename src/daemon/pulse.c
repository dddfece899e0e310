/*
 * pulse.c - is every worker alive, and what do they have to say.
 *
 * Invariant: WATCHDOG=1 is sent only after every worker has answered the last poke.
 * sd-event's own watchdog would prove no more than that the main thread lives.
 *
 * Reads next: reload.c.
 */
#include "daemon/pulse.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"
#include "daemon/daemon.h"
#include "daemon/status.h"

/* A poke that is due at the tick must not wait for the next one because of a timer's
 * slack. */
#define PULSE_SLACK_NS (50 * CLOCK_MSEC)
/* How long a worker may take to answer. Seen at the first tick after it; with ticks of up to
 * DAEMON_TICK_NS, and one of them before the poke, a stall is reported within 2 s. */
#define PULSE_PATIENCE_NS (DAEMON_TICK_NS / 2)

uint64_t pulse_tick(const struct daemon *d)
{
	uint64_t quarter = d->notify.watchdog_usec / 4 * CLOCK_USEC;

	if (quarter && quarter < DAEMON_TICK_NS)
		return quarter > CLOCK_MSEC ? quarter : CLOCK_MSEC;
	return DAEMON_TICK_NS;
}

/* Pokes the workers, and tells of those that have not answered the poke before. */
static void pulse_poke(struct daemon *d, uint64_t now)
{
	unsigned first = 0, stalled = port_pulse(d->port, &first);

	d->pulsed = now;
	if (stalled > d->stalled || (stalled && first != d->first_stalled))
		tell(&d->tell, TELL_STALLED, now,
		        "worker %u has stalled: its loop does not turn; %u of %u workers "
		        "stalled",
		        first, stalled, d->budget.workers);
	else if (!stalled && d->stalled)
		tell(&d->tell, TELL_TURNS_AGAIN, now,
		        "worker %u turns again; none is stalled", d->first_stalled);
	else if (stalled < d->stalled)
		tell(&d->tell, TELL_TURNS_AGAIN, now,
		        "%u of %u workers still stalled, the first: %u", stalled,
		        d->budget.workers, first);
	d->stalled = stalled;
	d->first_stalled = first;
}

void pulse_start(struct daemon *d)
{
	pulse_poke(d, clock_now());
}

void pulse_check(struct daemon *d)
{
	uint64_t now = clock_now();

	if (port_unanswered(d->port) == 0) {
		if (d->notify.watchdog_usec)
			(void)notify_send(&d->notify, "WATCHDOG=1");
		pulse_poke(d, now);
	} else if (now - d->pulsed + PULSE_SLACK_NS >= PULSE_PATIENCE_NS) {
		pulse_poke(d, now);
	}
}

/* What becomes of clients that find no place, for the end of a sentence. */
static const char *pulse_outlook(const struct daemon *d, char *buf, size_t size)
{
	static const char *const answers[] = {
	        [CONFIG_ANSWER_RESET] = "reset",
	        [CONFIG_ANSWER_CLOSE] = "close",
	        [CONFIG_ANSWER_MESSAGE] = "message",
	};
	char after[PARSE_DURATION_TEXT_MAX];
	const char *answer = answers[d->config.answer];

	if (d->config.queue_timeout == CLOCK_INFINITY)
		(void)snprintf(buf, size, "clients wait until there is room");
	else if (d->config.queue_timeout == 0)
		(void)snprintf(
		        buf, size, "newcomers are answered at once with %s", answer);
	else
		(void)snprintf(buf, size, "waiting clients are answered after %s with %s",
		        parse_format_duration(d->config.queue_timeout, after), answer);
	return buf;
}

static void pulse_tell_full(struct daemon *d, const struct event *event, uint64_t now)
{
	char cause[96] = "no slot left", outlook[128];
	struct stats s;

	status_collect(d, &s);
	if (event->spell.cause == STATE_CAUSE_FDS)
		(void)snprintf(cause, sizeof(cause),
		        "out of descriptors (EMFILE %" PRIu64 ", ENFILE %" PRIu64 ")",
		        s.total.accept_error[ACCEPT_ERROR_EMFILE],
		        s.total.accept_error[ACCEPT_ERROR_ENFILE]);
	tell(&d->tell, TELL_FULL, now,
	        "full: %" PRIu64 " of %" PRIu64 " connections, queue %" PRIu64 "/%" PRIu64
	        ", %s; %s",
	        s.connections, s.budget.max_connections, event->spell.depth_began,
	        s.backlog_effective, cause, pulse_outlook(d, outlook, sizeof(outlook)));
}

/* Where spells follow each other fast, one line sums up those since the line before. */
static void pulse_tell_not_full(
        struct daemon *d, const struct state_spell *spell, uint64_t now)
{
	struct spells *sum = &d->spells;
	uint64_t told = d->tell.row[TELL_NOT_FULL].told;
	char lasted[PARSE_DURATION_TEXT_MAX];

	if (sum->told != told)
		*sum = (struct spells){.told = told};
	sum->n++;
	sum->lasted += spell->lasted;
	sum->shed += spell->shed;
	if (spell->depth_peak > sum->depth_peak)
		sum->depth_peak = spell->depth_peak;
	uint64_t ms = (sum->lasted + CLOCK_MSEC - 1) / CLOCK_MSEC * CLOCK_MSEC;
	(void)parse_format_duration(ms, lasted);
	if (sum->n == 1)
		tell(&d->tell, TELL_NOT_FULL, now,
		        "no longer full after %s: %" PRIu64 " shed, queue peak %" PRIu64,
		        lasted, sum->shed, sum->depth_peak);
	else
		tell(&d->tell, TELL_NOT_FULL, now,
		        "no longer full: %" PRIu64 " spells, %s in all, %" PRIu64
		        " shed, queue peak %" PRIu64,
		        sum->n, lasted, sum->shed, sum->depth_peak);
}

static void pulse_tell_event(struct daemon *d, const struct event *event, uint64_t now)
{
	const char *error = strerrordesc_np(event->err);

	switch (event->kind) {
	case EVENT_FULL:
		pulse_tell_full(d, event, now);
		break;
	case EVENT_NOT_FULL:
		pulse_tell_not_full(d, &event->spell, now);
		break;
	case EVENT_ACCEPT_ERROR:
		tell(&d->tell, TELL_ACCEPT_ERROR, now,
		        "worker %u cannot accept: %s (errno %d); it pauses and tries "
		        "again",
		        event->worker, error ? error : "unknown error", event->err);
		break;
	case EVENT_KIND_COUNT:
		break;
	}
}

void pulse_tell_events(struct daemon *d)
{
	struct event event;
	uint64_t now = clock_now(), lost = d->events_lost;

	while (port_next_event(d->port, &event, &lost))
		pulse_tell_event(d, &event, now);
	if (lost != d->events_lost)
		tell(&d->tell, TELL_LOST, now,
		        "%" PRIu64 " reports of workers did not fit and are lost",
		        lost - d->events_lost);
	d->events_lost = lost;
	tell_flush(&d->tell, now);
}
