/*
 * pulse.c - is every worker alive, and what do they have to say.
 *
 * Invariant: WATCHDOG=1 is sent only after every worker has answered the last poke.
 * sd-event's own watchdog would prove no more than that the main thread lives.
 */
#include "daemon/pulse.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"
#include "base/plural.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/status.h"

/* A poke that is due at the tick must not wait for the next one because of a timer's
 * slack. */
#define PULSE_SLACK_NS (50 * CLOCK_MSEC)
/* How long a worker may take to answer. Seen at the first tick after it; with ticks of up to
 * DAEMON_TICK_NS, and one of them before the poke, a stall is reported within 2 s. */
#define PULSE_PATIENCE_NS (DAEMON_TICK_NS / 2)

_Static_assert(2 * DAEMON_TICK_NS <= PORT_FAR_NS, "a pulse comes before what is near");

uint64_t pulse_tick(const struct daemon *d)
{
	uint64_t quarter = d->notify.watchdog_usec / 4;

	if (!d->notify.watchdog_usec || quarter >= DAEMON_TICK_NS / CLOCK_USEC)
		return DAEMON_TICK_NS;
	quarter *= CLOCK_USEC;
	return quarter > CLOCK_MSEC ? quarter : CLOCK_MSEC;
}

/* About worker `id`, while so many are stalled. */
static struct journal_record pulse_record(
        struct daemon *d, enum journal_event event, unsigned id, unsigned stalled)
{
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = journal_record(event, &s);
	journal_add_number(&r, "PORTD_WORKER", id);
	journal_add_number(&r, "PORTD_STALLED", stalled);
	journal_add_number(&r, "PORTD_WORKERS", d->budget.workers);
	return r;
}

static void pulse_tell_stalled(
        struct daemon *d, unsigned stalled, unsigned first, uint64_t now)
{
	struct journal_record r = pulse_record(d, JOURNAL_STALLED, first, stalled);

	events_stall(d, HISTORY_STALLED, first, stalled);
	tell(&d->tell, TELL_STALLED, now, &r,
	        "worker %u has stalled: its loop does not turn; %u of %u worker%s "
	        "stalled",
	        first, stalled, d->budget.workers, PLURAL(d->budget.workers));
}

static void pulse_tell_turns(
        struct daemon *d, unsigned stalled, unsigned first, uint64_t now)
{
	/* Which one it is that turns again is known only if it was the first. */
	unsigned id = stalled ? first : d->first_stalled;
	struct journal_record r = pulse_record(d, JOURNAL_TURNS_AGAIN, id, stalled);

	events_stall(d, HISTORY_TURNS_AGAIN, id, stalled);
	if (stalled)
		tell(&d->tell, TELL_TURNS_AGAIN, now, &r,
		        "%u of %u worker%s still stalled, the first: %u", stalled,
		        d->budget.workers, PLURAL(d->budget.workers), first);
	else
		tell(&d->tell, TELL_TURNS_AGAIN, now, &r,
		        "worker %u turns again; none is stalled", id);
}

/* Pokes the workers, and tells of those that have not answered the poke before. */
static void pulse_poke(struct daemon *d, uint64_t now)
{
	unsigned first = 0, stalled = port_pulse(d->port, &first);

	d->pulsed = now;
	if (stalled > d->stalled || (stalled && first != d->first_stalled))
		pulse_tell_stalled(d, stalled, first, now);
	else if (stalled < d->stalled)
		pulse_tell_turns(d, stalled, first, now);
	d->stalled = stalled;
	d->first_stalled = first;
}

void pulse_start(struct daemon *d)
{
	pulse_poke(d, clock_now());
}

/* Has the main thread itself stood still since it looked last? Then the workers may have had no time
 * either, and get some before they are judged; not twice in a row, so that a portd that always gets
 * little time still finds out. */
static bool pulse_is_excused(struct daemon *d, uint64_t now)
{
	bool late = d->pulse_looked &&
	            now - d->pulse_looked > pulse_tick(d) + PULSE_PATIENCE_NS;

	d->pulse_looked = now;
	d->pulse_excused = late && !d->pulse_excused;
	return d->pulse_excused;
}

void pulse_check(struct daemon *d)
{
	uint64_t now = clock_now();
	bool excused = pulse_is_excused(d, now);

	if (port_unanswered(d->port) == 0) {
		if (d->notify.watchdog_usec)
			(void)notify_send(&d->notify, "WATCHDOG=1");
		pulse_poke(d, now);
	} else if (!excused && now - d->pulsed + PULSE_SLACK_NS >= PULSE_PATIENCE_NS) {
		pulse_poke(d, now);
	}
}

/* What began a spell, as PORTD_REASON=. */
static const char *pulse_cause_name(enum state_cause cause)
{
	return cause == STATE_CAUSE_FDS ? "fds" : "slots";
}

static void pulse_add_errors(struct journal_record *r, const struct counts *c)
{
	journal_add_number(r, "PORTD_EMFILE", c->accept_error[ACCEPT_ERROR_EMFILE]);
	journal_add_number(r, "PORTD_ENFILE", c->accept_error[ACCEPT_ERROR_ENFILE]);
	journal_add_number(r, "PORTD_ENOBUFS", c->accept_error[ACCEPT_ERROR_ENOBUFS]);
	journal_add_number(r, "PORTD_ENOMEM", c->accept_error[ACCEPT_ERROR_ENOMEM]);
}

