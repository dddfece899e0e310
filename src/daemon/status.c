/*
 * status.c - snapshots of portd, and STATUS= for the service manager.
 *
 * Invariant: a change of state that has not been sent has the one-shot timer running, or
 * is seen with the next tick.
 */
#include "daemon/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
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
	               log_fds() + reserve_available(&d->reserve);

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

/* Is nobody looked at before there is room? */
static bool status_is_unseen(const struct daemon *d)
{
	return d->config.queue_timeout == CLOCK_INFINITY &&
	       d->config.evict_idle == CLOCK_INFINITY && d->budget.priority_slots == 0;
}

/* With every slot taken start_at sheds all who are looked at, and so nobody waits; whom priority
 * exempts is no newcomer to speak of here. */
static bool status_is_pressed(const struct daemon *d, enum state_cause cause)
{
	return cause == STATE_CAUSE_SLOTS && d->config.start_at < 100 &&
	       !d->config.dry_run && !status_is_unseen(d);
}

/* What becomes of clients that find no place. */
static const char *status_outlook(
        const struct daemon *d, enum state_cause cause, char *buf, size_t size)
{
	static const char *const answers[] = {
	        [CONFIG_ANSWER_RESET] = "reset",
	        [CONFIG_ANSWER_CLOSE] = "close",
	        [CONFIG_ANSWER_MESSAGE] = "message",
	};
	char after[PARSE_DURATION_TEXT_MAX];
	const char *answer = answers[d->config.answer];

	if (d->config.queue_timeout == 0 || status_is_pressed(d, cause))
		(void)snprintf(
		        buf, size, "newcomers are answered at once with %s", answer);
	else if (d->config.queue_timeout == CLOCK_INFINITY)
		(void)snprintf(buf, size, "clients wait until there is room");
	else
		(void)snprintf(buf, size, "waiting clients are answered after %s with %s",
		        parse_format_duration(d->config.queue_timeout, after), answer);
	return buf;
}

/* The errors of accept that mean a machine that is short, and how often they came: those
 * that did, or EMFILE. */
static const char *status_errors(const struct counts *c, char *buf, size_t size)
{
	static const enum accept_error shortages[] = {
	        ACCEPT_ERROR_EMFILE,
	        ACCEPT_ERROR_ENFILE,
	        ACCEPT_ERROR_ENOBUFS,
	        ACCEPT_ERROR_ENOMEM,
	};
	size_t len = 0;

	(void)snprintf(buf, size, "EMFILE 0");
	for (size_t i = 0; i < ARRAY_SIZE(shortages) && len < size; i++) {
		uint64_t n = c->accept_error[shortages[i]];
		if (n)
			len += (size_t)snprintf(buf + len, size - len, "%s%s %" PRIu64,
			        len ? ", " : "", counters_accept_error_name(shortages[i]),
			        n);
	}
	return buf;
}

void status_in_force(const struct daemon *d, struct budget *budget)
{
	if (!d->config.dry_run)
		return;
	budget->bound_by = budget->fds_slots_bound;
	budget->max_connections = budget->fds_slots;
}

const char *status_why(const struct daemon *d, const struct stats *s,
        enum state_cause cause, char buf[static STATUS_WHY_MAX])
{
	char errors[112], outlook[96];
	struct budget budget = s->budget;

	status_in_force(d, &budget);
	(void)status_outlook(d, cause, outlook, sizeof(outlook));
	if (cause == STATE_CAUSE_FDS)
		(void)snprintf(buf, STATUS_WHY_MAX, "out of descriptors (%s); %s",
		        status_errors(&s->total, errors, sizeof(errors)), outlook);
	else
		(void)snprintf(buf, STATUS_WHY_MAX, "no slot left (%s); %s",
		        limits_bound_name(budget.bound_by), outlook);
	return buf;
}

static bool status_is_short(const struct daemon *d, const struct stats *s)
{
	const uint64_t *error = s->total.accept_error;

	if (tell_is_newer(&d->tell, TELL_NO_FDS, TELL_FULL))
		return true;
	/* It began for want of slots; but who would wait now that there are some? */
	return (s->held || s->queue_depth) &&
	       (error[ACCEPT_ERROR_EMFILE] || error[ACCEPT_ERROR_ENFILE] ||
	               error[ACCEPT_ERROR_ENOBUFS] || error[ACCEPT_ERROR_ENOMEM]);
}

/* What STATUS= ends with. What began a spell need not be what goes on. */
static const char *status_reason(
        const struct daemon *d, const struct stats *s, char buf[static STATUS_WHY_MAX])
{
	if (s->state == STATE_DOWN)
		(void)snprintf(buf, STATUS_WHY_MAX, "%s", d->down_why);
	else if (s->state == STATE_SHEDDING && s->memory_short)
		(void)snprintf(buf, STATUS_WHY_MAX, "memory is short");
	else if (s->state != STATE_FULL)
		buf[0] = '\0';
	else if (s->connections >= s->budget.max_connections)
		(void)status_why(d, s, STATE_CAUSE_SLOTS, buf);
	else if (status_is_short(d, s))
		(void)status_why(d, s, STATE_CAUSE_FDS, buf);
	else
		(void)snprintf(buf, STATUS_WHY_MAX,
		        "not yet down to low_watermark (%" PRIu64 " %%)",
		        d->config.low_watermark);
	return buf;
}

static void status_send_collected(
        struct daemon *d, const struct stats *stats, uint64_t now)
{
	char line[STATS_STATUS_MAX], why[STATUS_WHY_MAX], message[NOTIFY_TEXT_MAX];

	(void)status_reason(d, stats, why);
	(void)snprintf(message, sizeof(message), "STATUS=%s%s%s%s%s%s",
	        *d->reload_error ? "reload failed: " : "", d->reload_error,
	        *d->reload_error ? "; " : "", stats_render_status(stats, d->rate, line),
	        *why ? "; " : "", why);
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
