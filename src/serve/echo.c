/*
 * echo.c - reads into the worker's scratch buffer and sends at once. Only what the client
 * does not take is kept, in a buffer of the connection's own of at most one read; until
 * that is gone nothing more is read. So an idle client costs no buffer, and a slow one a
 * bounded one.
 *
 * The end of the client's stream is read only after everything before it was sent back;
 * then the connection is closed, which ends the other direction behind the last byte.
 *
 * Reads next: discard.c.
 */
#include "serve/echo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "core/conn.h"
#include "core/worker.h"

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

static int keep_unsent(struct conn *conn, const uint8_t *bytes, size_t len)
{
	conn->unsent = malloc(len);
	if (!conn->unsent)
		return SERVICE_CLOSE(CLOSE_ERROR);
	memcpy(conn->unsent, bytes, len);
	conn->unsent_len = (uint32_t)len;
	conn->unsent_pos = 0;
	return wait_for(conn, EPOLLOUT);
}

static void echo_closing(struct conn *conn)
{
	free(conn->unsent);
	conn->unsent = NULL;
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

static int echo_ready(struct conn *conn, uint32_t events)
{
	(void)events; /* an error or a hang-up shows in recv or send, with its errno */
	if (conn->unsent)
		return flush_unsent(conn);

	struct worker *w = conn->worker;
	for (int i = 0; i < ECHO_READS; i++) {
		ssize_t n =
		        recv(conn->watch.fd, w->scratch, WORKER_SCRATCH, MSG_DONTWAIT);
		if (n == 0)
			return SERVICE_CLOSE(CLOSE_CLIENT);
		if (n < 0)
			return err_is_again(errno) ? 0
			                           : SERVICE_CLOSE(conn_reason_of(errno));
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
	return 0;
}

const struct service echo_service = {
        .name = "echo",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = echo_ready,
        .closing = echo_closing,
};
