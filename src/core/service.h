/*
 * service.h - SERVE: what is done with an open connection. core calls a service through
 * this table and names none; portd.c hands the table in.
 *
 * All functions run in the connection's worker and must not block. Each returns 0 to go
 * on, or SERVICE_CLOSE(reason) to close: the caller closes, the service never does.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#include "core/counters.h"

struct conn;

/* A close reason as a positive outcome, and back. */
#define SERVICE_CLOSE(reason)        ((int)(reason) + 1)
#define SERVICE_CLOSE_REASON(result) ((enum close_reason)((result)-1))

struct service {
	const char *name;
	unsigned fds_per_connection;
	uint32_t events; /* epoll events to wait for after open */
	/* The connection was admitted. May be NULL. */
	int (*open)(struct conn *conn);
	/* Its descriptor is ready. May be NULL if open always closes. */
	int (*ready)(struct conn *conn, uint32_t events);
	/* It is about to be closed: give back what the service holds for it. May be NULL.
	 */
	void (*closing)(struct conn *conn);
};

#endif
