/*
 * conn.c - the life and the CLOSE of a connection.
 *
 * Invariants: a connection is on exactly one of its set's lists through its timer, and which
 * one follows from its state; an OPEN one is on the list of the living too; every OPEN one
 * holds one slot; every way out of OPEN goes through conn_close with a reason, but for those
 * that turn out to have been dead from the start, which were shed (shed_dead).
 */
#include "core/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "core/conn_pool.h"
#include "core/gauges.h"
#include "core/judge.h"
#include "core/linger.h"
#include "core/overload.h"
#include "core/probe.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/worker.h"
#include "net/sock.h"

static void conn_ready(struct watch *watch, uint32_t events);

/* Counts it as open, and as the peak if there were never so many. */
static void note_open(struct worker *w)
{
	struct port *port = w->port;
	conn_count_gauge(&w->conns.open, 1);
	/* Slots taken are never less than what is open: the exact sum is needed only near a
	 * new peak. */
	uint32_t peak = atomic_load_explicit(&port->peak, memory_order_relaxed);
	uint32_t used = atomic_load_explicit(&port->admit.used, memory_order_relaxed);
	used += atomic_load_explicit(&port->admit.priority_used, memory_order_relaxed);
	if (used > peak) {
		uint32_t n = port_connections(port);
		while (n > peak && !atomic_compare_exchange_weak(&port->peak, &peak, n))
			;
	}
}

/* In a dry run: has conn, beyond the slots that were asked for, the right to a priority slot, and is
 * there one? Then it changes to that, as the limits are to see it where it would be. */
static bool move_to_priority_slot(struct conn *conn, const struct ticket *ticket)
{
	struct worker *w = conn->worker;
	if (conn->priority_slot)
		return true;
	if (!ticket->priority || admit_take_priority(&w->port->admit) != 0)
		return false;
	conn->priority_slot = true;
	list_move_to_end(&w->conns.silent[true], &conn->timer);
	worker_give_slot(w, false);
	return true;
}

/* A dry run counts whom it lets in although a limit speaks against it; such a one is in nobody's
 * way: it is not booked, and the limits ask as if it were not there. */
static void note_would_shed(struct conn *conn, const struct ticket *ticket)
{
	struct worker *w = conn->worker;
	enum shed_reason reason = ticket->would_shed;
	if (reason == SHED_COUNT &&
	        port_asked_open(w->port, true) > atomic_load(&w->port->asked_max) &&
	        !move_to_priority_slot(conn, ticket)) {
		reason = SHED_FULL;
		judge_undo(w, ticket);
		conn->source = SOURCE_NONE;
	}
	if (reason == SHED_COUNT)
		return;
	counters_add_would_shed(&w->counters, reason);
	conn_count_gauge(&w->conns.would_shed, 1);
	conn->would_shed = true;
}

int conn_open(struct worker *w, int fd, const struct ticket *ticket)
{
	const struct service *service = w->port->service;
	struct conn *conn = conn_alloc(w, fd, conn_ready);
	if (!conn)
		return -ENOMEM;
	conn_set_state(conn, CONN_OPEN);
	if (service->events != 0 &&
	        loop_add(&w->loop, &conn->watch, service->events) < 0) {
		conn_retire(conn, true);
		return -ENOMEM;
	}
	conn->source = ticket->source.entry;
	conn->priority_slot = ticket->priority_slot;
	conn->untried = ticket->untried;
	conn->opened = w->now;
	list_append(&w->conns.silent[conn->priority_slot], &conn->timer);
	list_append(&w->conns.living, &conn->life);
	conn->phase = w->conns.opened++;
	note_open(w);
	if (w->config->dry_run)
		note_would_shed(conn, ticket);
	port_check_full(w);

	int r = service->open ? service->open(conn) : 0;
	if (r > 0)
		conn_close(conn, SERVICE_CLOSE_REASON(r));
	return 0;
}

