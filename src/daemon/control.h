/*
 * control.h - the control socket: a stream unix socket; one request line, the answer, end
 * of file.
 *
 * At most CONTROL_CLIENTS_MAX clients at once, each with CONTROL_DEADLINE_NS from accept
 * to the end and CONTROL_REQUEST_MAX bytes of request. Slow, silent or hostile clients
 * can neither block portd nor lock others out. Main thread only.
 *
 * Reads next: socket_file.h.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "daemon/reserve.h"

#define CONTROL_CLIENTS_MAX 32U
#define CONTROL_REQUEST_MAX 256U
#define CONTROL_DEADLINE_NS (5 * CLOCK_SEC)

struct control;

struct control_request {
	const char *line; /* without its end; any bytes; ends with a NUL of ours */
	size_t len;
	bool privileged; /* the peer is root or portd's own user, SO_PEERCRED */
};

/* Takes over listen_fd (listening, non-blocking), on success. reserve is used when no
 * descriptor is left, and must outlive the control. answer writes the whole answer to a
 * request to `out`, which is memory; it must not block. Returns 0 or -errno. */
int control_open(struct control **ret, sd_event *event, int listen_fd,
        struct reserve *reserve,
        void (*answer)(void *arg, const struct control_request *request, FILE *out),
        void *arg);

/* Ends every client as it is and closes the socket. NULL is fine. Returns NULL. */
struct control *control_close(struct control *c);

/* Descriptors that it holds now. */
unsigned control_fds(const struct control *c);

#endif
