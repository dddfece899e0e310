/*
 * explain.c - the answer to `portctl explain ADDRESS`.
 *
 * Invariant: what the client wrote comes back only as an address of ours, or escaped.
 */
#include "daemon/explain.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/parse.h"
#include "daemon/explain_words.h"

/* Longest piece of what is no address that is shown. */
#define SEEN_MAX 64

static const char *rule_name(enum port_rule rule)
{
	static const char *const names[] = {
	        [PORT_RULE_UNKNOWN] = "unknown",
	        [PORT_RULE_OFF] = "off",
	        [PORT_RULE_EXEMPT] = "exempt",
	        [PORT_RULE_NO] = "no",
	        [PORT_RULE_SOME] = "some",
	        [PORT_RULE_YES] = "yes",
	};

	return names[rule];
}

static const char *outcome_name(enum port_outcome outcome)
{
	static const char *const names[] = {
	        [PORT_SERVED] = "served",
	        [PORT_SERVED_PRIORITY] = "served_priority",
	        [PORT_SERVED_EVICT] = "served_evict",
	        [PORT_WAITS] = "waits",
	        [PORT_WAITS_JUDGED] = "waits_then_shed",
	        [PORT_WAITS_PRIORITY] = "waits_priority",
	        [PORT_SHED] = "shed",
	        [PORT_SHED_SOME] = "shed_some",
	        [PORT_UNANSWERED] = "unanswered",
	        [PORT_LEFT] = "left",
	        [PORT_UNACCEPTED] = "unaccepted",
	        [PORT_REFUSED] = "refused",
	};

	return names[outcome];
}

static void text_rows(const struct explain *x, const struct record_row *rows, unsigned n)
{
	char at[WALL_TEXT_MAX], peer[ADDR_TEXT_MAX];

	for (unsigned i = 0; i < n; i++)
		(void)fprintf(x->out, "  %s %-13s %s\n",
		        wall_format(&x->wall, rows[i].at, at),
		        counters_shed_name(rows[i].reason),
		        addr_format(&rows[i].peer, peer));
	if (n == 0)
		(void)fprintf(x->out, "  none remembered\n");
}

static void text_earlier(const struct explain *x, const struct port_records *r)
{
	const struct port_verdict *v = &x->verdict;
	char net[PREFIX_TEXT_MAX], host[ADDR_HOST_MAX], at[WALL_TEXT_MAX];
	bool any = false;

	(void)fprintf(x->out, "shed before, from %s:\n",
	        addr_format_host_named(&x->peer, host));
	text_rows(x, r->peer, r->n_peer);
	if (v->net.bits < (v->net.family == AF_INET ? 32 : 128)) {
		(void)fprintf(x->out, "shed before, from elsewhere in %s:\n",
		        prefix_format(&v->net, net));
		text_rows(x, r->net, r->n_net);
	}
	(void)fprintf(x->out, "counted for %s:", prefix_format(&v->net, net));
	for (enum shed_reason i = 0; i < SHED_COUNT; i++) {
		if (v->source.shed[i] == 0)
			continue;
		(void)fprintf(x->out, "%s %s %u", any ? "," : "", counters_shed_name(i),
		        v->source.shed[i]);
		any = true;
	}
	(void)fprintf(x->out, "%s\nremembered one by one: all since %s",
	        any ? "" : " none was shed", wall_format(&x->wall, r->since, at));
	if (r->dropped)
		(void)fprintf(x->out, ", but for %" PRIu64, r->dropped);
	(void)fprintf(x->out, "\n");
}

static void explain_text(const struct explain *x, const struct port_records *records)
{
	const struct port_verdict *v = &x->verdict;
	char words[EXPLAIN_WORDS_MAX], net[PREFIX_TEXT_MAX], host[ADDR_HOST_MAX];

	(void)fprintf(x->out, "a client from %s, of the source network %s, right now:\n",
	        addr_format_host_named(&x->peer, host), prefix_format(&v->net, net));
	for (enum shed_reason i = 0; i < SHED_COUNT; i++)
		(void)fprintf(x->out, "  %-13s %-8s %s\n", counters_shed_name(i),
		        rule_name(v->rule[i]), explain_rule(x, i, words));
	(void)fprintf(x->out, "  %-13s %-8s %s\n", "priority", v->priority ? "yes" : "no",
	        explain_priority(x, words));
	(void)fprintf(x->out, "verdict: it %s", explain_outcome(x, words));
	if (v->would != SHED_COUNT)
		(void)fprintf(x->out, "; a dry run: counted as would_shed %s",
		        counters_shed_name(v->would));
	(void)fprintf(x->out, "\n");
	text_earlier(x, records);
}

static void json_rows(const struct explain *x, const char *name,
        const struct record_row *rows, unsigned n)
{
	char at[WALL_TEXT_MAX], host[ADDR_HOST_MAX];

	(void)fprintf(x->out, ",\"%s\":[", name);
	for (unsigned i = 0; i < n; i++)
		(void)fprintf(x->out,
		        "%s{\"time\":\"%s\",\"reason\":\"%s\",\"address\":\"%s\","
		        "\"port\":%u}",
		        i ? "," : "", wall_format(&x->wall, rows[i].at, at),
		        counters_shed_name(rows[i].reason),
		        addr_format_host(&rows[i].peer, host), rows[i].peer.port);
	(void)putc(']', x->out);
}

static void json_tokens(FILE *out, uint32_t tokens, uint64_t wait_ns)
{
	uint64_t ms = (wait_ns + CLOCK_MSEC - 1) / CLOCK_MSEC;

	/* Without a limit there is nothing to count. */
	if (tokens != UINT32_MAX)
		(void)fprintf(out,
		        ",\"tokens\":%u,\"wait_seconds\":%" PRIu64 ".%03" PRIu64, tokens,
		        ms / 1000, ms % 1000);
}

