/*
 * queue_look.c - looks at the backlog queue: how deep it is, and how long its clients have been in it.
 *
 * Invariant: what goes into port->queue_age is read in the order that queue_age.h asks for.
 */
#include "base/clock.h"
#include "core/worker.h"

/* How much too short an age may be: a part of queue_timeout, so that the counts reach back twice as far
 * as that. */
#define LOOK_PARTS     512U
#define LOOK_UNLIMITED CLOCK_SEC

void port_note_depth(struct port *port, uint32_t depth)
{
	uint32_t peak = atomic_load_explicit(&port->depth_peak, memory_order_relaxed);
	while (depth > peak &&
	        !atomic_compare_exchange_weak(&port->depth_peak, &peak, depth))
		;
	state_note_depth(&port->state, depth);
}

static uint64_t calls_over(const struct port *port)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += counters_calls_over(&port->workers[i].counters);
	return n;
}

static uint64_t calls_begun(const struct port *port)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += counters_get(&port->workers[i].counters, COUNTER_ACCEPT_CALLS);
	return n;
}

static uint64_t spacing(const struct port *port)
{
	uint64_t timeout = atomic_load(&port->config)->queue_timeout;
	if (timeout == CLOCK_INFINITY)
		return LOOK_UNLIMITED;
	return timeout / LOOK_PARTS > CLOCK_MSEC ? timeout / LOOK_PARTS : CLOCK_MSEC;
}

int port_look_at_queue(struct port *port, uint64_t turn, struct listener_queue *ret)
{
	struct queue_look look = {.epoch = queue_age_epoch(&port->queue_age)};
	uint64_t over = calls_over(port);
	int r = listener_read_queue(port->listen_fd, ret);
	if (r < 0)
		return r;
	port_note_depth(port, ret->depth);
	if (ret->depth == 0)
		return 0;
	look.number = over + ret->depth;
	look.most = calls_begun(port) + ret->depth;
	look.at = clock_now();
	if (look.at < turn)
		look.at = turn;
	queue_age_note(&port->queue_age, &look, spacing(port));
	return 0;
}

int worker_read_age(struct worker *w, int fd, uint64_t *ret_ns)
{
	struct port *port = w->port;
	int r = listener_read_age(fd, ret_ns);
	if (r < 0 || !queue_age_is_known(&port->queue_age))
		return r;
	uint64_t since = queue_age_since(&port->queue_age, calls_begun(port));
	if (since < w->now && w->now - since > *ret_ns)
		*ret_ns = w->now - since;
	return r;
}
