/*
 * port_explain.c - what portd would decide for a client from an address right now.
 *
 * Invariants: asking changes nothing. The rules are those of judge.c and hold.c, and are ranked by
 * the order of sheds.def, as there; what is read was true at some moment of the asking.
 */
#include "core/port_explain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/gauges.h"
#include "core/judge.h"
#include "core/overload.h"
#include "core/worker.h"

static enum port_rule rule_of(bool holds)
{
	return holds ? PORT_RULE_YES : PORT_RULE_NO;
}

static void explain_lists(
        const struct config *c, const struct addr *peer, struct port_verdict *v)
{
	v->denied = prefix_set_find(c->source_deny, peer, v->denied_by) == 0;
	v->allow_all = prefix_set_count(c->source_allow) == 0;
	v->allowed = v->allow_all ||
	             prefix_set_find(c->source_allow, peer, v->allowed_by) == 0;
	v->priority = prefix_set_find(c->source_priority, peer, v->priority_by) == 0;
	v->rule[SHED_DENIED] = v->allow_all && prefix_set_count(c->source_deny) == 0
	                               ? PORT_RULE_OFF
	                               : rule_of(v->denied || !v->allowed);
}

/* A rule that priority sources are exempt from. */
static enum port_rule load_rule(
        const struct port_verdict *v, bool configured, enum port_rule rule)
{
	return !configured ? PORT_RULE_OFF : v->priority ? PORT_RULE_EXEMPT : rule;
}

static void explain_rates(
        struct port *port, const struct config *c, uint64_t now, struct port_verdict *v)
{
	v->is_known = source_find(port->sources, &v->net, now, &v->source) == 0;
	v->tokens = bucket_shared_tokens(&port->rate, now);
	v->wait_ns = bucket_shared_wait(&port->rate, now);
	v->rule[SHED_SOURCE_LIMIT] =
	        c->source_max_connections == 0
	                ? PORT_RULE_OFF
	                : rule_of(v->source.open >= c->source_max_connections);
	v->rule[SHED_SOURCE_RATE] =
	        load_rule(v, c->source_rate > 0, rule_of(v->source.tokens == 0));
	v->rule[SHED_RATE] = load_rule(v, c->rate > 0, rule_of(v->tokens == 0));
	uint64_t share = judge_pressure(port, c);
	v->pressed = (uint32_t)((share * 100 + (UINT64_C(1) << 31)) >> 32);
	v->rule[SHED_PRESSURE] = load_rule(v, c->start_at < 100,
	        share == 0         ? PORT_RULE_NO
	        : share >> 32 != 0 ? PORT_RULE_YES
	                           : PORT_RULE_SOME);
}

/* Returns whether some worker could give it an ordinary slot. */
static bool explain_slots(struct port *port, uint64_t now, struct port_verdict *v)
{
	const struct admit *admit = &port->admit;
	struct listener_queue queue = {0};
	uint64_t idlest = CLOCK_INFINITY;
	bool able = false;
	for (unsigned i = 0; i < port->n_workers; i++) {
		uint64_t since = atomic_load(&port->workers[i].idlest);
		able = able || admit_can_take(admit, i);
		v->is_short = v->is_short || admit_is_short(admit, i);
		idlest = since < idlest ? since : idlest;
	}
	v->idlest = idlest < now ? now - idlest : 0;
	v->connections = port_ordinary(port);
	v->used = atomic_load(&admit->used);
	v->max = atomic_load(&admit->max);
	v->priority_used = atomic_load(&admit->priority_used);
	v->priority_max = atomic_load(&admit->priority_max);
	v->held = atomic_load(&port->hold.count);
	(void)listener_read_queue(port->listen_fd, &queue);
	v->queue = queue.depth;
	v->queue_max = queue.effective;
	v->is_down = port_is_down(port, &queue);
	v->gate_closed = port->gate_closed;
	return able;
}

