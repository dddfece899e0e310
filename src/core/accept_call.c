/*
 * accept_call.c - see accept_call.h.
 *
 * Invariant: everything that keeps a worker out of the set has a time that brings it back.
 */
#include "core/accept_call.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/err.h"
#include "core/interest.h"
#include "core/overload.h"
#include "core/probe.h"
#include "core/wakeup.h"
#include "core/worker.h"

#define ACCEPT_FAILURES_MAX 16U
#define ACCEPT_ODD_PAUSE    (100 * CLOCK_MSEC)
#define ACCEPT_RETRY_FIRST  (10 * CLOCK_MSEC)
#define ACCEPT_RETRY_MAX    CLOCK_SEC
#define ACCEPT_PAUSE_MAX    CLOCK_SEC

enum accept_class {
	CLASS_SHORT,
	CLASS_CONNECTION,
	CLASS_UNKNOWN
};

static const enum accept_class class_of[ACCEPT_ERROR_COUNT] = {
#define X(name, class) [ACCEPT_ERROR_##name] = CLASS_##class,
#include "core/accept_errors.def"
#undef X
};

void worker_pause(struct worker *w, uint64_t first)
{
	uint64_t pause = w->last_pause > 0 ? w->last_pause * 2 : first;
	w->last_pause = pause < ACCEPT_PAUSE_MAX ? pause : ACCEPT_PAUSE_MAX;
	w->paused_until = w->now + w->last_pause;
	atomic_store(&w->paused, true);
	worker_block(w, WORKER_BLOCK_PAUSE);
}

void worker_set_short(struct worker *w)
{
	if (admit_is_short(&w->port->admit, w->id))
		return;
	/* retry_after grows over shortages until an accept succeeds: ENOBUFS can come at
	 * every call while descriptors are free. */
	if (w->retry_after == 0)
		w->retry_after = ACCEPT_RETRY_FIRST;
	w->retry_at = w->now + w->retry_after;
	admit_set_short(&w->port->admit, w->id, true);
}

bool worker_check_short(struct worker *w, bool now)
{
	if (!admit_is_short(&w->port->admit, w->id))
		return true;
	if (!now && w->now < w->retry_at)
		return false;
	if (w->now >= w->retry_at) {
		w->retry_after *= 2;
		if (w->retry_after > ACCEPT_RETRY_MAX)
			w->retry_after = ACCEPT_RETRY_MAX;
		w->retry_at = w->now + w->retry_after;
	}
	/* With the kept descriptor lent to the held client, one that is free is enough: it becomes
	 * the kept one, and the client may stay. Else there has to be one beside it. */
	bool lent = w->kept.fd < 0 && w->held.watch.fd >= 0;
	bool wanted = fdtable_wanted() > 0;
	if ((lent && !wanted ? kept_refill(&w->kept) : kept_probe(&w->kept)) < 0) {
		if (wanted)
			worker_tell_main(w);
		return false;
	}
	admit_set_short(&w->port->admit, w->id, false);
	if (state_is_spell(&w->port->state))
		port_check_spell(w);
	return true;
}

/* accept4 works: a row of errors, if there was one, is over. */
static void end_failures(struct worker *w)
{
	w->failures = 0;
	if (w->last_pause == 0)
		return;
	w->last_pause = 0;
	atomic_store(&w->failed_at, 0);
}

/* Somebody has destroyed the listener. main makes it listen again, or ends portd. */
static bool is_listener_lost(const struct worker *w, int err)
{
	struct listener_queue queue;
	return err == EINVAL && listener_read_queue(w->port->listen_fd, &queue) == 0 &&
	       !queue.listening;
}

/* accept4 fails, and takes nobody off the queue. */
static void note_failure(struct worker *w, const struct event *told)
{
	atomic_store(&w->failed_at, w->now);
	if (told)
		worker_tell(w, told);
	else
		worker_tell_main(w);
}

/* Is the queue as deep as before at least, after each error of this row? Who comes meanwhile may hide
 * one who went, but hardly one after each call. */
