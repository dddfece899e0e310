/*
 * discard.c - the kernel drops the bytes itself (MSG_TRUNC, tcp(7)): nothing is copied.
 */
#include "serve/discard.h"

#include "core/conn.h"
#include "core/worker.h"
#include "net/sock.h"

/* Bytes in one turn before other connections have theirs. */
#define DISCARD_BYTES (1024U * 1024U)

static int discard_ready(struct conn *conn, uint32_t events)
{
	(void)events;
	size_t bytes = 0;
	int r = sock_discard(conn->watch.fd, DISCARD_BYTES, &bytes);
	if (bytes > 0) {
		conn_count_in(conn, bytes);
		conn_touch(conn, true);
	}
	if (r == 0)
		return 0;
	return SERVICE_CLOSE(r > 0 ? CLOSE_CLIENT : conn_reason_of(-r));
}

const struct service discard_service = {
        .name = "discard",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = discard_ready,
};