/* From OPEN, counted already: gives back all that it holds. */
static void leave_open(struct conn *conn, bool linger)
{
	struct worker *w = conn->worker;
	conn_count_gauge(&w->conns.open, -1);
	if (w->conns.next == &conn->life)
		w->conns.next = conn_after(&w->conns, &conn->life);
	list_remove(&conn->life);
	uint32_t source = conn->source;
	bool priority_slot = conn->priority_slot;
	if (conn->would_shed)
		conn_count_gauge(&w->conns.would_shed, -1);
	if (w->port->service->closing)
		w->port->service->closing(conn);
	if (linger)
		conn_begin_linger(conn);
	else
		conn_retire(conn, false);
	w->gave = true;
	if (source != SOURCE_NONE)
		source_give(w->port->sources, source, w->now);
	worker_give_slot(w, priority_slot);
}

void conn_close(struct conn *conn, enum close_reason reason)
{
	struct worker *w = conn->worker;
	assert(conn->state == CONN_OPEN);
	counters_add_closed(&w->counters, reason);
	PROBE_CLOSE(w->id, conn->watch.fd, counters_close_name(reason),
	        w->now - conn->opened, conn->bytes_in, conn->bytes_out);
	leave_open(conn, reason == CLOSE_SERVICE);
}

static void shed_dead(struct conn *conn)
{
	struct addr peer;
	(void)addr_of_peer(conn->watch.fd, &peer);
	shed_note(conn->worker, SHED_ABORTED, &peer);
	PROBE_SHED(conn->worker->id, conn->watch.fd, counters_shed_name(SHED_ABORTED));
	leave_open(conn, false);
}

/* Its worker's first look at it finds it over at both ends: it was dead when it was accepted, as far
 * as anybody can tell. */
static bool was_dead(const struct conn *conn, uint32_t events)
{
	return conn->untried && (events & EPOLLHUP) &&
	       conn->opened >= conn->worker->shown;
}

static void conn_ready(struct watch *watch, uint32_t events)
{
	struct conn *conn = container_of(watch, struct conn, watch);
	if (was_dead(conn, events)) {
		shed_dead(conn);
		return;
	}
	conn->untried = false;
	int r = conn->worker->port->service->ready(conn, events);
	if (r > 0)
		conn_close(conn, SERVICE_CLOSE_REASON(r));
}

void conn_touch(struct conn *conn, bool in)
{
	struct worker *w = conn->worker;
	if (conn->spoken ? w->now - conn->active >= CONN_PRECISION_NS : in) {
		conn->active = w->now;
		conn->spoken = true;
		list_move_to_end(&w->conns.talking[conn->priority_slot], &conn->timer);
	}
}

void conn_count_in(struct conn *conn, uint64_t bytes)
{
	conn->bytes_in += bytes;
	counters_add(&conn->worker->counters, COUNTER_BYTES_IN, bytes);
}

void conn_count_out(struct conn *conn, uint64_t bytes)
{
	conn->bytes_out += bytes;
	counters_add(&conn->worker->counters, COUNTER_BYTES_OUT, bytes);
}

enum close_reason conn_reason_of(int err)
{
	/* ENOTCONN: there was an end already when somebody asked who the peer was. */
	if (err == ECONNRESET || err == EPIPE || err == ENOTCONN)
		return CLOSE_RESET;
	if (err == ECONNABORTED)
		return CLOSE_KILLED;
	/* Keepalive and retransmission end with ETIMEDOUT, or with what ICMP said last.
	 */
	return err_is_disconnect(err) ? CLOSE_TIMEOUT : CLOSE_ERROR;
}

void conn_close_all(struct worker *w, enum close_reason reason)
{
	struct list *first;
	while ((first = list_first(&w->conns.living)))
		conn_close(container_of(first, struct conn, life), reason);
	while (conn_linger_reclaim(w, true))
		;
}
