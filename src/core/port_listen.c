/*
 * port_listen.c - does the kernel still listen for the port, and does accept4 still work?
 *
 * Whoever shares the listener can end it for all, by shutdown(2), and root can with `ss -K`; portd's own
 * books know nothing of it. So whatever is said of the port asks the kernel.
 *
 * Invariant: listen(2) of the port's listener is called in listen_with alone. To one that was destroyed
 * the bare call would give connections that are shut down already, or another port, and nobody could
 * see afterwards that it was lost.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "core/worker.h"

/* So long after the last success accept4 still fails. Longer than a worker pauses after an error. */
#define STUCK_AFTER (1500 * CLOCK_MSEC)

/* The gate's opening brings another backlog. */
static uint64_t backlog_of(const struct port *port, const struct config *config)
{
	return port->gate_closed ? 0 : config->backlog;
}

/* Is it to be open to newcomers, even if only to shed them? */
static bool is_open(const struct port *port)
{
	enum port_phase phase = port_phase(port);
	return phase == PORT_OPEN || phase == PORT_DRAINING;
}

static int listen_with(struct port *port, uint64_t backlog)
{
	const struct addr *address = &port->address.addr;
	int at = listener_is_at(port->listen_fd, address);
	if (at < 0)
		return at;
	/* Who was counted is gone; who comes next must not be taken for one of them. */
	if (!at)
		queue_age_forget(&port->queue_age);
	int r = listener_listen(port->listen_fd, address, backlog);
	if (r == 0 && !at && is_open(port))
		port->lost = true;
	return r;
}

int port_listen(struct port *port, const struct config *config)
{
	return listen_with(port, backlog_of(port, config));
}

int port_set_gate(struct port *port, bool closed)
{
	uint64_t now = clock_now();
	if (port->gate_closed == closed)
		return 0;
	int r = listen_with(port, closed ? 0 : atomic_load(&port->config)->backlog);
	if (r < 0)
		return r;
	port->gate_closed = closed;
	if (closed)
		port->gates++;
	else
		port->gated_ns += now - port->gate_since;
	port->gate_since = now;
	return 1;
}

static uint64_t accepted_by_all(const struct port *port)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += counters_get(&port->workers[i].counters, COUNTER_ACCEPTED);
	return n;
}

/* Somebody waits, nobody has been accepted for a while, and accept4 fails for who tries. One failure
 * proves nothing about the time after it: a port that is full does not try. */
static bool look_for_failure(
        struct port *port, const struct listener_queue *queue, uint64_t now)
{
	uint64_t accepted = accepted_by_all(port), last = 0;
	for (unsigned i = 0; i < port->n_workers; i++) {
		uint64_t at = atomic_load(&port->workers[i].failed_at);
		last = at > last ? at : last;
	}
	if (last == 0 || queue->depth == 0 || accepted != port->stuck_at ||
	        port->stuck_from == 0) {
		port->stuck_at = accepted;
		port->stuck_from = now;
	}
	return last >= port->stuck_from + STUCK_AFTER;
}

bool port_is_down(const struct port *port, const struct listener_queue *queue)
{
	return is_open(port) &&
	       (!queue->listening || (port->stuck && queue->depth > 0 &&
	                                     accepted_by_all(port) == port->stuck_at));
}

int port_check_listener(struct port *port)
{
	struct listener_queue queue;
	uint64_t now = clock_now();
	if (!is_open(port))
		return 0;
	int r = listener_read_queue(port->listen_fd, &queue);
	if (r == 0)
		r = listener_is_at(port->listen_fd, &port->address.addr);
	if (r == 0)
		r = port_listen(port, atomic_load(&port->config));
	r = r < 0 ? r : 0;
	/* Seen here, or by whoever called listen(2) since the last look. */
	bool lost = port->lost;
	port->lost = false;
	port->stuck = r == 0 && !lost && look_for_failure(port, &queue, now);
	state_set_down(&port->state, r < 0 || port->stuck, now);
	if (r < 0)
		return r;
	return lost ? PORT_LISTENS_AGAIN : port->stuck ? PORT_ACCEPTS_NOTHING : 0;
}
