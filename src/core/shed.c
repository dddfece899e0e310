/*
 * shed.c - SHED. One place answers, one place counts: a client counts under exactly one
 * reason; who calls has ranked them (sheds.def).
 *
 * Reads next: counters.c.
 */
#include "core/shed.h"

#include <sys/socket.h>

#include "base/own.h"
#include "core/worker.h"
#include "net/sock.h"

static void answer_message(struct worker *w, int fd)
{
	/* At most 512 bytes into an empty send buffer: all of it goes, or the client is
	 * gone. */
	ssize_t n = send(fd, w->config->message.bytes, w->config->message.len,
	        MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		(void)own_close(fd);
	else
		conn_linger_shed(w, fd);
}

void shed(struct worker *w, int fd, enum shed_reason reason)
{
	counters_add_shed(&w->counters, reason);
	w->gave = true;
	if (reason == SHED_ABORTED) {
		(void)own_close(fd);
		return;
	}
	state_note_shed(
	        &w->port->state, reason != SHED_FULL && reason != SHED_FDS, w->now);

	switch (w->config->answer) {
	case CONFIG_ANSWER_RESET:
		sock_reset(fd);
		break;
	case CONFIG_ANSWER_CLOSE:
		(void)own_close(fd);
		break;
	case CONFIG_ANSWER_MESSAGE:
		answer_message(w, fd);
		break;
	}
}
