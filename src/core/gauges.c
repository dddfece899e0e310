/*
 * gauges.c - see gauges.h.
 */
#include "core/gauges.h"

#include "core/worker.h"

uint32_t port_connections(const struct port *port)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += atomic_load_explicit(
		        &port->workers[i].conns.open, memory_order_relaxed);
	return n;
}

uint32_t port_ordinary(const struct port *port)
{
	uint32_t n = port_connections(port);
	uint32_t priority =
	        atomic_load_explicit(&port->admit.priority_used, memory_order_relaxed);
	return n > priority ? n - priority : 0;
}

uint32_t port_asked_open(const struct port *port, bool dry_run)
{
	uint32_t n = port_ordinary(port), ghosts = 0;
	for (unsigned i = 0; dry_run && i < port->n_workers; i++)
		ghosts += atomic_load_explicit(
		        &port->workers[i].conns.would_shed, memory_order_relaxed);
	return n > ghosts ? n - ghosts : 0;
}
