/*
 * lifecycle.c - see lifecycle.h.
 */
#include "daemon/lifecycle.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/parse.h"
#include "base/plural.h"
#include "daemon/daemon.h"
#include "daemon/journal.h"
#include "daemon/status.h"

void journal_tell_open(struct daemon *d)
{
	const struct budget *b = &d->budget;
	char address[ADDR_TEXT_MAX];
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_OPEN, &s);
	journal_add_text(&r, "PORTD_ADDRESS", addr_format_named(&d->address, address));
	journal_add_text(&r, "PORTD_BOUND_BY", limits_bound_name(b->bound_by));
	journal_add_number(&r, "PORTD_FDS", b->fds);
	journal_add_number(&r, "PORTD_WORKERS", b->workers);
	journal_send(&r,
	        "open on %s: up to %" PRIu64 " connection%s, bound by %s; %" PRIu64
	        " descriptors in %u %s, %u worker%s, service %s",
	        address, b->max_connections, PLURAL(b->max_connections),
	        limits_bound_name(b->bound_by), b->fds, b->tables,
	        b->tables == 1 ? "table" : "tables", b->workers, PLURAL(b->workers),
	        d->service->name);
}

void journal_tell_stopping(struct daemon *d)
{
	char address[ADDR_TEXT_MAX], limit[PARSE_DURATION_TEXT_MAX];
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_STOPPING, &s);
	journal_add_text(&r, "PORTD_ADDRESS", addr_format_named(&d->address, address));
	if (d->config.drain == CLOCK_INFINITY)
		journal_add_text(&r, "PORTD_DRAIN_USEC", "infinity");
	else
		journal_add_number(&r, "PORTD_DRAIN_USEC", d->config.drain / CLOCK_USEC);
	journal_send(&r,
	        "stopping: %" PRIu64 " connection%s open, [timeouts] drain is %s%s",
	        s.connections, s.connections == 1 ? " is" : "s are",
	        parse_format_duration(d->config.drain, limit),
	        d->kept_elsewhere
	                ? "; the listener stays, newcomers wait for the next portd"
	                : "");
}

void journal_tell_stopped(struct daemon *d)
{
	char address[ADDR_TEXT_MAX];
	struct stats s;
	uint64_t uptime = clock_now() - d->started;

	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_STOPPED, &s);
	journal_add_text(&r, "PORTD_ADDRESS", addr_format_named(&d->address, address));
	uint64_t accepted = s.total.counter[COUNTER_ACCEPTED],
	         shed = counts_total_shed(&s.total),
	         closed = counts_total_closed(&s.total),
	         drained = s.total.closed[CLOSE_DRAINED];
	journal_add_number(&r, "PORTD_UPTIME_USEC", uptime / CLOCK_USEC);
	journal_add_number(&r, "PORTD_ACCEPTED", accepted);
	journal_add_number(&r, "PORTD_SHED", shed);
	journal_add_number(&r, "PORTD_CLOSED", closed);
	journal_add_number(&r, "PORTD_DRAINED", drained);
	journal_send(&r,
	        "stopped after %" PRIu64 " s: %" PRIu64 " accepted, %" PRIu64
	        " shed, %" PRIu64 " closed, %" PRIu64 " of them at the end of the drain",
	        uptime / CLOCK_SEC, accepted, shed, closed, drained);
}
