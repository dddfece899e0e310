/*
 * port_listen.c - does the kernel still listen for the port, and does accept4 still work?
 *
 * Whoever shares the listener can end it for all, by shutdown(2), and root can with `ss -K`; portd's own
 * books know nothing of it. So whatever is said of the port asks the kernel.
 *
 * Reads next: port_collect.c.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "core/worker.h"

/* Longer than a worker pauses after an error. */
#define STUCK_AFTER (1500 * CLOCK_MSEC)

/* The gate's opening brings another backlog. */
static uint64_t backlog_of(const struct port *port, const struct config *config)
{
	return port->gate_closed ? 0 : config->backlog;
}

int port_listen(struct port *port, const struct config *config)
{
	return listener_listen(
	        port->listen_fd, &port->address.addr, backlog_of(port, config));
}

int port_set_gate(struct port *port, bool closed)
{
	uint64_t now = clock_now();
	if (port->gate_closed == closed)
		return 0;
	if (listen(port->listen_fd,
	            closed ? 0 : (int)atomic_load(&port->config)->backlog) < 0)
		return -errno;
	port->gate_closed = closed;
	if (closed)
		port->gates++;
	else
		port->gated_ns += now - port->gate_since;
	port->gate_since = now;
	return 1;
}

/* Is it to be open to newcomers, even if only to shed them? */
static bool is_open(const struct port *port)
{
	enum port_phase phase = port_phase(port);
	return phase == PORT_OPEN || phase == PORT_DRAINING;
}

static uint64_t accepted_by_all(const struct port *port)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += counters_get(&port->workers[i].counters, COUNTER_ACCEPTED);
	return n;
}

/* Somebody waits, nobody has been accepted for a while, and accept4 fails for who tries. */
static bool look_for_failure(
        struct port *port, const struct listener_queue *queue, uint64_t now)
{
	uint64_t accepted = accepted_by_all(port);
	bool fails = false;
	for (unsigned i = 0; i < port->n_workers; i++)
		fails = fails || atomic_load(&port->workers[i].failing);
	if (!fails || queue->depth == 0 || accepted != port->stuck_at ||
	        port->stuck_from == 0) {
		port->stuck_at = accepted;
		port->stuck_from = now;
	}
	return now - port->stuck_from >= STUCK_AFTER;
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
	bool lost = r == 0 && !queue.listening;
	if (lost) {
		queue_age_forget(&port->queue_age);
		r = port_listen(port, atomic_load(&port->config));
	}
	port->stuck = r == 0 && !lost && look_for_failure(port, &queue, now);
	state_set_down(&port->state, r < 0 || port->stuck, now);
	if (r < 0)
		return r;
	return lost ? PORT_LISTENS_AGAIN : port->stuck ? PORT_ACCEPTS_NOTHING : 0;
}