static void explain_full(const struct config *c, bool able, struct port_verdict *v)
{
	bool fds = !able && v->is_short && v->used < v->max;
	v->rule[SHED_FDS] = rule_of(fds);
	v->rule[SHED_FULL] = rule_of(!able && !fds);
	/* As queue_is_high in hold.c. */
	v->rule[SHED_BACKLOG] =
	        c->queue_timeout == CLOCK_INFINITY
	                ? PORT_RULE_OFF
	                : rule_of(!able && v->queue_max > 0 &&
	                          (uint64_t)v->queue * 4 >= (uint64_t)v->queue_max * 3);
}

/* The first rule that answers at once, SHED_COUNT if none does. */
static enum shed_reason first_rule(const struct port_verdict *v, enum port_rule rule)
{
	for (enum shed_reason r = SHED_DENIED; r < SHED_FDS; r++)
		if (v->rule[r] == rule)
			return r;
	return SHED_COUNT;
}

/* While full: nobody is looked at before those who came earlier have a slot, or have waited for as
 * long as they may. */
static bool is_behind(const struct config *c, const struct port_verdict *v)
{
	return c->queue_timeout > 0 && (uint64_t)v->held + v->queue > 0;
}

static bool has_priority_slot(const struct port_verdict *v)
{
	return v->priority && v->priority_used < v->priority_max;
}

static enum port_outcome judge_room(
        const struct config *c, bool able, struct port_verdict *v)
{
	bool fds = v->rule[SHED_FDS] == PORT_RULE_YES;
	if (able)
		return PORT_SERVED;
	if (!v->is_short && has_priority_slot(v))
		return is_behind(c, v) ? PORT_WAITS_PRIORITY : PORT_SERVED_PRIORITY;
	if (c->evict_idle != CLOCK_INFINITY && v->idlest >= c->evict_idle &&
	        (v->used <= v->max || fds))
		return PORT_SERVED_EVICT;
	v->reason = fds ? SHED_FDS : SHED_FULL;
	return c->queue_timeout == 0 ? PORT_SHED : PORT_WAITS;
}

static void explain_outcome(const struct port *port, const struct config *c, bool able,
        struct port_verdict *v)
{
	enum shed_reason now = first_rule(v, PORT_RULE_YES);
	enum shed_reason some = first_rule(v, PORT_RULE_SOME);
	bool draining = v->rule[SHED_DRAINING] == PORT_RULE_YES;
	/* Where nobody is ever shed for waiting, nobody is accepted without a slot either. */
	bool unasked = c->queue_timeout == CLOCK_INFINITY &&
	               c->evict_idle == CLOCK_INFINITY && v->priority_max == 0;
	bool unseen = !able && !draining && (unasked || is_behind(c, v));
	v->reason = SHED_COUNT;
	v->would = SHED_COUNT;
	if (port_phase(port) >= PORT_STOPPED) {
		v->outcome = atomic_load(&port->keeps_queue) ? PORT_LEFT : PORT_REFUSED;
		return;
	}
	if (v->is_down) {
		v->outcome = v->queue > 0 ? PORT_UNACCEPTED : PORT_REFUSED;
		return;
	}
	bool trial = c->dry_run && !draining;
	bool beyond = trial && now == SHED_COUNT &&
	              port_asked_open(port, true) >= atomic_load(&port->asked_max);
	/* The lists are not in force in a dry run. */
	if (c->dry_run && draining)
		now = SHED_DRAINING;
	/* Memory is no limit of the configuration's: a dry run has it, too. */
	if (trial && v->rule[SHED_MEMORY] == PORT_RULE_YES) {
		trial = beyond = false;
		now = SHED_MEMORY;
		some = SHED_COUNT;
	}
	if (trial) {
		v->would = beyond && !has_priority_slot(v) ? SHED_FULL : now;
		now = some = SHED_COUNT;
	}
	if (v->queue > v->queue_max) {
		v->outcome = PORT_UNANSWERED;
	} else if (now != SHED_COUNT) {
		v->outcome = unseen ? PORT_WAITS_JUDGED : PORT_SHED;
		v->reason = now;
	} else {
		v->outcome = judge_room(c, able, v);
		if (beyond && v->outcome == PORT_SERVED && has_priority_slot(v))
			v->outcome = PORT_SERVED_PRIORITY;
		/* Who is shed although nothing is in force but descriptors is not counted. */
		if (v->outcome == PORT_SHED)
			v->would = SHED_COUNT;
		if (some != SHED_COUNT && v->outcome == PORT_SERVED) {
			v->outcome = PORT_SHED_SOME;
			v->reason = some;
		}
	}
}