static void pulse_tell_full(struct daemon *d, const struct event *event, uint64_t now)
{
	bool no_fds = event->spell.cause == STATE_CAUSE_FDS;
	char why[STATUS_WHY_MAX];
	struct stats s;

	status_collect(d, &s);
	status_in_force(d, &s.budget);
	events_full(d, &event->spell, &s);
	struct journal_record r =
	        journal_record(no_fds ? JOURNAL_NO_FDS : JOURNAL_FULL, &s);
	journal_add_text(&r, "PORTD_REASON", pulse_cause_name(event->spell.cause));
	if (!no_fds)
		journal_add_text(
		        &r, "PORTD_BOUND_BY", limits_bound_name(s.budget.bound_by));
	journal_add_number(&r, "PORTD_QUEUE_DEPTH", event->spell.depth_began);
	journal_add_number(&r, "PORTD_QUEUE_MAX", s.backlog_effective);
	if (no_fds)
		pulse_add_errors(&r, &s.total);
	tell(&d->tell, no_fds ? TELL_NO_FDS : TELL_FULL, now, &r,
	        "full: %" PRIu64 " of %" PRIu64 " connection%s, queue %" PRIu64
	        "/%" PRIu64 ", %s",
	        s.connections, s.budget.max_connections, PLURAL(s.budget.max_connections),
	        event->spell.depth_began, s.backlog_effective,
	        status_why(d, &s, event->spell.cause, why));
}

/* The figures of d->spells. */
static struct journal_record pulse_record_not_full(
        struct daemon *d, const struct state_spell *spell)
{
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_NOT_FULL, &s);
	journal_add_text(&r, "PORTD_REASON", pulse_cause_name(spell->cause));
	journal_add_number(&r, "PORTD_LASTED_USEC", d->spells.lasted / CLOCK_USEC);
	journal_add_number(&r, "PORTD_SHED", d->spells.shed);
	journal_add_number(&r, "PORTD_QUEUE_PEAK", d->spells.depth_peak);
	journal_add_number(&r, "PORTD_SPELLS", d->spells.n);
	return r;
}

/* Where spells follow each other fast, one line sums up those since the line before. */
static void pulse_tell_not_full(
        struct daemon *d, const struct state_spell *spell, uint64_t now)
{
	struct spells *sum = &d->spells;
	uint64_t told = d->tell.row[TELL_NOT_FULL].told;
	char lasted[PARSE_DURATION_TEXT_MAX], top[PORT_TOP_MAX];

	if (sum->told != told)
		*sum = (struct spells){.told = told};
	sum->n++;
	sum->lasted += spell->lasted;
	sum->shed += spell->shed;
	if (spell->depth_peak > sum->depth_peak)
		sum->depth_peak = spell->depth_peak;
	uint64_t ms = (sum->lasted + CLOCK_MSEC - 1) / CLOCK_MSEC * CLOCK_MSEC;
	(void)parse_format_duration(ms, lasted);
	struct journal_record r = pulse_record_not_full(d, spell);
	if (sum->n == 1)
		tell(&d->tell, TELL_NOT_FULL, now, &r,
		        "no longer full after %s: %" PRIu64 " shed, queue peak %" PRIu64
		        "%s",
		        lasted, sum->shed, sum->depth_peak,
		        port_format_top_shed(d->port, spell, top));
	else
		tell(&d->tell, TELL_NOT_FULL, now, &r,
		        "no longer full: %" PRIu64 " spells, %s in all, %" PRIu64
		        " shed, queue peak %" PRIu64,
		        sum->n, lasted, sum->shed, sum->depth_peak);
}

static void pulse_tell_accept_error(
        struct daemon *d, const struct event *event, uint64_t now)
{
	const char *error = strerrordesc_np(event->err);
	const char *name = strerrorname_np(event->err);
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_ACCEPT_ERROR, &s);
	journal_add_number(&r, "PORTD_WORKER", event->worker);
	journal_add_text(&r, "PORTD_REASON", name ? name : "unknown");
	journal_add_number(&r, "ERRNO", (uint64_t)event->err);
	tell(&d->tell, TELL_ACCEPT_ERROR, now, &r,
	        "worker %u cannot accept: %s (errno %d); it pauses and tries again",
	        event->worker, error ? error : "unknown error", event->err);
}

static void pulse_tell_event(struct daemon *d, const struct event *event, uint64_t now)
{
	switch (event->kind) {
	case EVENT_FULL:
		pulse_tell_full(d, event, now);
		break;
	case EVENT_NOT_FULL:
		events_not_full(d, &event->spell);
		pulse_tell_not_full(d, &event->spell, now);
		break;
	case EVENT_ACCEPT_ERROR:
		events_accept_error(d, event->worker, event->err);
		pulse_tell_accept_error(d, event, now);
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
		events_reports_lost(d, lost - d->events_lost);
	if (lost != d->events_lost)
		tell(&d->tell, TELL_LOST, now, NULL,
		        "%" PRIu64 " report%s of workers did not fit and %s lost",
		        lost - d->events_lost, PLURAL(lost - d->events_lost),
		        lost - d->events_lost == 1 ? "is" : "are");
	d->events_lost = lost;
	tell_flush(&d->tell, now);
}