static bool queue_stands(struct worker *w)
{
	struct listener_queue queue = {0};
	(void)listener_read_queue(w->port->listen_fd, &queue);
	w->queue_stands =
	        w->failures == 0 || (w->queue_stands && queue.depth >= w->failures_depth);
	w->failures_depth = queue.depth;
	return w->queue_stands;
}

/* Each takes one client off the queue, and others may be served; when it does not, do not spin, and
 * nobody is. */
static int judge_connection_error(struct worker *w, int err)
{
	bool stands = queue_stands(w);
	if (++w->failures < ACCEPT_FAILURES_MAX)
		return WORKER_ACCEPT_SKIP;
	w->failures = 0;
	if (stands)
		note_failure(w, atomic_load(&w->failed_at) > 0
		                        ? NULL
		                        : &(struct event){.kind = EVENT_ACCEPT_ERROR,
		                                  .err = err});
	else
		atomic_store(&w->failed_at, 0);
	worker_pause(w, ACCEPT_SKIP_PAUSE);
	return WORKER_ACCEPT_PAUSE;
}

static int judge_error(struct worker *w, int err)
{
	if (err == EAGAIN) {
		end_failures(w);
		if (queue_age_is_known(&w->port->queue_age))
			queue_age_empty(&w->port->queue_age, w->now);
		return WORKER_ACCEPT_NOTHING;
	}
	/* The listener was shut down under us: that is no error of a connection. */
	if (port_phase(w->port) >= PORT_STOPPED)
		return WORKER_ACCEPT_NOTHING;

	enum accept_class class = class_of[counters_add_accept_error(&w->counters, err)];
	if (class == CLASS_UNKNOWN && err_is_disconnect(err))
		class = CLASS_CONNECTION;
	switch (class) {
	case CLASS_SHORT:
		worker_set_short(w);
		return WORKER_ACCEPT_SHORT;
	case CLASS_CONNECTION:
		return judge_connection_error(w, err);
	case CLASS_UNKNOWN:
		break;
	}
	if (is_listener_lost(w, err))
		worker_tell_main(w);
	else
		note_failure(w, &(struct event){.kind = EVENT_ACCEPT_ERROR, .err = err});
	worker_pause(w, ACCEPT_ODD_PAUSE);
	return WORKER_ACCEPT_PAUSE;
}

/* Is it likely that somebody needs to know who comes next? Who does all the same asks the socket. */
static bool wants_peer(const struct worker *w)
{
	return !w->unjudged || w->phase != PORT_OPEN || state_is_spell(&w->port->state);
}

int worker_accept_one(
        struct worker *w, bool through_kept, int *ret_fd, struct addr *ret_peer)
{
	/* Another would take the number that somebody has to get back. */
	if (!through_kept && !fdtable_enter()) {
		worker_set_short(w);
		return WORKER_ACCEPT_SHORT;
	}
	counters_add(&w->counters, COUNTER_ACCEPT_CALLS, 1);
	int listen_fd = w->port->listen_fd;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	bool ask = wants_peer(w);
	int fd = -1, err;
	if (through_kept) {
		err = -kept_accept(&w->kept, listen_fd, &fd);
	} else {
		fd = accept4(listen_fd, ask ? (struct sockaddr *)&sa : NULL,
		        ask ? &len : NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		err = fd < 0 ? errno : 0;
		fdtable_leave();
	}
	counters_end_call(&w->counters);
	if (err != 0)
		return judge_error(w, err);
	*ret_peer = (struct addr){.family = AF_UNSPEC};
	if (ask && through_kept)
		(void)addr_of_peer(fd, ret_peer);
	else if (ask)
		(void)addr_from_sockaddr((struct sockaddr *)&sa, len, ret_peer);
	counters_add(&w->counters, COUNTER_ACCEPTED, 1);
	PROBE_ACCEPT(w->id, fd);
	end_failures(w);
	if (!through_kept)
		w->retry_after = 0;
	*ret_fd = fd;
	return 0;
}
