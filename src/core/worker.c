/*
 * worker.c - a worker's thread: its table, its loop, its turn.
 *
 * A turn: wait, serve what is ready, close what has outlived its time, see what has
 * become possible again, free what was closed. The thread never blocks but in epoll_wait,
 * never logs, and never calls what may cache a descriptor number (libsystemd, name
 * services): in a private table that number can be a client's.
 */
#include "core/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/hold_room.h"
#include "core/interest.h"
#include "core/judge.h"
#include "core/overload.h"
#include "core/waiter.h"
#include "core/wakeup.h"

/* By default a stack is as large as RLIMIT_STACK, which may be anything. */
#define WORKER_STACK (2U * 1024U * 1024U)
/* A wait that ends so long after its deadline was held up: by a stop, or for want of CPU. */
#define WORKER_LATE_NS (10 * CLOCK_MSEC)

static void listener_ready(struct watch *watch, uint32_t events)
{
	struct worker *w = container_of(watch, struct worker, listener);
	(void)events;
	if (port_phase(w->port) >= PORT_STOPPED)
		worker_listen(w, WORKER_LISTEN_OFF);
	else if (w->listen == WORKER_LISTEN_SHARED)
		worker_accept(w);
	else
		w->held.again = true;
}

/* The operator, or the main thread, has decided something. */
static void enter_phase(struct worker *w, enum port_phase phase)
{
	w->phase = phase;
	switch (phase) {
	case PORT_CLOSED:
		break;
	case PORT_OPEN:
	case PORT_DRAINING:
		w->blocked &= WORKER_BLOCK_PAUSE;
		if (phase == PORT_DRAINING)
			hold_quit(w);
		worker_unblock(w, WORKER_BLOCK_CLOSED);
		break;
	case PORT_STOPPED:
	case PORT_ENDED:
		hold_quit(w);
		worker_block(w, WORKER_BLOCK_CLOSED);
		atomic_store(&w->left, true);
		break;
	}
}

static void answer_pulse(struct worker *w)
{
	/* Who turns again has slots to give that the holder did not count on. */
	if (atomic_exchange(&w->stalled, false))
		hold_notify(w);
	atomic_store(&w->pulse, atomic_load(&w->port->pulse));
}

static void wake_ready(struct watch *watch, uint32_t events)
{
	struct worker *w = container_of(watch, struct worker, wake);
	(void)events;
	/* Edge-triggered: each write is an event, and the counter need not be read. First
	 * of all the mark: what is written after it wakes again. */
	atomic_store(&w->kicked, false);

	const struct config *config = atomic_load(&w->port->config);
	/* Only what may have changed something for a worker that is short counts as that: a
	 * mere wake-up must not set off another look at descriptors. */
	bool changed = atomic_exchange(&w->freed, false) || config != w->config ||
	               atomic_load(&w->port->pulse) != atomic_load(&w->pulse);
	w->gave = w->gave || changed;
	if (config != w->config) {
		w->config = config;
		w->unjudged = judge_is_idle(config);
		atomic_store(&w->config_seen, config);
		/* Fewer slots than are open, maybe: that shows without a client, too. */
		port_check_full(w);
	}
	enum port_phase phase = port_phase(w->port);
	if (phase != w->phase)
		enter_phase(w, phase);
	answer_pulse(w);
	hold_receive(w);
	if (atomic_exchange(&w->evict, false))
		hold_room_answer(w);
	if (atomic_exchange(&w->look, false)) {
		worker_unblock(w, WORKER_BLOCK_SHARE);
		worker_accept(w);
	}
	walk_serve(w);
}

/* A timeout makes each wait set a timer of the kernel and take it back, for nothing where the deadline
 * is far: the pulse comes before it, and then it is near. */
static int timeout_of(uint64_t deadline, uint64_t now)
{
	if (deadline <= now)
		return 0;
	if (deadline - now > PORT_FAR_NS)
		return -1;
	/* Up, or the loop would turn once in vain just before each deadline. */
	return (int)((deadline - now + CLOCK_MSEC - 1) / CLOCK_MSEC);
}

static void tell_drained(struct worker *w)
{
	bool drained = w->phase == PORT_STOPPED && atomic_load(&w->conns.open) == 0 &&
	               atomic_load(&w->conns.lingering) == 0;
	if (drained && !w->drained_told)
		worker_tell_main(w);
	w->drained_told = drained;
}

static void note_arrivals(struct worker *w)
{
	uint64_t accepted = counters_get(&w->counters, COUNTER_ACCEPTED);
	if (accepted == w->arrived)
		return;
	burst_note_arrivals(&w->port->burst, accepted - w->arrived, w->now);
	w->arrived = accepted;
}

/* Takes what has happened before anybody is judged by the time. Returns how many events are left, which
 * the loop has waited for. In so many batches everybody who was ready has had a turn. */
static int catch_up(struct worker *w)
{
	uint32_t batches = atomic_load(&w->conns.open) / LOOP_BATCH + 2;
	int n = loop_wait(&w->loop, 0);
	while (n == LOOP_BATCH && batches-- > 0) {
		loop_dispatch(&w->loop, n);
		n = loop_wait(&w->loop, 0);
	}
	w->held.late_at = w->now;
	return n < 0 ? 0 : n;
}

