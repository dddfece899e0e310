/*
 * linger.c - see linger.h.
 *
 * Invariant: one that lingers holds no slot; its descriptor may be wanted, and whoever waits for one is told.
 */
#include "core/linger.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/own.h"
#include "core/conn_pool.h"
#include "core/waiter.h"
#include "core/worker.h"
#include "net/sock.h"

#define CONN_LINGER_BYTES (64U * 1024U)

static void end_linger(struct conn *conn)
{
	/* Nothing unread may be left: close would answer that with a reset, which can
	 * overtake. */
	(void)sock_discard(conn->watch.fd, CONN_LINGER_BYTES, NULL);
	conn_count_gauge(&conn->worker->conns.lingering, -1);
	conn_retire(conn, false);
	/* The slot was given back long since; a holder may wait for the descriptor. */
	hold_notify(conn->worker);
}

static void linger_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	struct conn *conn = container_of(watch, struct conn, watch);
	size_t bytes = 0;
	int r = sock_discard(watch->fd, CONN_LINGER_BYTES - conn->discarded, &bytes);
	conn->discarded += (uint32_t)bytes;
	if (r != 0 || conn->discarded >= CONN_LINGER_BYTES)
		end_linger(conn);
}

void conn_begin_linger(struct conn *conn)
{
	struct worker *w = conn->worker;
	conn_set_state(conn, CONN_LINGER);
	conn->watch.ready = linger_ready;
	conn->active = w->now;
	conn_count_gauge(&w->conns.lingering, 1);
	list_move_to_end(&w->conns.linger, &conn->timer);

	size_t bytes = 0;
	bool over = shutdown(conn->watch.fd, SHUT_WR) < 0 ||
	            sock_discard(conn->watch.fd, CONN_LINGER_BYTES, &bytes) != 0 ||
	            bytes >= CONN_LINGER_BYTES;
	conn->discarded = (uint32_t)bytes;
	if (!over) {
		int r = conn->watch.events == 0
		                ? loop_add(&w->loop, &conn->watch, EPOLLIN)
		                : loop_change(&w->loop, &conn->watch, EPOLLIN);
		over = r < 0;
	}
	if (over)
		end_linger(conn);
	else if (atomic_load_explicit(&w->conns.lingering, memory_order_relaxed) >
	         atomic_load_explicit(&w->port->linger, memory_order_relaxed))
		(void)conn_linger_reclaim(w, true);
}

void conn_linger_shed(struct worker *w, int fd)
{
	struct conn *conn = conn_alloc(w, fd, linger_ready);
	if (conn)
		conn_begin_linger(conn);
	else
		(void)own_close(fd);
}

bool conn_linger_reclaim(struct worker *w, bool force)
{
	struct list *first = list_first(&w->conns.linger);
	if (!first)
		return false;
	struct conn *conn = container_of(first, struct conn, timer);
	if (!force && !sock_is_flushed(conn->watch.fd))
		return false;
	end_linger(conn);
	return true;
}
