/*
 * echo.c - reads into the worker's scratch buffer and sends at once. Only what the client
 * does not take is kept, in a buffer of the pool of at most one read; until that is gone nothing
 * more is read. So an idle client costs no buffer, a slow one a bounded one, and all slow ones together
 * no more than the pool has. Once it is empty, what a client would not take stays in the kernel
 * (echo_without_buffer).
 *
 * The end of the client's stream is read only after everything before it was sent back;
 * then the connection is closed, which ends the other direction behind the last byte.
 */
#include "serve/echo.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/own.h"
#include "core/conn.h"
#include "core/worker.h"
#include "net/sock.h"

/* Reads in one turn before other connections have theirs. */
#define ECHO_READS 4

/* Returns bytes sent (0: no room), or -errno. */
static ssize_t send_some(struct conn *conn, const uint8_t *bytes, size_t len)
{
	ssize_t n = send(conn->watch.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return err_is_again(errno) ? 0 : -errno;
	conn_count_out(conn, (uint64_t)n);
	return n;
}

static int wait_for(struct conn *conn, uint32_t events)
{
	int r = loop_change(&conn->worker->loop, &conn->watch, events);
	return r < 0 ? SERVICE_CLOSE(CLOSE_ERROR) : 0;
}

/* There is a buffer at hand for each byte that is read before it could be sent. */
static int keep_unsent(struct conn *conn, const uint8_t *bytes, size_t len)
{
	conn->unsent = TAKE_PTR(conn->worker->spare);
	memcpy(conn->unsent, bytes, len);
	conn->unsent_len = (uint32_t)len;
	conn->unsent_pos = 0;
	return wait_for(conn, EPOLLOUT);
}

static void echo_closing(struct conn *conn)
{
	pool_give(&conn->worker->port->buffers, TAKE_PTR(conn->unsent));
}

static int flush_unsent(struct conn *conn)
{
	ssize_t n = send_some(conn, conn->unsent + conn->unsent_pos,
	        conn->unsent_len - conn->unsent_pos);
	if (n < 0)
		return SERVICE_CLOSE(conn_reason_of((int)-n));
	if (n > 0)
		conn_touch(conn, false);
	conn->unsent_pos += (uint32_t)n;
	if (conn->unsent_pos < conn->unsent_len)
		return 0;
	echo_closing(conn);
	return wait_for(conn, EPOLLIN);
}

/* What recv says of the end, as an outcome of the service; n is 0 or less. */
static int end_of(ssize_t n)
{
	if (n == 0)
		return SERVICE_CLOSE(CLOSE_CLIENT);
	return err_is_again(errno) ? 0 : SERVICE_CLOSE(conn_reason_of(errno));
}

/* No buffer is left: nothing is taken from the kernel that the client does not take at once. */
static int echo_without_buffer(struct conn *conn)
{
	struct worker *w = conn->worker;
	ssize_t n =
	        recv(conn->watch.fd, w->scratch, WORKER_SCRATCH, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return end_of(n);
	ssize_t sent = send_some(conn, w->scratch, (size_t)n);
	if (sent < 0)
		return SERVICE_CLOSE(conn_reason_of((int)-sent));
	if (sent > 0) {
		(void)sock_discard(conn->watch.fd, (size_t)sent, NULL);
		conn_count_in(conn, (uint64_t)sent);
		conn_touch(conn, true);
	}
	return sent < n ? wait_for(conn, EPOLLOUT) : 0;
}

static int echo_ready(struct conn *conn, uint32_t events)
{
	(void)events; /* an error or a hang-up shows in recv or send, with its errno */
	if (conn->unsent)
		return flush_unsent(conn);

	struct worker *w = conn->worker;
	int r = wait_for(conn, EPOLLIN);
	for (int i = 0; i < ECHO_READS && r == 0; i++) {
		if (!w->spare)
			w->spare = pool_take(&w->port->buffers);
		if (!w->spare)
			return echo_without_buffer(conn);
		ssize_t n =
		        recv(conn->watch.fd, w->scratch, WORKER_SCRATCH, MSG_DONTWAIT);
		if (n <= 0)
			return end_of(n);
		conn_count_in(conn, (uint64_t)n);
		conn_touch(conn, true);

		ssize_t sent = send_some(conn, w->scratch, (size_t)n);
		if (sent < 0)
			return SERVICE_CLOSE(conn_reason_of((int)-sent));
		if (sent < n)
			return keep_unsent(conn, w->scratch + sent, (size_t)(n - sent));
		if ((size_t)n < WORKER_SCRATCH)
			return 0;
	}
	return r;
}

const struct service echo_service = {
        .name = "echo",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = echo_ready,
        .closing = echo_closing,
};
