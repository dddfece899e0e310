/*
 * port_collect.c - the port in figures: one snapshot for everybody who asks.
 *
 * Invariant: it takes time that depends on the number of workers only, and changes nothing but that the
 * state says what the kernel says of the listener.
 */
#include "core/port.h"

#include "base/clock.h"
#include "core/worker.h"

int port_create_books(const struct budget *budget, struct source_books **ret)
{
	return source_books_create((uint32_t)budget->most, SOURCE_SPARE, ret);
}

int port_try(const struct budget *budget)
{
	struct source_books *books = NULL;
	int r = port_create_books(budget, &books);
	(void)source_books_destroy(books);
	return r;
}

/* What is open in all tables: counted by what portd knows, for a look at /proc takes time
 * that grows with the number of connections. */
static uint64_t fds_in_use(
        const struct port *port, const struct stats *s, unsigned extra_fds)
{
	uint64_t standard = 3, listener = 1, main_fd = 1;
	uint64_t pair = port->private_tables ? 2 : 0;
	uint64_t wakes = port->n_workers;
	uint64_t common = standard + listener + main_fd + pair + wakes;
	uint64_t own = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		own += 1U +
		       (atomic_load(&port->workers[i].kept.fd) >= 0); /* epoll, kept */
	uint64_t tables = port->private_tables ? port->n_workers + 1U : 1;
	return tables * common + own + extra_fds + s->held + s->lingering +
	       s->connections * port->budget.fds_per_connection;
}

static void collect_workers(struct port *port, struct stats *s)
{
	for (unsigned i = 0; i < port->n_workers; i++) {
		const struct worker *w = &port->workers[i];
		struct counts counts;
		counters_read(&w->counters, &counts);
		counts_sum(&s->total, &counts);
		port->stats_workers[i] = (struct stats_worker){
		        .id = i,
		        .connections = atomic_load(&w->conns.open),
		        .accepted = counts.counter[COUNTER_ACCEPTED],
		        .loops = counts.loops,
		        .longest_loop_ns = counts.longest_loop_ns,
		};
		s->connections += port->stats_workers[i].connections;
		s->lingering += atomic_load(&w->conns.lingering);
	}
	s->workers = port->stats_workers;
}

bool port_note_memory(struct port *port, const struct memory *memory)
{
	bool was_short = atomic_load(&port->memory_short);
	bool is_short = memory_is_short(memory, was_short);
	port->memory = *memory;
	atomic_store(&port->memory_short, is_short);
	if (is_short != was_short)
		state_set_no_memory(&port->state, is_short, clock_now());
	return is_short != was_short;
}

void port_collect(struct port *port, unsigned extra_fds, struct stats *ret)
{
	uint64_t now = clock_now();
	*ret = (struct stats){
	        .uptime_ns = now - port->started,
	        .address = port->address,
	        .backlog_configured = atomic_load(&port->config)->backlog,
	        .budget = port->budget,
	        .held = atomic_load(&port->hold.count),
	};
	struct listener_queue queue = {0};
	uint32_t drops = 0;
	(void)listener_read_queue(port->listen_fd, &queue);
	if (port_is_down(port, &queue))
		state_set_down(&port->state, true, now);
	ret->state = state_read(&port->state, now, ret->time_in_state_ns);
	(void)listener_read_drops(port->listen_fd, &drops);
	port_note_depth(port, queue.depth);
	ret->backlog_effective = queue.effective;
	ret->queue_depth = queue.depth;
	ret->queue_depth_peak = atomic_load(&port->depth_peak);
	ret->kernel_drops = drops;
	ret->gate_closed = port->gate_closed;
	ret->gates = port->gates;
	ret->gated_ns = port->gated_ns + (ret->gate_closed ? now - port->gate_since : 0);

	ret->arrivals_peak = atomic_load(&port->burst.arrivals_peak);
	ret->accept_pause_ns = atomic_load(&port->burst.pause);

	ret->memory = port->memory;
	ret->memory_short = atomic_load(&port->memory_short);
	ret->buffers = pool_taken(&port->buffers);

	collect_workers(port, ret);
	ret->priority_connections = atomic_load(&port->admit.priority_used);
	source_read_usage(port->sources, &ret->sources);
	ret->keepalive_ns =
	        keepalive_period(atomic_load(&port->config)->keepalive, ret->connections);
	/* After the workers: there was never more open than the peak. */
	uint64_t peak = atomic_load(&port->peak);
	ret->connections_peak = peak > ret->connections ? peak : ret->connections;
	ret->fds_in_use = fds_in_use(port, ret, extra_fds);
}
