/*
 * daemon.c - the main thread's event loop: the tick, workers' news; and the end.
 *
 * Invariant: nothing in the loop blocks, and no failure in it but sd-event's own ends
 * portd.
 */
#include "daemon/daemon.h"

#include <inttypes.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "base/plural.h"
#include "daemon/conns.h"
#include "daemon/events.h"
#include "daemon/gate.h"
#include "daemon/lifecycle.h"
#include "daemon/listening.h"
#include "daemon/pulse.h"
#include "daemon/rebind.h"
#include "daemon/reload.h"
#include "daemon/shortage.h"
#include "daemon/status.h"
#include "daemon/stop.h"
#include "net/fdtable.h"

#define DAEMON_TIMER_SLACK_USEC 5000

void daemon_init(struct daemon *d)
{
	*d = (struct daemon){
	        .listen_fd = -1,
	        .main_fd = -1,
	        .stale_fd = -1,
	        .notify.fd = -1,
	        .control_gid = SOCKET_FILE_NO_GROUP,
	        .started = clock_now(),
	};
	reserve_init(&d->reserve);
	list_init(&d->listings);
}

static void daemon_fill_reserve(struct daemon *d)
{
	fdtable_lock();
	(void)reserve_fill(&d->reserve);
	fdtable_unlock();
}

static int daemon_on_tick(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	(void)usec;
	pulse_tell_events(d);
	if (listening_tick(d))
		daemon_fail(d);
	pulse_check(d);
	gate_check(d);
	conns_check(d);
	events_flush(d);
	daemon_fill_reserve(d);
	rebind_check(d);
	notify_retry(&d->notify);
	if (!d->stopping)
		inherit_store(d);
	status_tick(d);
	if (d->stopping && clock_now() < d->drain_deadline)
		(void)notify_send(&d->notify, "EXTEND_TIMEOUT_USEC=" DAEMON_EXTEND_USEC);
	daemon_end_if_drained(d);

	int r = sd_event_source_set_time_relative(source, pulse_tick(d) / CLOCK_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int daemon_on_news(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct daemon *d = arg;
	uint64_t count;

	(void)source;
	(void)events;
	/* Only the wake-up counts; an empty eventfd is fine. */
	ssize_t n = read(fd, &count, sizeof(count));
	(void)n;
	conns_check(d);
	listening_check(d);
	pulse_tell_events(d);
	gate_check(d);
	if (fdtable_wanted() > 0)
		daemon_fill_reserve(d);
	status_touch(d);
	daemon_end_if_drained(d);
	return 0;
}

int daemon_open_loop(struct daemon *d)
{
	int r = sd_event_new(&d->event);

	if (r >= 0)
		r = signals_open(d);
	if (r >= 0)
		r = sd_event_add_io(
		        d->event, NULL, d->main_fd, EPOLLIN, daemon_on_news, d);
	if (r >= 0)
		r = sd_event_add_time_relative(d->event, &d->tick, CLOCK_MONOTONIC,
		        pulse_tick(d) / CLOCK_USEC, DAEMON_TIMER_SLACK_USEC,
		        daemon_on_tick, d);
	if (r >= 0)
		r = status_open(d);
	if (r >= 0)
		r = gate_open_timer(d);
	if (r >= 0)
		r = shortage_open_timer(d);
	return r < 0 ? r : 0;
}

int daemon_run(struct daemon *d)
{
	d->rate_at = clock_now();
	pulse_start(d);
	notify_state(&d->notify, "READY=1");
	status_send(d);
	int r = sd_event_loop(d->event);
	return r < 0 ? r : 0;
}

/* Ends the workers and says what they have done. */
static void daemon_finish_port(struct daemon *d)
{
	if (!d->stopping)
		port_stop(d->port,
		        d->kept_elsewhere); /* a start that failed half-way, or the loop did */
	unsigned left = port_finish(d->port);
	if (left)
		log_warning("%u of %u worker%s did not end and %s left behind", left,
		        d->budget.workers, PLURAL(d->budget.workers),
		        left == 1 ? "was" : "were");
	pulse_tell_events(d);
	tell_finish(&d->tell);
	if (d->stopping)
		journal_tell_stopped(d);
	/* A worker that was left behind may still look at what the port holds. */
	if (left)
		d->port = NULL;
}

void daemon_close(struct daemon *d)
{
	socket_file_remove(&d->socket_file);
	d->control = control_close(d->control);
	signals_close(&d->signals);
	d->tick = sd_event_source_disable_unref(d->tick);
	d->status_timer = sd_event_source_disable_unref(d->status_timer);
	d->drain_timer = sd_event_source_disable_unref(d->drain_timer);
	d->gate_timer = sd_event_source_disable_unref(d->gate_timer);
	d->memory_timer = sd_event_source_disable_unref(d->memory_timer);
	d->event = sd_event_unref(d->event);
	if (d->port_started)
		daemon_finish_port(d);
	d->port_started = false;
	d->port = port_destroy(d->port);
	d->listen_fd = own_close(d->listen_fd);
	d->stale_fd = own_close(d->stale_fd);
	d->main_fd = own_close(d->main_fd);
	reserve_close(&d->reserve);
	notify_close(&d->notify);
	inherit_forget(d);
	config_release(&d->config);
}
