/*
 * conn_timeout.c - when a connection has done nothing for too long.
 *
 * Invariants:
 *   - Timeouts cost O(1) an event: each list is in order of time, because every entry waits
 *     equally long.
 *   - A worker can be late: stopped, out of its CPU quota, or busy with others. A time that has run
 *     out is then no proof that the client did nothing, so the socket is asked before anybody is
 *     closed for silence (conn_has_moved), and what happened in a long turn counts from the end
 *     of it (conn_end_long_turn).
 *   - What fills a send buffer leaves it without an event until a third of it is free. So whoever
 *     takes it slowly moves without the worker's knowledge, and the socket is asked for that, too.
 */
#include "core/conn.h"

#include <poll.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/linger.h"
#include "core/worker.h"
#include "net/sock.h"

#define CONN_LINGER_NS (500 * CLOCK_MSEC)
/* Two ticks of the kernel's, where they are longest. */
#define CONN_TICKS_NS (20 * CLOCK_MSEC)

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT, "poll takes what epoll takes");

bool conn_is_unheard(const struct conn *conn)
{
	struct pollfd ready = {.fd = conn->watch.fd,
	        .events = (short)(conn->watch.events & (EPOLLIN | EPOLLOUT))};
	/* An urgent byte stays unread for ever: it is heard once, as the first one. */
	if (!conn->spoken)
		ready.events |= POLLPRI;
	return poll(&ready, 1, 0) > 0;
}

/* Has the client's kernel taken something? If all of it has been taken, the time tells whether that
 * was only what the worker sent when it last moved. */
static bool is_taking(struct conn *conn)
{
	struct sock_progress progress;
	/* Where it has not spoken yet it is its first byte that is waited for. */
	if (!conn->spoken || conn->bytes_out == 0 ||
	        sock_get_progress(conn->watch.fd, &progress) < 0 ||
	        progress.acked == conn->acked)
		return false;
	conn->acked = progress.acked;
	return progress.is_pending || progress.quiet_ms * CLOCK_MSEC + CONN_TICKS_NS <
	                                      conn->worker->now - conn->active;
}

bool conn_has_moved(struct conn *conn)
{
	return conn_is_unheard(conn) || is_taking(conn);
}

/* When the first of a list has waited `timeout`; 0 is no timeout. */
static uint64_t list_deadline(const struct list *head, uint64_t timeout)
{
	struct list *first = list_first(head);
	if (!first || timeout == 0)
		return CLOCK_INFINITY;
	return clock_add(container_of(first, struct conn, timer)->active, timeout);
}

/* When the connection that was opened first has lived for its time. */
static uint64_t life_deadline(const struct worker *w)
{
	struct list *first = list_first(&w->conns.living);
	if (!first || w->config->lifetime == 0)
		return CLOCK_INFINITY;
	return clock_add(
	        container_of(first, struct conn, life)->opened, w->config->lifetime);
}

/* A silent connection is under both timeouts; the shorter one decides, and is the reason.
 */
static uint64_t silent_timeout(const struct config *config, enum close_reason *ret_reason)
{
	bool first = config->first_byte > 0 &&
	             (config->idle == 0 || config->first_byte <= config->idle);
	*ret_reason = first ? CLOSE_FIRST_BYTE : CLOSE_IDLE;
	return first ? config->first_byte : config->idle;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t conn_next_deadline(const struct worker *w)
{
	enum close_reason reason;
	uint64_t silent = silent_timeout(w->config, &reason), next = CLOCK_INFINITY;
	for (size_t i = 0; i < 2; i++) {
		next = sooner(next, list_deadline(&w->conns.silent[i], silent));
		next = sooner(next, list_deadline(&w->conns.talking[i], w->config->idle));
	}
	next = sooner(next, life_deadline(w));
	return sooner(next, list_deadline(&w->conns.linger, CONN_LINGER_NS));
}

/* Closes those whose time is up. Who has moved, though the worker has not seen it yet, has a new time; the
 * next turn looks. */
static void expire_list(
        struct worker *w, struct list *head, uint64_t timeout, enum close_reason reason)
{
	struct list *first;
	while ((first = list_first(head)) && list_deadline(head, timeout) <= w->now) {
		struct conn *conn = container_of(first, struct conn, timer);
		if (conn_has_moved(conn))
			conn_touch(conn, true);
		else
			conn_close(conn, reason);
	}
}

/* It has to go, whatever moves on it; but not without an answer to what it has sent until now. */
static void end_life(struct conn *conn)
{
	if (conn_is_unheard(conn))
		conn->watch.ready(&conn->watch, conn->watch.events);
	if (conn->state == CONN_OPEN)
		conn_close(conn, CLOSE_LIFETIME);
}

void conn_expire(struct worker *w)
{
	enum close_reason reason;
	uint64_t timeout = silent_timeout(w->config, &reason);
	for (size_t i = 0; i < 2; i++) {
		expire_list(w, &w->conns.silent[i], timeout, reason);
		expire_list(w, &w->conns.talking[i], w->config->idle, CLOSE_IDLE);
	}
	struct list *first;
	while ((first = list_first(&w->conns.living)) && life_deadline(w) <= w->now)
		end_life(container_of(first, struct conn, life));
	while (list_deadline(&w->conns.linger, CONN_LINGER_NS) <= w->now)
		(void)conn_linger_reclaim(w, true);
}

/* Those of a list that moved in the turn that began at w->now are its last ones. */
static void move_on(struct list *head, uint64_t began, uint64_t end)
{
	for (struct list *last = head->prev; last != head; last = last->prev) {
		struct conn *conn = container_of(last, struct conn, timer);
		if (conn->active != began)
			break;
		conn->active = end;
	}
}

void conn_end_long_turn(struct worker *w, uint64_t end)
{
	for (size_t i = 0; i < 2; i++) {
		move_on(&w->conns.silent[i], w->now, end);
		move_on(&w->conns.talking[i], w->now, end);
	}
	move_on(&w->conns.linger, w->now, end);
	struct list *living = &w->conns.living;
	for (struct list *last = living->prev; last != living; last = last->prev) {
		struct conn *conn = container_of(last, struct conn, life);
		if (conn->opened != w->now)
			break;
		conn->opened = end;
	}
}
