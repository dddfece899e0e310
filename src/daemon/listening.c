/*
 * listening.c - see listening.h.
 *
 * Invariant: d->down_since is set while the port is down, as far as the last look has shown, and the
 * log has said so.
 */
#include "daemon/listening.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/status.h"

#define LISTENING_PATIENCE_NS (5 * CLOCK_SEC)
#define LISTENING_PATIENCE    "5 s"

static void listening_describe(struct daemon *d, int result)
{
	char address[ADDR_TEXT_MAX];
	char *why = d->down_why;

	(void)addr_format_named(&d->address, address);
	if (result < 0) {
		errno = -result;
		(void)snprintf(why, sizeof(d->down_why),
		        "the listener on %s was destroyed, and cannot listen again: %m",
		        address);
	} else if (result == PORT_ACCEPTS_NOTHING) {
		(void)snprintf(why, sizeof(d->down_why),
		        "no worker can accept connections on %s", address);
	} else {
		(void)snprintf(why, sizeof(d->down_why),
		        "the listener on %s was destroyed (ss -K, or shutdown(2) of a "
		        "copy), and whom it had queued was reset",
		        address);
	}
}

static const char *listening_reason(int result)
{
	const char *name = result < 0 ? strerrorname_np(-result) : NULL;

	if (result == PORT_ACCEPTS_NOTHING)
		return "accept";
	return name ? name : "destroyed";
}

static void listening_begin(struct daemon *d, int result, uint64_t now)
{
	struct stats s;

	d->down_since = now;
	listening_describe(d, result);
	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_DOWN, &s);
	journal_add_text(&r, "PORTD_REASON", listening_reason(result));
	events_down(d);
	if (result == PORT_LISTENS_AGAIN)
		tell(&d->tell, TELL_DOWN, now, &r, "down: %s", d->down_why);
	else
		tell(&d->tell, TELL_DOWN, now, &r,
		        "down: %s; portd tries for " LISTENING_PATIENCE
		        ", then ends with exit status 1",
		        d->down_why);
}

static void listening_end(struct daemon *d, uint64_t now)
{
	uint64_t lasted = now - d->down_since;
	uint64_t ms = (lasted + CLOCK_MSEC - 1) / CLOCK_MSEC * CLOCK_MSEC;
	char after[PARSE_DURATION_TEXT_MAX], address[ADDR_TEXT_MAX];
	struct stats s;

	d->down_since = 0;
	status_collect(d, &s);
	struct journal_record r = journal_record(JOURNAL_UP, &s);
	journal_add_number(&r, "PORTD_LASTED_USEC", lasted / CLOCK_USEC);
	events_up(d, lasted);
	tell(&d->tell, TELL_UP, now, &r, "up: listening on %s again, after %s",
	        addr_format_named(&d->address, address),
	        parse_format_duration(ms, after));
}

void listening_check(struct daemon *d)
{
	if (d->stopping)
		return;
	int r = port_check_listener(d->port);
	uint64_t now = clock_now();
	bool was_down = d->down_since > 0;

	if (r != 0 && !was_down)
		listening_begin(d, r, now);
	if (r == 0 || r == PORT_LISTENS_AGAIN) {
		if (d->down_since > 0)
			listening_end(d, clock_now());
	}
	if (was_down != (d->down_since > 0))
		status_touch(d);
}

bool listening_tick(struct daemon *d)
{
	listening_check(d);
	if (d->stopping || d->down_since == 0 ||
	        clock_now() - d->down_since < LISTENING_PATIENCE_NS)
		return false;
	log_error("down for " LISTENING_PATIENCE ": portd ends, with exit status 1");
	return true;
}
