/*
 * shed.c - SHED. One place answers, one place counts: a client counts under exactly one
 * reason; who calls has ranked them (sheds.def).
 */
#include "core/shed.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/linger.h"
#include "core/probe.h"
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

void shed_note(struct worker *w, enum shed_reason reason, const struct addr *peer)
{
	counters_add_shed(&w->counters, reason);
	/* Not w->now: people want to see who came first, at whatever worker. */
	record_add(&w->record, peer, reason, clock_now());
	if (reason == SHED_ABORTED)
		return;
	struct prefix net = prefix_mask(
	        peer, (unsigned)w->config->prefix4, (unsigned)w->config->prefix6);
	/* First the sum: no network is to have more of it than there is. */
	bool in_spell = state_note_shed(
	        &w->port->state, counters_shed_kind(reason) == SHED_KIND_SHORT, w->now);
	if (peer->family != AF_UNSPEC)
		source_note_shed(w->port->sources, &net, reason, in_spell, w->now);
}

void shed(struct worker *w, int fd, enum shed_reason reason, const struct addr *peer)
{
	struct addr asked;
	if (peer->family == AF_UNSPEC && addr_of_peer(fd, &asked) == 0)
		peer = &asked;
	shed_note(w, reason, peer);
	PROBE_SHED(w->id, fd, counters_shed_name(reason));
	w->gave = true;
	if (reason == SHED_ABORTED) {
		(void)own_close(fd);
		return;
	}
	switch (w->config->answer) {
	case CONFIG_ANSWER_RESET:
		sock_reset(fd);
		break;
	case CONFIG_ANSWER_CLOSE:
		/* What the client has sent, or sends before it sees the end, would make close(2)
		 * send a reset. */
		conn_linger_shed(w, fd);
		break;
	case CONFIG_ANSWER_MESSAGE:
		answer_message(w, fd);
		break;
	}
}
