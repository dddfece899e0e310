/*
 * limits_queue.c - the limits on clients that wait, and what the backlog should be.
 *
 * Invariants: arithmetic only. The advice never lowers anything; it rests on what was seen, and
 * where that is too little there is none.
 */
#include <inttypes.h>

#include "ctl/limits_rows.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* 0 for what is not known. */
static uint64_t known(uint64_t n)
{
	return n == LIMITS_NONE ? 0 : n;
}

/* Clients that arrive at the highest rate in twice the longest pause, rounded up. */
static uint64_t burst(uint64_t arrivals, uint64_t pause_us)
{
	uint64_t product = 0;

	if (__builtin_mul_overflow(arrivals, 2 * pause_us, &product))
		return LIMITS_BACKLOG_MAX;
	return product / USEC_PER_SEC + (product % USEC_PER_SEC > 0);
}

static uint64_t power_of_two(uint64_t n)
{
	uint64_t power = 1;

	while (power < n && power < LIMITS_BACKLOG_MAX)
		power *= 2;
	return power;
}

void limits_advise(const struct limits_portd *p, const struct limits_machine *m,
        struct limits_advice *ret)
{
	struct limits_advice a = {
	        .enough_seen = known(p->uptime) >= LIMITS_SEEN_UPTIME &&
	                       known(p->accepted) >= LIMITS_SEEN_ACCEPTED};
	uint64_t peak = known(p->queue_depth_peak);

	*ret = a;
	if (!p->running)
		return;
	/* Those who look at the queue now and then may not have seen it full; the kernel, which
	 * drops, has. Only a gate makes it drop at a queue that is not. */
	a.overflowed = known(p->kernel_drops) > 0 &&
	               (known(p->gate_seconds) == 0 || 2 * peak >= p->backlog_effective);
	a.known = p->arrivals_peak != LIMITS_NONE && p->accept_pause_us < LIMITS_NONE / 2;
	a.needed = 2 * peak;
	if (a.known)
		a.needed = limits_most(
		        a.needed, burst(p->arrivals_peak, p->accept_pause_us));
	if (a.overflowed)
		a.needed = limits_most(a.needed, 2 * p->backlog_effective);
	if (a.needed > LIMITS_BACKLOG_MAX)
		a.needed = LIMITS_BACKLOG_MAX;
	/* A queue that was deep needs no long observation to be called too short. */
	if (a.enough_seen || a.overflowed || a.needed > p->backlog_effective) {
		a.backlog = limits_most(power_of_two(a.needed), p->backlog_configured);
		a.somaxconn =
		        limits_most(a.backlog, m->somaxconn.err ? 0 : m->somaxconn.n);
	}
	*ret = a;
}

static void add_backlog(struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;
	const struct limits_machine *m = &c->machine;
	bool clamped = p->backlog_effective < p->backlog_configured;
	struct limits_row *row =
	        limits_row_add(c, "backlog", "[listener] backlog", LIMITS_GROUP_WAITING);

	row->number = p->backlog_configured;
	row->allows = p->backlog_configured;
	row->binds = !clamped;
	(void)snprintf(
	        row->from, sizeof(row->from), "%s", p->running ? "portd" : "the default");
	limits_row_raise_config(
	        c, row, true, LIMITS_KEY_BACKLOG, "%" PRIu64, 2 * p->backlog_configured);

	row = limits_row_add(c, "somaxconn", "net.core.somaxconn", LIMITS_GROUP_WAITING);
	limits_row_take(row, &m->somaxconn);
	row->allows = row->number;
	row->binds = clamped;
	if (row->number != LIMITS_NONE)
		limits_row_raise_sysctl(row, "net.core.somaxconn", 2 * row->number);
	if (clamped && row->number >= p->backlog_configured)
		limits_row_note(row,
		        "%s in force since portd last called listen(2): start it anew",
		        GROUPED(p->backlog_effective));
	else
		limits_row_note(row, "the most that listen(2) gets; %s in force, %s",
		        GROUPED(p->backlog_effective),
		        clamped ? "cut down to it" : "as asked");

	row = limits_row_add(c, "tcp_abort_on_overflow", "net.ipv4.tcp_abort_on_overflow",
	        LIMITS_GROUP_WAITING);
	limits_row_take(row, &m->abort_on_overflow);
	if (row->number == 0)
		limits_row_note(row,
		        "when the queue is full, clients try again after 1 s, 2 s, 4 s");
	else if (row->number != LIMITS_NONE)
		limits_row_note(row,
		        "when the queue is full, clients get a reset instead of another "
		        "try");
}

static void add_handshakes(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row = limits_row_add(c, "tcp_max_syn_backlog",
	        "net.ipv4.tcp_max_syn_backlog", LIMITS_GROUP_HANDSHAKE);
	bool cookies = !m->syncookies.err && m->syncookies.n > 0;

	limits_row_take(row, &m->syn_backlog);
	if (row->number != LIMITS_NONE)
		limits_row_raise_sysctl(
		        row, "net.ipv4.tcp_max_syn_backlog", 2 * row->number);
	if (row->number != LIMITS_NONE && !cookies) {
		row->allows = row->number - row->number / 4;
		row->binds = true;
		limits_row_note(row,
		        "without cookies: three quarters of it, then only clients known "
		        "to the "
		        "kernel");
	} else if (cookies) {
		(void)snprintf(
		        row->note, sizeof(row->note), "no limit while there are cookies");
	}

	row = limits_row_add(
	        c, "tcp_syncookies", "net.ipv4.tcp_syncookies", LIMITS_GROUP_HANDSHAKE);
	limits_row_take(row, &m->syncookies);
	if (row->number == LIMITS_NONE)
		return;
	limits_row_note(row, "%s",
	        row->number == 0 ? "off: handshakes beyond the limit are dropped"
	        : row->number == 1
	                ? "handshakes beyond the backlog go on without being kept"
	                : "no handshake is kept, whatever the load");
	if (!cookies)
		limits_row_raise_sysctl(row, "net.ipv4.tcp_syncookies", 1);
}

static void add_ports(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row = limits_row_add(c, "ip_local_port_range",
	        "net.ipv4.ip_local_port_range", LIMITS_GROUP_CLIENT);

	limits_row_take(row, &m->port_first);
	if (row->err || m->port_last.err || m->port_last.n < m->port_first.n)
		return;
	row->number = LIMITS_NONE;
	(void)snprintf(row->text, sizeof(row->text), "%" PRIu64 "-%" PRIu64,
	        m->port_first.n, m->port_last.n);
	row->allows = m->port_last.n - m->port_first.n + 1 - m->ports_reserved;
	limits_row_note(row,
	        "per client address and address and port of the server, not a limit of "
	        "the "
	        "server: set it on the client (here: one set up like this machine)");
	limits_row_raise_sysctl_words(row, "net.ipv4.ip_local_port_range", "1024 65535");
}

void limits_rows_add_queue(struct limits_chain *c)
{
	add_backlog(c);
	add_handshakes(c);
	add_ports(c);
}
