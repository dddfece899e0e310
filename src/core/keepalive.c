/*
 * keepalive.c - see keepalive.h.
 *
 * Invariants: no more than one probe in
 * KEEPALIVE_PACE_NS is asked for by all workers together, but for a batch at once; nobody is closed
 * here but who has left unanswered what the kernel sent again and again.
 */
#include "core/keepalive.h"

#include "base/clock.h"
#include "base/own.h"
#include "core/gauges.h"
#include "core/worker.h"
#include "net/sock.h"

/* Probes that one worker asks for in a turn: what goes out in one tick of the kernel's has to fit into
 * the queue of net.core.netdev_max_backlog many times over. */
#define KEEPALIVE_BATCH 64U
/* Connections that it looks at in a turn. */
#define KEEPALIVE_LOOKS 512U
/* Were all of them unanswered, each would be probed in every round. */
#define KEEPALIVE_PACE_NS (CLOCK_SEC / (KEEPALIVE_EVERY * KEEPALIVE_RATE))
#define KEEPALIVE_REST_NS CLOCK_MSEC

uint64_t keepalive_period(uint64_t keepalive_ns, uint64_t connections)
{
	uint64_t least = connections * KEEPALIVE_PACE_NS * KEEPALIVE_ROUNDS;
	return keepalive_ns == 0 || keepalive_ns > least ? keepalive_ns : least;
}

uint64_t keepalive_period_of(const struct port *port)
{
	return keepalive_period(
	        atomic_load(&port->config)->keepalive, port_connections(port));
}

void keepalive_init(struct worker *w)
{
	w->keepalive =
	        (struct keepalive){.at = w->config->keepalive > 0 ? 0 : CLOCK_INFINITY};
}

/* A place in the pace for a batch of probes. Returns from when on it is w's, ns. */
static uint64_t reserve(struct worker *w)
{
	_Atomic uint64_t *next = &w->port->keepalive.next;
	uint64_t at, was = atomic_load(next);
	do {
		at = was > w->now ? was : w->now;
	} while (!atomic_compare_exchange_weak(
	        next, &was, at + KEEPALIVE_BATCH * KEEPALIVE_PACE_NS));
	w->keepalive.granted = KEEPALIVE_BATCH;
	return at;
}

static void give_back_rest(struct worker *w)
{
	struct keepalive *k = &w->keepalive;
	(void)atomic_fetch_sub(&w->port->keepalive.next, k->granted * KEEPALIVE_PACE_NS);
	k->granted = 0;
}

/* Is it one of those that are looked at in this round? */
static bool is_due(const struct conn *conn, uint64_t round_ns)
{
	const struct worker *w = conn->worker;
	uint8_t rounds = (uint8_t)(conn->phase - w->keepalive.round);
	return conn->unanswered > 0 ||
	       (rounds % KEEPALIVE_EVERY == 0 &&
	               w->now >= conn->active + round_ns * (KEEPALIVE_EVERY / 2));
}

static void count_unanswered(struct conn *conn)
{
	if (conn->unanswered < UINT8_MAX)
		conn->unanswered++;
}

enum verdict {
	LEAVE,
	PROBE,
	CLOSE
};

static enum verdict look(struct conn *conn, uint64_t round_ns)
{
	struct sock_silence silence;
	if (!is_due(conn, round_ns))
		return LEAVE;
	if (sock_get_silence(conn->watch.fd, &silence) < 0 ||
	        (silence.tries == 0 && (conn->unanswered > 0 || silence.is_pending))) {
		conn->unanswered = 0;
		return LEAVE;
	}
	if (!silence.is_pending)
		return PROBE;
	/* What the kernel sends again is as good as a probe. It would go on for a quarter of an hour, and
	 * TCP_USER_TIMEOUT would end those, too, that are alive and take nothing. */
	count_unanswered(conn);
	return conn->unanswered > SOCK_PROBES && silence.tries >= KEEPALIVE_RESENDS
	               ? CLOSE
	               : LEAVE;
}

static void probe(struct conn *conn)
{
	struct worker *w = conn->worker;
	w->keepalive.granted--;
	sock_probe(conn->watch.fd);
	counters_add(&w->counters, COUNTER_PROBES, 1);
	count_unanswered(conn);
}

/* The client that is held is on no list. It is one at most. */
static void begin_round(struct worker *w, uint64_t round_ns)
{
	struct conn_set *set = &w->conns;
	w->keepalive.round++;
	set->next = list_first(&w->conns.living);
	if (w->held.watch.fd >= 0 &&
	        w->now >= w->held.since + round_ns * (KEEPALIVE_EVERY / 2))
		sock_probe(w->held.watch.fd);
}

void keepalive_turn(struct worker *w)
{
	struct keepalive *k = &w->keepalive;
	struct conn_set *set = &w->conns;
	if (w->now < k->at)
		return;
	uint64_t round_ns = keepalive_period_of(w->port) / KEEPALIVE_ROUNDS;
	uint64_t open = atomic_load_explicit(&w->conns.open, memory_order_relaxed);
	unsigned looks = 0;
	bool may_probe = true;
	if (!set->next)
		begin_round(w, round_ns);
	/* None twice in a turn. */
	while (set->next && looks < KEEPALIVE_LOOKS && looks < open && may_probe) {
		struct conn *conn = container_of(set->next, struct conn, life);
		enum verdict verdict = look(conn, round_ns);
		if (verdict == PROBE) {
			uint64_t at = k->granted > 0 ? 0 : reserve(w);
			if (at > w->now) {
				k->at = at;
				return;
			}
			probe(conn);
			may_probe = k->granted > 0;
		}
		set->next = conn_after(&w->conns, set->next);
		looks++;
		if (verdict == CLOSE)
			conn_close(conn, CLOSE_TIMEOUT);
		if (!set->next && looks < open)
			begin_round(w, round_ns);
	}
	give_back_rest(w);
	uint64_t rest = open > 0 ? round_ns * looks / open : round_ns;
	/* A little late is made good for; after a stop it goes on from here. */
	uint64_t from = w->now - k->at < round_ns ? k->at : w->now;
	k->at = from + rest > w->now + KEEPALIVE_REST_NS ? from + rest
	                                                 : w->now + KEEPALIVE_REST_NS;
}

uint64_t keepalive_deadline(const struct worker *w)
{
	if (list_is_empty(&w->conns.living) && w->held.watch.fd < 0)
		return CLOCK_INFINITY;
	return w->keepalive.at;
}
