/*
 * status.c - snapshots of portd, and STATUS= for the service manager.
 *
 * Invariant: a change of state that has not been sent has the one-shot timer running, or
 * is seen with the next tick.
 *
 * Reads next: pulse.c.
 */
#include "daemon/status.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/options.h"

/* Sent again when this old: with the tick, that is within 10 s. */
#define STATUS_FRESH_NS (9 * CLOCK_SEC)
#define STATUS_PACE_NS  (200 * CLOCK_MSEC)

/* Of sd-event: epoll, signals, timers. What belongs to every table, port_collect counts
 * itself. */
#define STATUS_FDS_LOOP 3U

void status_collect(struct daemon *d, struct stats *ret)
{
	unsigned fds = STATUS_FDS_LOOP + control_fds(d->control) + (d->notify.fd >= 0) +
	               reserve_available(&d->reserve);

	port_collect(d->port, fds, ret);
	ret->version = options_version();
	ret->pid = getpid();
}

enum state status_state(struct daemon *d)
{
	struct stats stats;

	status_collect(d, &stats);
	return stats.state;
}

static void status_send_collected(
        struct daemon *d, const struct stats *stats, uint64_t now)
{
	char line[STATS_STATUS_MAX], message[NOTIFY_TEXT_MAX];

	(void)snprintf(message, sizeof(message), "STATUS=%s%s%s%s",
	        *d->reload_error ? "reload failed: " : "", d->reload_error,
	        *d->reload_error ? "; " : "", stats_render_status(stats, d->rate, line));
	/* Not sent: as old as can be, so that the next tick sends it. */
	d->status_sent = notify_send(&d->notify, message) == 0 ? now : 0;
	d->status_state = stats->state;
}

void status_send(struct daemon *d)
{
	struct stats stats;

	status_collect(d, &stats);
	status_send_collected(d, &stats, clock_now());
}

void status_touch(struct daemon *d)
{
	struct stats stats;
	uint64_t now = clock_now();

	if (now - d->status_sent < STATUS_PACE_NS) {
		if (sd_event_source_set_time(d->status_timer,
		            (d->status_sent + STATUS_PACE_NS) / CLOCK_USEC + 1) >= 0)
			(void)sd_event_source_set_enabled(
			        d->status_timer, SD_EVENT_ONESHOT);
		return;
	}
	status_collect(d, &stats);
	if (stats.state != d->status_state)
		status_send_collected(d, &stats, now);
}

static int status_on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	(void)source;
	(void)usec;
	status_touch(arg);
	return 0;
}

int status_open(struct daemon *d)
{
	int r = sd_event_add_time(
	        d->event, &d->status_timer, CLOCK_MONOTONIC, 0, 1000, status_on_timer, d);

	return r < 0 ? r : sd_event_source_set_enabled(d->status_timer, SD_EVENT_OFF);
}

static void status_count_rate(struct daemon *d, const struct stats *stats, uint64_t now)
{
	uint64_t accepted = stats->total.counter[COUNTER_ACCEPTED];
	uint64_t elapsed_ms = (now - d->rate_at) / CLOCK_MSEC;

	if (elapsed_ms < DAEMON_TICK_NS / CLOCK_MSEC / 2)
		return;
	d->rate = ((accepted - d->rate_accepted) * 1000 + elapsed_ms / 2) / elapsed_ms;
	d->rate_at = now;
	d->rate_accepted = accepted;
}

void status_tick(struct daemon *d)
{
	struct stats stats;
	uint64_t now = clock_now();

	status_collect(d, &stats);
	status_count_rate(d, &stats, now);
	if (stats.state != d->status_state)
		status_touch(d);
	else if (now - d->status_sent >= STATUS_FRESH_NS)
		status_send_collected(d, &stats, now);
}
