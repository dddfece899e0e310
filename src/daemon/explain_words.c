/*
 * explain_words.c - what `portctl explain` says of each rule and of the outcome.
 */
#include "daemon/explain_words.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/parse.h"
#include "base/plural.h"

#define WAIT_WORDS_MAX 128

/* How a duration that is not a setting is said: "2.104 s". */
static const char *format_ns(uint64_t ns, char buf[static PARSE_DURATION_TEXT_MAX])
{
	uint64_t ms = (ns + CLOCK_MSEC - 1) / CLOCK_MSEC;

	(void)snprintf(buf, PARSE_DURATION_TEXT_MAX, "%" PRIu64 ".%03" PRIu64 " s",
	        ms / 1000, ms % 1000);
	return buf;
}

static void words_denied(const struct explain *x, char *buf)
{
	const struct port_verdict *v = &x->verdict;

	if (v->denied)
		(void)snprintf(
		        buf, EXPLAIN_WORDS_MAX, "%s is in [source] deny", v->denied_by);
	else if (v->rule[SHED_DENIED] == PORT_RULE_OFF)
		(void)snprintf(
		        buf, EXPLAIN_WORDS_MAX, "[source] allow and deny are empty");
	else if (v->allow_all)
		(void)snprintf(
		        buf, EXPLAIN_WORDS_MAX, "not in [source] deny; allow is empty");
	else if (v->allowed)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "not in [source] deny; %s is in allow", v->allowed_by);
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "not in [source] allow");
}

static void words_source_limit(const struct explain *x, char *buf)
{
	const struct port_verdict *v = &x->verdict;
	char net[PREFIX_TEXT_MAX];

	if (v->rule[SHED_SOURCE_LIMIT] == PORT_RULE_OFF)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "[source] max_connections is 0");
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "%u of %" PRIu64 " open from %s",
		        v->source.open, x->d->config.source_max_connections,
		        prefix_format(&v->net, net));
}

/* A rate: how many tokens, or how long until there is one. */
static void words_rate(const struct explain *x, enum shed_reason reason, char *buf)
{
	const struct port_verdict *v = &x->verdict;
	bool source = reason == SHED_SOURCE_RATE;
	const char *section = source ? "source" : "budget";
	uint32_t tokens = source ? v->source.tokens : v->tokens;
	uint64_t wait = source ? v->source.wait_ns : v->wait_ns;
	uint64_t rate = source ? x->d->config.source_rate : x->d->config.rate;
	char text[PARSE_DURATION_TEXT_MAX];

	if (v->rule[reason] == PORT_RULE_OFF)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "[%s] rate is 0", section);
	else if (v->rule[reason] == PORT_RULE_EXEMPT)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "a priority source");
	else if (tokens == 0)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "no token, the next in %s; [%s] rate is %" PRIu64 " a second",
		        format_ns(wait, text), section, rate);
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "%u token%s; [%s] rate is %" PRIu64 " a second", tokens,
		        PLURAL(tokens), section, rate);
}

static void words_pressure(const struct explain *x, char *buf)
{
	const struct port_verdict *v = &x->verdict;

	if (v->rule[SHED_PRESSURE] == PORT_RULE_OFF)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "[shed] start_at is 100%%");
	else if (v->rule[SHED_PRESSURE] == PORT_RULE_EXEMPT)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "a priority source");
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "%u %% of the newcomers are shed; %u of %" PRIu64
		        " connections, [shed] start_at is %" PRIu64 " %%",
		        v->pressed, v->connections, x->d->budget.max_connections,
		        x->d->config.start_at);
}

static void words_full(const struct explain *x, char *buf)
{
	const struct port_verdict *v = &x->verdict;
	char idlest[PARSE_DURATION_TEXT_MAX], least[PARSE_DURATION_TEXT_MAX];

	int len =
	        snprintf(buf, EXPLAIN_WORDS_MAX, "%u of %u slots taken", v->used, v->max);
	if (len > 0 && v->rule[SHED_FULL] == PORT_RULE_YES &&
	        x->d->config.evict_idle != CLOCK_INFINITY)
		(void)snprintf(buf + len, EXPLAIN_WORDS_MAX - (size_t)len,
		        "; idle longest: %s, [shed] evict_idle is %s",
		        format_ns(v->idlest, idlest),
		        parse_format_duration(x->d->config.evict_idle, least));
}

static void words_backlog(const struct explain *x, char *buf)
{
	const struct port_verdict *v = &x->verdict;

	(void)snprintf(buf, EXPLAIN_WORDS_MAX, "queue %u/%u%s%s%s", v->queue,
	        v->queue_max, v->held ? ", and one held" : "",
	        v->gate_closed ? ", the gate is closed" : "",
	        v->rule[SHED_BACKLOG] == PORT_RULE_OFF
	                ? "; [shed] queue_timeout is infinity"
	        : v->rule[SHED_BACKLOG] == PORT_RULE_YES
	                ? "; three quarters full: the oldest are shed now"
	                : "");
}

