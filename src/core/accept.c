/*
 * accept.c - ACCEPT: into and out of the listener's epoll set, one judgement of accept4's
 * errors, and the way of an accepted connection to its service.
 *
 * Invariants:
 *   - A slot is taken before accept4 and given back if nothing was accepted.
 *   - A worker that can take no slot leaves the set at that moment. With EPOLLEXCLUSIVE
 *     the wake-up that it got was perhaps the only one, so it hands the look at the queue
 *     to a peer that can accept, or becomes the holder: nobody is stranded.
 *   - While there is a holder, the others that left for want of a slot stay out: the next
 *     slot is the held client's.
 *   - Everything that keeps a worker out of the set has a time or an event that brings it
 *     back.
 *
 * Reads next: share.c.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "core/judge.h"
#include "core/linger.h"
#include "core/overload.h"
#include "core/probe.h"
#include "core/share.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/wakeup.h"
#include "core/worker.h"
#include "net/sock.h"

#define ACCEPT_BATCH_MAX    16U
#define ACCEPT_FAILURES_MAX 16U
#define ACCEPT_PATIENCE_MAX 32U
#define ACCEPT_SKIP_PAUSE   (10 * CLOCK_MSEC)
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

void worker_listen(struct worker *w, enum worker_listen how)
{
	static const uint32_t events[] = {
	        [WORKER_LISTEN_SHARED] = EPOLLIN | EPOLLEXCLUSIVE,
	        [WORKER_LISTEN_SOLE] = EPOLLIN,
	        [WORKER_LISTEN_EDGE] = EPOLLIN | EPOLLET,
	};
	if (w->listen == how)
		return;
	if (w->listen != WORKER_LISTEN_OFF)
		loop_remove(&w->loop, &w->listener);
	w->listen = WORKER_LISTEN_OFF;
	/* epoll_ctl may want memory; then the next pulse tries again. */
	if (how != WORKER_LISTEN_OFF &&
	        loop_add(&w->loop, &w->listener, events[how]) == 0)
		w->listen = how;
}

void worker_block(struct worker *w, enum worker_block why)
{
	w->blocked |= why;
	worker_listen(w, WORKER_LISTEN_OFF);
}

void worker_unblock(struct worker *w, enum worker_block why)
{
	w->blocked &= ~(unsigned)why;
	if (w->blocked == 0)
		worker_listen(w, WORKER_LISTEN_SHARED);
}

/* Each pause in a row is twice as long; an accept that succeeds, or finds nothing, ends the
 * row. */
static void pause_for(struct worker *w, uint64_t first)
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
	pause_for(w, ACCEPT_SKIP_PAUSE);
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
	pause_for(w, ACCEPT_ODD_PAUSE);
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

/* It was judged good, and is not served after all. */
static void shed_late(
        struct worker *w, int fd, enum shed_reason reason, const struct ticket *ticket)
{
	shed(w, fd, reason, &ticket->peer);
	judge_undo(w, ticket);
	worker_give_slot(w, ticket->priority_slot);
}

/* A dead connection hangs up in the first wait after it was opened. That is early enough where until
 * then it is in nobody's way: its service waits for an event, nothing is booked for it, it has neither
 * the last slot nor a part in the peak. */
static bool tells_itself(const struct worker *w)
{
	const struct port *port = w->port;
	return w->unjudged && !port->service->open && port->service->events != 0 &&
	       atomic_load_explicit(&port->admit.used, memory_order_relaxed) <=
	               atomic_load_explicit(&port->peak, memory_order_relaxed) &&
	       admit_free(&port->admit) > 0;
}

void worker_admit(struct worker *w, int fd, uint64_t waited_ns, struct ticket *ticket)
{
	bool dead = false, measured = waited_ns != CLOCK_INFINITY;
	if (!measured &&
	        (state_is_spell(&w->port->state) || ++w->sample % WORKER_SAMPLE == 0))
		dead = worker_read_age(w, fd, &waited_ns) == 1;
	else if (measured || !tells_itself(w))
		dead = sock_is_dead(fd);
	else
		ticket->untried = true;
	if (dead) {
		shed_late(w, fd, SHED_ABORTED, ticket);
		return;
	}
	if (waited_ns != CLOCK_INFINITY)
		counters_add_wait(&w->counters, waited_ns);
	PROBE_ADMIT(w->id, fd, waited_ns);
	if (conn_open(w, fd, ticket) < 0)
		shed_late(w, fd, SHED_MEMORY, ticket);
}

/* A newcomer, for which w has a slot, is judged before it is served. */
static void judge_and_admit(struct worker *w, int fd, const struct addr *peer)
{
	struct ticket ticket;
	enum shed_reason reason;
	if (judge_newcomer(w, peer, &ticket, &reason) == 0) {
		worker_admit(w, fd, CLOCK_INFINITY, &ticket);
		return;
	}
	shed(w, fd, sock_is_dead(fd) ? SHED_ABORTED : reason, peer);
	worker_give_slot(w, false);
}

bool worker_is_able(const struct worker *w)
{
	return !atomic_load(&w->stalled) && !atomic_load(&w->paused) &&
	       !admit_is_short(&w->port->admit, w->id);
}

/* Who waits now waits for a slot, not for somebody to look. */
static void step_as_holder(struct worker *w)
{
	(void)burst_look(&w->port->burst, w->now);
	hold_step(w);
}

/* w can take no slot. */
static void leave_full(struct worker *w)
{
	worker_block(w, WORKER_BLOCK_FULL);
	struct worker *peer = share_able_peer(w);
	if (peer)
		share_ask_to_look(peer);
	else if (hold_become(w))
		step_as_holder(w);
}