/* What the words of a rule say in numbers. */
static void json_figures(const struct explain *x, enum shed_reason reason)
{
	const struct port_verdict *v = &x->verdict;

	if (reason == SHED_SOURCE_LIMIT && v->rule[reason] != PORT_RULE_OFF)
		(void)fprintf(x->out, ",\"open\":%u,\"max\":%" PRIu64, v->source.open,
		        x->d->config.source_max_connections);
	else if (reason == SHED_SOURCE_RATE)
		json_tokens(x->out, v->source.tokens, v->source.wait_ns);
	else if (reason == SHED_RATE)
		json_tokens(x->out, v->tokens, v->wait_ns);
	else if (reason == SHED_PRESSURE)
		(void)fprintf(x->out, ",\"percent\":%u", v->pressed);
	else if (reason == SHED_FULL)
		(void)fprintf(x->out, ",\"used\":%u,\"max\":%u", v->used, v->max);
	else if (reason == SHED_BACKLOG)
		(void)fprintf(x->out,
		        ",\"queue_depth\":%u,\"queue_max\":%u,\"held\":%u,\"gate\":\"%"
		        "s\"",
		        v->queue, v->queue_max, v->held,
		        v->gate_closed ? "closed" : "open");
}

static void json_rules(const struct explain *x)
{
	const struct port_verdict *v = &x->verdict;
	char words[EXPLAIN_WORDS_MAX];

	(void)fprintf(x->out, ",\"rules\":[");
	for (enum shed_reason i = 0; i < SHED_COUNT; i++) {
		(void)fprintf(x->out, "%s{\"reason\":\"%s\",\"holds\":\"%s\"",
		        i ? "," : "", counters_shed_name(i), rule_name(v->rule[i]));
		json_figures(x, i);
		(void)fprintf(x->out, ",\"words\":");
		json_put_string(x->out, explain_rule(x, i, words));
		(void)putc('}', x->out);
	}
	(void)fprintf(x->out,
	        "],\"priority\":{\"holds\":\"%s\",\"used\":%u,\"max\":%u,\"words\":",
	        v->priority ? "yes" : "no", v->priority_used, v->priority_max);
	json_put_string(x->out, explain_priority(x, words));
	(void)putc('}', x->out);
}

/* A word, or null. */
static void json_reason(FILE *out, const char *name, enum shed_reason reason)
{
	if (reason == SHED_COUNT)
		(void)fprintf(out, ",\"%s\":null", name);
	else
		(void)fprintf(out, ",\"%s\":\"%s\"", name, counters_shed_name(reason));
}

static void explain_json(const struct explain *x, const struct port_records *r)
{
	const struct port_verdict *v = &x->verdict;
	char words[EXPLAIN_WORDS_MAX], net[PREFIX_TEXT_MAX], host[ADDR_HOST_MAX],
	        at[WALL_TEXT_MAX];

	(void)fprintf(x->out, "{\"address\":\"%s\",\"network\":\"%s\"",
	        addr_format_host_named(&x->peer, host), prefix_format(&v->net, net));
	json_rules(x);
	(void)fprintf(
	        x->out, ",\"verdict\":{\"outcome\":\"%s\"", outcome_name(v->outcome));
	json_reason(x->out, "reason", v->reason);
	json_reason(x->out, "would_shed", v->would);
	(void)fprintf(x->out, ",\"words\":");
	json_put_string(x->out, explain_outcome(x, words));
	(void)fprintf(x->out,
	        "},\"earlier\":{\"since\":\"%s\",\"not_remembered\":%" PRIu64,
	        wall_format(&x->wall, r->since, at), r->dropped);
	json_rows(x, "of_address", r->peer, r->n_peer);
	json_rows(x, "of_network", r->net, r->n_net);
	(void)fprintf(x->out, ",\"counted\":{");
	for (enum shed_reason i = 0; i < SHED_COUNT; i++)
		(void)fprintf(x->out, "%s\"%s\":%u", i ? "," : "", counters_shed_name(i),
		        v->source.shed[i]);
	(void)fprintf(x->out, "}}}\n");
}

static void refuse(const char *address, FILE *out)
{
	size_t len = strlen(address);
	char seen[4 * SEEN_MAX + 1];

	(void)parse_format_escapes((const uint8_t *)address,
	        len < SEEN_MAX ? len : SEEN_MAX, seen, sizeof(seen));
	(void)fprintf(out,
	        "error: '%s%s' is no IP address; allowed: one alone, such as 203.0.113.7 "
	        "or "
	        "2001:db8::7, without a port, a length or a name\n",
	        seen, len > SEEN_MAX ? "..." : "");
}

void explain_answer(struct daemon *d, bool json, const char *address, FILE *out)
{
	struct explain x = {.d = d, .wall = wall_read(), .out = out};
	struct port_records records;

	if (addr_parse_host_named(address, &x.peer) < 0) {
		refuse(address, out);
		return;
	}
	int r = addr_resolve(&x.peer);
	if (r < 0) {
		(void)fprintf(out, "error: %s: %s\n", x.peer.interface,
		        r == -ENODEV ? "portd's machine has no such interface"
		                     : strerrordesc_np(-r));
		return;
	}
	port_explain(d->port, &x.peer.addr, &x.verdict);
	if (port_records(d->port, &x.peer.addr, &x.verdict.net, &records) < 0) {
		(void)fprintf(out, "error: not enough memory\n");
		return;
	}
	if (json)
		explain_json(&x, &records);
	else
		explain_text(&x, &records);
}
