/*
 * tuple.c - speaks first and never reads: what the client has sent is thrown away while
 * the connection lingers (conn.c), or its reset could overtake the line.
 */
#include "serve/tuple.h"

#include <errno.h>
#include <sys/socket.h>

#include "core/conn.h"
#include "core/worker.h"
#include "net/addr.h"

static int tuple_open(struct conn *conn)
{
	struct tuple tuple;
	int r = tuple_from_socket(conn->watch.fd, &tuple);
	if (r < 0)
		return SERVICE_CLOSE(conn_reason_of(-r));

	char line[TUPLE_TEXT_MAX];
	unsigned len = tuple_format(&tuple, line);
	/* A line into an empty send buffer: all of it goes, or the client is gone. */
	ssize_t n = send(conn->watch.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return SERVICE_CLOSE(conn_reason_of(errno));
	conn_count_out(conn, (uint64_t)n);
	return SERVICE_CLOSE(CLOSE_SERVICE);
}

const struct service tuple_service = {
        .name = "tuple",
        .fds_per_connection = 1,
        .open = tuple_open,
};