/* Draining: newcomers are answered at once, without a slot. */
static void accept_to_shed(struct worker *w)
{
	(void)burst_look(&w->port->burst, w->now);
	/* Who comes after the end of it is served. */
	for (unsigned i = 0; i < ACCEPT_BATCH_MAX && port_phase(w->port) == PORT_DRAINING;
	        i++) {
		struct addr peer;
		int fd = -1;
		int r = worker_accept_one(w, false, &fd, &peer);
		if (r == WORKER_ACCEPT_SHORT) {
			(void)conn_linger_reclaim(w, true);
			r = worker_accept_one(w, true, &fd, &peer);
			if (r == WORKER_ACCEPT_SHORT)
				pause_for(w, ACCEPT_SKIP_PAUSE);
		}
		if (r == 0)
			shed(w, fd,
			        sock_is_dead(fd) ? SHED_ABORTED
			        : !w->config->dry_run && judge_is_denied(w, &peer)
			                ? SHED_DENIED
			                : SHED_DRAINING,
			        &peer);
		else if (r != WORKER_ACCEPT_SKIP)
			break;
	}
}

/* A busy queue is worth asking more than once a turn, but each time that it turns out to be empty
 * has cost as much as a connection's accept: the more often that was so, the more turns in a row have
 * to find all that they ask for before the next one asks for more. */
static void grow_batch(struct worker *w)
{
	if (w->batch > 1 && w->patience > 1)
		w->patience /= 2;
	if (w->batch < ACCEPT_BATCH_MAX && ++w->full_batches >= w->patience) {
		w->batch *= 2;
		w->full_batches = 0;
	}
}

static void shrink_batch(struct worker *w)
{
	w->batch = 1;
	w->full_batches = 0;
	if (w->patience < ACCEPT_PATIENCE_MAX)
		w->patience *= 2;
}

static void accept_batch(struct worker *w)
{
	uint32_t share = w->eager ? ACCEPT_BATCH_MAX : share_left(w);
	unsigned batch = w->batch < share ? w->batch : share;
	uint64_t age, gap = burst_look(&w->port->burst, w->now);
	for (unsigned i = 0; i < batch; i++) {
		if (admit_take(&w->port->admit, w->id) != 0) {
			leave_full(w);
			return;
		}
		struct addr peer;
		int fd = -1;
		int r = worker_accept_one(w, false, &fd, &peer);
		if (r == 0) {
			if (gap > 0 && worker_read_age(w, fd, &age) == 0)
				burst_note_pause(&w->port->burst, gap, age);
			gap = 0;
			judge_and_admit(w, fd, &peer);
			continue;
		}
		worker_give_slot(w, false);
		if (r == WORKER_ACCEPT_SHORT)
			leave_full(w);
		if (r == WORKER_ACCEPT_NOTHING)
			shrink_batch(w);
		if (r != WORKER_ACCEPT_SKIP)
			return;
	}
	grow_batch(w);
}

void worker_accept(struct worker *w)
{
	enum port_phase phase = port_phase(w->port);
	if (phase == PORT_DRAINING && w->blocked == 0)
		accept_to_shed(w);
	if (phase != PORT_OPEN || w->blocked != 0)
		return;
	/* The next slot is the held client's, who has waited longer. */
	if (atomic_load(&w->port->hold.holder) != HOLD_NOBODY) {
		worker_block(w, WORKER_BLOCK_FULL);
		return;
	}

	accept_batch(w);
	/* Out of its turn, one batch is all. */
	w->eager = false;
	if (w->blocked == 0 && share_left(w) == 0)
		share_leave(w);
}

/* w is out for want of a slot. */
static void rejoin_full(struct worker *w)
{
	if (atomic_load(&w->port->hold.holder) != HOLD_NOBODY)
		return;
	if (admit_can_take(&w->port->admit, w->id))
		worker_unblock(w, WORKER_BLOCK_FULL);
	else if (!share_able_peer(w) && !admit_can_take(&w->port->admit, w->id) &&
	         hold_become(w))
		w->held.again = true;
}

void worker_rejoin(struct worker *w)
{
	bool gave = w->gave;
	w->gave = false;
	if ((w->blocked & WORKER_BLOCK_PAUSE) && w->now >= w->paused_until) {
		atomic_store(&w->paused, false);
		worker_unblock(w, WORKER_BLOCK_PAUSE);
		w->held.again = true;
	}
	if (w->blocked & WORKER_BLOCK_SHARE)
		share_rejoin(w);
	if (admit_is_short(&w->port->admit, w->id) && (gave || w->now >= w->retry_at)) {
		(void)worker_check_short(w, gave);
		w->held.again = true;
	}
	if (w->blocked & WORKER_BLOCK_CLOSED)
		return;
	if (w->blocked & WORKER_BLOCK_FULL)
		rejoin_full(w);
	if (hold_is_mine(&w->port->hold, w->id)) {
		if (gave || w->held.again || w->now >= hold_next_deadline(w))
			step_as_holder(w);
	} else {
		hold_abandoned(w);
	}
	if (w->blocked == 0 && w->listen == WORKER_LISTEN_OFF)
		worker_listen(w, WORKER_LISTEN_SHARED);
}

uint64_t worker_next_deadline(const struct worker *w)
{
	uint64_t next = conn_next_deadline(w);
	if (keepalive_deadline(w) < next)
		next = keepalive_deadline(w);
	if ((w->blocked & WORKER_BLOCK_PAUSE) && w->paused_until < next)
		next = w->paused_until;
	if ((w->blocked & WORKER_BLOCK_SHARE) && w->share_until < next)
		next = w->share_until;
	if (admit_is_short(&w->port->admit, w->id) && w->retry_at < next)
		next = w->retry_at;
	/* Also of a holder that was: it may have a client to settle. */
	if (hold_next_deadline(w) < next)
		next = hold_next_deadline(w);
	return next;
}