/* What rule `reason` rests on. */
const char *explain_rule(const struct explain *x, enum shed_reason reason,
        char buf[static EXPLAIN_WORDS_MAX])
{
	const struct port_verdict *v = &x->verdict;

	buf[0] = '\0';
	switch (reason) {
	case SHED_ABORTED:
		return "shows only when it comes";
	case SHED_DENIED:
		words_denied(x, buf);
		break;
	case SHED_DRAINING:
		return v->rule[reason] == PORT_RULE_YES ? "portd is draining"
		                                        : "portd is not draining";
	case SHED_SOURCE_LIMIT:
		words_source_limit(x, buf);
		break;
	case SHED_SOURCE_RATE:
	case SHED_RATE:
		words_rate(x, reason, buf);
		break;
	case SHED_PRESSURE:
		words_pressure(x, buf);
		break;
	case SHED_MEMORY:
		return v->rule[SHED_MEMORY] == PORT_RULE_YES
		               ? "the machine, or the cgroup, has too little left"
		               : "shows only when it comes";
	case SHED_FDS:
		return v->is_short ? "a worker is short of descriptors"
		                   : "no worker is short of descriptors";
	case SHED_FULL:
		words_full(x, buf);
		break;
	case SHED_BACKLOG:
		words_backlog(x, buf);
		break;
	case SHED_COUNT:
		break;
	}
	return buf;
}

const char *explain_priority(const struct explain *x, char buf[static EXPLAIN_WORDS_MAX])
{
	const struct port_verdict *v = &x->verdict;

	if (v->priority)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "%s is in [source] priority; %u of %u priority slots taken",
		        v->priority_by, v->priority_used, v->priority_max);
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "not in [source] priority");
	return buf;
}

/* ", behind 7 in the queue" */
static const char *behind_words(const struct port_verdict *v, char *buf, size_t size)
{
	uint64_t n = (uint64_t)v->queue + v->held;

	buf[0] = '\0';
	if (n)
		(void)snprintf(buf, size, ", behind %" PRIu64 " in the queue", n);
	return buf;
}

/* ", up to 60s, behind 7 in the queue" */
static const char *wait_words(const struct explain *x, char buf[static WAIT_WORDS_MAX])
{
	const struct port_verdict *v = &x->verdict;
	uint64_t timeout = x->d->config.queue_timeout;
	char after[PARSE_DURATION_TEXT_MAX], behind[48];

	(void)behind_words(v, behind, sizeof(behind));
	if (timeout == CLOCK_INFINITY)
		(void)snprintf(buf, WAIT_WORDS_MAX, ", however long%s", behind);
	else
		(void)snprintf(buf, WAIT_WORDS_MAX, ", up to %s%s",
		        parse_format_duration(timeout, after), behind);
	return buf;
}

/* The outcomes that begin with waiting. */
static const char *words_waits(
        const struct explain *x, char buf[static EXPLAIN_WORDS_MAX])
{
	const struct port_verdict *v = &x->verdict;
	const char *reason = v->reason == SHED_COUNT ? "" : counters_shed_name(v->reason);
	char wait[WAIT_WORDS_MAX];

	(void)wait_words(x, wait);
	if (v->outcome == PORT_WAITS_PRIORITY)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would wait for its turn%s; then served in a priority slot",
		        wait);
	else if (v->outcome == PORT_WAITS && x->d->config.queue_timeout == CLOCK_INFINITY)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX, "would wait for a slot%s", wait);
	else if (v->outcome == PORT_WAITS)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would wait for a slot%s; then shed: %s", wait, reason);
	else if (v->held || v->queue)
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would wait for its turn%s; then shed: %s", wait, reason);
	else
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would wait until a slot is free; then shed: %s", reason);
	return buf;
}

const char *explain_outcome(const struct explain *x, char buf[static EXPLAIN_WORDS_MAX])
{
	const struct port_verdict *v = &x->verdict;
	const char *reason = v->reason == SHED_COUNT ? "" : counters_shed_name(v->reason);
	char text[PARSE_DURATION_TEXT_MAX], behind[48];

	(void)behind_words(v, behind, sizeof(behind));
	switch (v->outcome) {
	case PORT_SERVED:
		return "would be served";
	case PORT_SERVED_PRIORITY:
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would be served in a priority slot%s", behind);
		break;
	case PORT_SERVED_EVICT:
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would be served in the place of a connection that has been idle "
		        "for %s%s",
		        format_ns(v->idlest, text), behind);
		break;
	case PORT_WAITS:
	case PORT_WAITS_JUDGED:
	case PORT_WAITS_PRIORITY:
		return words_waits(x, buf);
	case PORT_SHED:
		(void)snprintf(
		        buf, EXPLAIN_WORDS_MAX, "would be shed at once: %s", reason);
		break;
	case PORT_SHED_SOME:
		(void)snprintf(buf, EXPLAIN_WORDS_MAX,
		        "would be shed at once, as %u %% are, or served: %s", v->pressed,
		        reason);
		break;
	case PORT_UNANSWERED:
		return v->gate_closed
		               ? "would get no answer to its SYN: the gate is closed"
		               : "would get no answer to its SYN: the queue is full";
	case PORT_LEFT:
		return "would wait for the next portd: this one is stopping";
	case PORT_UNACCEPTED:
		return "would wait until portd can accept again: accept4 fails";
	case PORT_REFUSED:
		return v->is_down ? "would be refused by the kernel: nobody listens"
		                  : "would be refused by the kernel: portd is stopping";
	}
	return buf;
}