void worker_turn(struct worker *w, int n)
{
	if (n < 0)
		n = catch_up(w);
	loop_dispatch(&w->loop, n);
	/* A batch that is not full was all that was ready. */
	if (n < LOOP_BATCH)
		w->shown = w->now;
	conn_expire(w);
	keepalive_turn(w);
	if (w->gave && state_is_spell(&w->port->state))
		port_check_spell(w);
	worker_rejoin(w);
	conn_free_closed(w);
	if (w->config->evict_idle != CLOCK_INFINITY)
		atomic_store_explicit(&w->idlest, conn_idlest(w), memory_order_relaxed);
	note_arrivals(w);
	tell_drained(w);
}

/* The clock is read when a turn begins. Where that was long ago (the thread was stopped, or had no
 * CPU) whoever moved since has his time from now on. */
static void end_turn(struct worker *w, uint64_t end)
{
	counters_add_turn(&w->counters, end - w->now);
	if (end - w->now < CONN_PRECISION_NS)
		return;
	conn_end_long_turn(w, end);
	if (w->held.watch.fd >= 0 && w->held.since == w->now)
		w->held.since = end;
}

/* Waits for events, for the turn after the one that was over at `end`. Returns what worker_turn takes. Where
 * the wait ends long after it should, the events can be from long before. */
static int wait_for_turn(struct worker *w, uint64_t end)
{
	uint64_t deadline = worker_next_deadline(w);
	int n = loop_wait(&w->loop, timeout_of(deadline, end));
	w->now = clock_now();
	uint64_t due = deadline > end ? deadline : end;
	if (n < 0 || w->now < clock_add(due, WORKER_LATE_NS))
		return n;
	loop_dispatch(&w->loop, n);
	return -EINTR;
}

static void run(struct worker *w)
{
	uint64_t end = clock_now();
	while (w->phase != PORT_ENDED) {
		int n = wait_for_turn(w, end);
		worker_turn(w, n);
		end = clock_now();
		end_turn(w, end);
	}
	w->now = end;
	conn_close_all(w, CLOSE_DRAINED);
	conn_free_closed(w);
}

/* A table of its own with what this worker needs in it: the standard streams (whoever
 * prints to stderr, a sanitizer say, must not print to a client), the listener, the pair,
 * and a wake-up for each worker, all under the numbers that they have everywhere. */
static int make_private(struct worker *w)
{
	struct port *port = w->port;
	size_t n = 0;
	OWN_MEM int *keep = calloc(port->n_workers + 7, sizeof(*keep));
	if (!keep)
		return -ENOMEM;
	keep[n++] = 0;
	keep[n++] = 1;
	keep[n++] = 2;
	keep[n++] = port->listen_fd;
	keep[n++] = port->main_fd;
	keep[n++] = port->hold.pass_pair[0];
	keep[n++] = port->hold.pass_pair[1];
	for (unsigned i = 0; i < port->n_workers; i++)
		keep[n++] = port->workers[i].wake.fd;
	return fdtable_make_private(keep, n);
}

static int prepare(struct worker *w)
{
	if (w->port->private_tables) {
		int r = make_private(w);
		if (r < 0)
			return r;
	}
	/* Early, for a low number. */
	int r = kept_refill(&w->kept);
	if (r == 0)
		r = loop_init(&w->loop);
	if (r == 0)
		r = loop_add(&w->loop, &w->wake, EPOLLIN | EPOLLET);
	return r;
}

static void report_started(struct port *port, int r)
{
	(void)pthread_mutex_lock(&port->start_lock);
	port->start_ready++;
	if (r < 0 && port->start_error == 0)
		port->start_error = r;
	(void)pthread_cond_broadcast(&port->start_changed);
	(void)pthread_mutex_unlock(&port->start_lock);
}

static void report_ended(struct worker *w)
{
	struct port *port = w->port;
	(void)pthread_mutex_lock(&port->start_lock);
	atomic_store(&w->ended, true);
	port->ended++;
	(void)pthread_cond_broadcast(&port->start_changed);
	(void)pthread_mutex_unlock(&port->start_lock);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	int r = prepare(w);
	report_started(w->port, r);
	if (r == 0)
		run(w);
	loop_destroy(&w->loop);
	kept_close(&w->kept);
	report_ended(w);
	return NULL;
}

int worker_start(struct worker *w)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);
	if (err)
		return -err;
	err = pthread_attr_setstacksize(&attr, WORKER_STACK);
	if (err == 0)
		err = pthread_create(&w->thread, &attr, worker_main, w);
	(void)pthread_attr_destroy(&attr);
	return -err;
}

int worker_init(struct worker *w, struct port *port, unsigned id, int wake_fd)
{
	*w = (struct worker){
	        .port = port,
	        .id = id,
	        .loop = {.epoll_fd = -1},
	        .config = atomic_load(&port->config),
	        .wake = {.fd = wake_fd, .ready = wake_ready},
	        .listener = {.fd = port->listen_fd, .ready = listener_ready},
	        .blocked = WORKER_BLOCK_CLOSED,
	        .batch = 1,
	        .patience = 1,
	        .kept = {.fd = -1},
	};
	w->unjudged = judge_is_idle(w->config);
	atomic_store(&w->config_seen, w->config);
	atomic_store(&w->idlest, CLOCK_INFINITY);
	hold_init_worker(&w->held);
	conn_set_init(&w->conns);
	keepalive_init(w);
	w->scratch = malloc(WORKER_SCRATCH);
	return w->scratch ? record_init(&w->record) : -ENOMEM;
}

void worker_destroy(struct worker *w)
{
	w->wake.fd = own_close(w->wake.fd);
	pool_give(&w->port->buffers, w->spare);
	w->spare = NULL;
	free(w->scratch);
	w->scratch = NULL;
	conn_set_destroy(&w->conns);
	record_destroy(&w->record);
}
