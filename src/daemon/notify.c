/*
 * notify.c - sd_notify(3)'s protocol over one socket that is opened at start and kept.
 *
 * sd_notify() itself opens a socket with every call. With a full descriptor table that
 * fails with EMFILE, the watchdog's pings stop, and systemd kills a daemon that is
 * healthy and merely full. A datagram on a socket that is open already needs no
 * descriptor.
 *
 * Invariant: the socket is never connected. The address is named with every message, so
 * that a manager which comes back under the same path is heard again.
 */
#include "daemon/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/own.h"
#include "base/parse.h"
#include "net/fdpass.h"

static int notify_read_address(struct notify *n, const char *name)
{
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || len < 2 ||
	        len >= sizeof(n->address.sun_path))
		return -EAFNOSUPPORT;
	n->address.sun_family = AF_UNIX;
	memcpy(n->address.sun_path, name, len);
	if (name[0] == '@')
		n->address.sun_path[0] = '\0';
	/* An abstract name is its bytes, without a NUL; a path may go without as well. */
	n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return 0;
}

int notify_open(struct notify *ret)
{
	uint64_t usec = 0;

	*ret = (struct notify){.fd = -1};
	if (sd_watchdog_enabled(1, &usec) > 0)
		ret->watchdog_usec = usec;

	/* systemd sets it from version 254 on, portd's units for those before. */
	const char *store = getenv("FDSTORE");
	uint64_t places = 0;
	ret->stores = store && parse_uint(store, &places) == 0 && places > 0;

	const char *name = getenv("NOTIFY_SOCKET");
	int r = name && *name ? notify_read_address(ret, name) : 1;
	/* No other thread runs yet. */
	(void)unsetenv("NOTIFY_SOCKET"); /* NOLINT(concurrency-mt-unsafe) */
	(void)unsetenv("FDSTORE");       /* NOLINT(concurrency-mt-unsafe) */
	if (r == 0) {
		ret->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		r = ret->fd < 0 ? -errno : 0;
	}
	/* Whom nothing can be sent to keeps nothing. */
	ret->stores = ret->stores && r == 0;
	return r;
}

int notify_send(const struct notify *n, const char *message)
{
	return notify_send_fd(n, message, -1);
}

int notify_send_fd(const struct notify *n, const char *message, int fd)
{
	return n->fd < 0 ? 0
	                 : fdpass_send_to(n->fd, (const struct sockaddr *)&n->address,
	                           n->address_len, message, strlen(message), fd);
}

void notify_state(struct notify *n, const char *message)
{
	if (notify_send(n, message) == 0)
		n->owed[0] = '\0';
	else
		(void)snprintf(n->owed, sizeof(n->owed), "%s", message);
}

void notify_retry(struct notify *n)
{
	if (n->owed[0] && notify_send(n, n->owed) == 0)
		n->owed[0] = '\0';
}

void notify_close(struct notify *n)
{
	n->fd = own_close(n->fd);
}