void port_explain(struct port *port, const struct addr *peer, struct port_verdict *ret)
{
	const struct config *c = atomic_load(&port->config);
	uint64_t now = clock_now();
	*ret = (struct port_verdict){
	        .net = prefix_mask(peer, (unsigned)c->prefix4, (unsigned)c->prefix6)};
	ret->rule[SHED_ABORTED] = PORT_RULE_UNKNOWN;
	ret->rule[SHED_MEMORY] =
	        atomic_load(&port->memory_short) ? PORT_RULE_YES : PORT_RULE_UNKNOWN;
	explain_lists(c, peer, ret);
	ret->rule[SHED_DRAINING] = rule_of(port_phase(port) == PORT_DRAINING);
	explain_rates(port, c, now, ret);
	bool able = explain_slots(port, now, ret);
	explain_full(c, able, ret);
	explain_outcome(port, c, able, ret);
}

static bool is_same_host(const struct addr *a, const struct addr *b)
{
	return a->family == b->family &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Keeps the newest of them. Returns how many there are now. */
static unsigned insert_row(
        struct record_row *rows, unsigned n, const struct record_row *row)
{
	unsigned at = n < PORT_RECORDS_MAX ? n++ : n;
	while (at > 0 && rows[at - 1].at < row->at) {
		if (at < PORT_RECORDS_MAX)
			rows[at] = rows[at - 1];
		at--;
	}
	if (at < PORT_RECORDS_MAX)
		rows[at] = *row;
	return n;
}

int port_records(struct port *port, const struct addr *peer, const struct prefix *net,
        struct port_records *ret)
{
	OWN_MEM struct record_row *rows = calloc(RECORD_SIZE, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	*ret = (struct port_records){.since = port->started};
	for (unsigned i = 0; i < port->n_workers; i++) {
		struct record *record = &port->workers[i].record;
		unsigned n = record_read(record, rows, RECORD_SIZE);
		ret->dropped +=
		        atomic_load_explicit(&record->dropped, memory_order_relaxed);
		/* A full ring has forgotten what was before its oldest row. */
		if (n == RECORD_SIZE && rows[n - 1].at > ret->since)
			ret->since = rows[n - 1].at;
		for (unsigned k = 0; k < n; k++) {
			struct prefix of =
			        rows[k].peer.family == net->family
			                ? prefix_mask(&rows[k].peer, net->bits, net->bits)
			                : (struct prefix){.bits = 0};
			if (is_same_host(&rows[k].peer, peer))
				ret->n_peer =
				        insert_row(ret->peer, ret->n_peer, &rows[k]);
			else if (prefix_equal(&of, net))
				ret->n_net = insert_row(ret->net, ret->n_net, &rows[k]);
		}
	}
	return 0;
}

size_t port_top_shed(struct port *port, size_t n, struct source_view *ret)
{
	return source_top_shed(port->sources, clock_now(), n, ret);
}

char *port_format_top_shed(
        struct port *port, const struct state_spell *spell, char buf[static PORT_TOP_MAX])
{
	struct source_view top[3];
	char net[PREFIX_TEXT_MAX];
	size_t len = 0, n = 0;

	if (port_top_is_of(port, spell))
		n = source_top_shed(port->sources, clock_now(), ARRAY_SIZE(top), top);

	buf[0] = '\0';
	for (size_t i = 0; i < n && len < PORT_TOP_MAX; i++)
		len += (size_t)snprintf(buf + len, PORT_TOP_MAX - len, "%s%s (%u)",
		        i == 0 ? "; most of them from " : ", ",
		        prefix_format(&top[i].net, net), top[i].shed_spell);
	return buf;
}
