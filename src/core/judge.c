/*
 * judge.c - JUDGE: one ranking of the reasons to refuse a newcomer, asked in one place.
 *
 * Invariant: whoever is refused holds nothing in the books of its source.
 */
#include "core/judge.h"

#include "core/gauges.h"
#include "core/worker.h"
#include "net/prefix.h"

bool judge_is_denied(const struct worker *w, const struct addr *peer)
{
	const struct config *c = w->config;
	return prefix_set_match(c->source_deny, peer) ||
	       (prefix_set_count(c->source_allow) > 0 &&
	               !prefix_set_match(c->source_allow, peer));
}

bool judge_is_priority(const struct worker *w, const struct addr *peer)
{
	return prefix_set_match(w->config->source_priority, peer);
}

bool judge_is_idle(const struct config *c)
{
	return prefix_set_count(c->source_deny) == 0 &&
	       prefix_set_count(c->source_allow) == 0 &&
	       prefix_set_count(c->source_priority) == 0 &&
	       c->source_max_connections == 0 && c->source_rate == 0 && c->rate == 0 &&
	       c->start_at >= 100 && !c->dry_run;
}

uint64_t judge_pressure(const struct port *port, const struct config *config)
{
	/* As asked for, also in a dry run, which has more. */
	uint64_t max = atomic_load_explicit(&port->asked_max, memory_order_relaxed);
	uint64_t open = port_asked_open(port, config->dry_run);
	uint64_t start = max * config->start_at / 100;
	if (open <= start || start >= max)
		return 0;
	if (open > max)
		open = max;
	return ((open - start) << 32) / (max - start);
}

/* From start_at of the slots on, a share of the newcomers that rises to all of them when every slot
 * is taken. What is owed is carried on, so that the share is exact and not a matter of luck. */
static bool is_pressed(struct worker *w)
{
	uint64_t owed = w->pressure + judge_pressure(w->port, w->config);
	w->pressure = (uint32_t)owed;
	return owed >> 32 != 0;
}

static enum shed_reason judge_source(struct worker *w, struct ticket *ticket)
{
	const struct config *c = w->config;
	if (c->source_max_connections == 0 && c->source_rate == 0)
		return SHED_COUNT;
	struct prefix net =
	        prefix_mask(&ticket->peer, (unsigned)c->prefix4, (unsigned)c->prefix6);
	int r = source_take(
	        w->port->sources, &net, ticket->priority, w->now, &ticket->source);
	if (r == 0)
		return SHED_COUNT;
	return r == SOURCE_LIMIT ? SHED_SOURCE_LIMIT : SHED_SOURCE_RATE;
}

/* The reasons that the load of all together makes. A priority source is exempt. */
static enum shed_reason judge_load(struct worker *w, struct ticket *ticket)
{
	if (bucket_shared_take(&w->port->rate, w->now) != 0)
		return SHED_RATE;
	ticket->token = true;
	ticket->taken = w->now;
	return w->config->start_at < 100 && is_pressed(w) ? SHED_PRESSURE : SHED_COUNT;
}

static enum shed_reason judge_all(struct worker *w, struct ticket *ticket)
{
	if (ticket->peer.family == AF_UNSPEC)
		return judge_load(w, ticket);
	if (judge_is_denied(w, &ticket->peer))
		return SHED_DENIED;
	ticket->priority = judge_is_priority(w, &ticket->peer);
	enum shed_reason reason = judge_source(w, ticket);
	if (reason == SHED_COUNT && !ticket->priority)
		reason = judge_load(w, ticket);
	return reason;
}

int judge_newcomer(struct worker *w, const struct addr *peer, struct ticket *ret,
        enum shed_reason *ret_reason)
{
	bool no_memory =
	        atomic_load_explicit(&w->port->memory_short, memory_order_relaxed);
	*ret = (struct ticket){.peer = *peer, .would_shed = SHED_COUNT};
	if (w->unjudged && !no_memory)
		return 0;
	enum shed_reason reason = w->unjudged ? SHED_COUNT : judge_all(w, ret);
	if (reason == SHED_COUNT && !no_memory)
		return 0;
	judge_undo(w, ret);
	/* It is no limit of the configuration's: also in a dry run. */
	if (no_memory && (reason == SHED_COUNT || w->config->dry_run)) {
		*ret_reason = SHED_MEMORY;
		return 1;
	}
	if (!w->config->dry_run) {
		*ret_reason = reason;
		return 1;
	}
	/* Counted once it is open: it may be dead already. It has nothing in the books. */
	*ret = (struct ticket){
	        .peer = *peer, .priority = ret->priority, .would_shed = reason};
	return 0;
}

void judge_undo(struct worker *w, const struct ticket *ticket)
{
	if (ticket->source.entry != SOURCE_NONE)
		source_undo(w->port->sources, &ticket->source, w->now);
	if (ticket->token)
		bucket_shared_return(&w->port->rate, ticket->taken, w->now);
}
