/*
 * stats_text.c - «portctl stats»: for the operator at 3 am.
 *
 * Invariants: the name of every figure is the one of JSON and the manual, the queue
 * carries the words of ss(8) too; rows at 0 are left out, totals never are; the books
 * stand at the end, and do not claim to balance when they do not.
 */
#include "core/stats.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/plural.h"
#include "core/stats_render.h"

/* Label and figure in two columns; the figure is as wide as 999,999,999,999. */
#define LABEL "%-18s"
#define TOTAL "%15s"

/* The number, grouped, in storage of its own until the end of the block. */
#define GROUPED(n) stats_format_grouped(n, (char[STATS_GROUPED_MAX]){0})

#define DURATION_MAX 48

/* For reading, not for reckoning: the two largest units, or three digits after the point.
 */
static char *format_duration(uint64_t ns, char buf[static DURATION_MAX])
{
	uint64_t s = ns / CLOCK_SEC;

	if (ns == 0)
		(void)snprintf(buf, DURATION_MAX, "0 s");
	else if (ns < CLOCK_MSEC)
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 ".%03" PRIu64 " us",
		        ns / CLOCK_USEC, ns % CLOCK_USEC);
	else if (ns < CLOCK_SEC)
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 ".%03" PRIu64 " ms",
		        ns / CLOCK_MSEC, ns % CLOCK_MSEC / CLOCK_USEC);
	else if (s < 60)
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 ".%03" PRIu64 " s", s,
		        ns % CLOCK_SEC / CLOCK_MSEC);
	else if (s < 3600)
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 " min %02" PRIu64 " s",
		        s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 " h %02" PRIu64 " min",
		        s / 3600, s / 60 % 60);
	else
		(void)snprintf(buf, DURATION_MAX, "%" PRIu64 " d %02" PRIu64 " h",
		        s / 86400, s / 3600 % 24);
	return buf;
}

#define DURATION(ns) format_duration(ns, (char[DURATION_MAX]){0})

#define BYTES_MAX 32

static char *format_bytes(uint64_t n, char buf[static BYTES_MAX])
{
	static const char units[] = "KMGTPE";
	unsigned shift = 10;

	if (n < 1024) {
		(void)snprintf(buf, BYTES_MAX, "%" PRIu64 " byte%s", n, PLURAL(n));
		return buf;
	}
	while (shift < 60 && n >> (shift + 10))
		shift += 10;
	(void)snprintf(buf, BYTES_MAX, "%" PRIu64 ".%" PRIu64 " %ciB", n >> shift,
	        (n >> (shift - 10)) % 1024 * 10 / 1024, units[shift / 10 - 1]);
	return buf;
}

/* What the state means for a newcomer. */
static const char *state_meaning(const struct stats *s)
{
	switch (s->state) {
	case STATE_OPEN:
		return "newcomers are served";
	case STATE_SHEDDING:
		return s->memory_short
		               ? "memory is short, newcomers are turned away"
		               : "somebody was shed for lack of room in the last 5 s";
	case STATE_FULL:
		if (s->connections >= s->budget.max_connections)
			return "every slot is taken, newcomers wait or are turned away";
		return "short of descriptors, or not yet down to low_watermark";
	case STATE_DRAINING:
		return "newcomers are turned away";
	case STATE_DOWN:
		return "nobody can connect, see the log or portctl events";
	case STATE_COUNT:
		break;
	}
	return "?";
}

static void text_state(const struct stats *s, FILE *out)
{
	(void)fprintf(out, "portd %s, pid %" PRId64 ", up %s\n\n", s->version, s->pid,
	        DURATION(s->uptime_ns));
	(void)fprintf(
	        out, LABEL "%s: %s\n", "state", state_name(s->state), state_meaning(s));
	for (unsigned i = 0; i < STATE_COUNT; i++)
		(void)fprintf(out, "  %-16s%s (%" PRIu64 " %%)\n", state_name(i),
		        DURATION(s->time_in_state_ns[i]),
		        stats_percent(s->time_in_state_ns[i], s->uptime_ns));
}

static void text_listener(const struct stats *s, FILE *out)
{
	char address[ADDR_TEXT_MAX];

	(void)fprintf(out, "\n" LABEL "%s\n", "listener",
	        addr_format_named(&s->address, address));
	(void)fprintf(out,
	        "  %-16s%s of %s waiting, peak %s (ss: Recv-Q %" PRIu64
	        ", Send-Q %" PRIu64 ")\n",
	        "queue", GROUPED(s->queue_depth), GROUPED(s->backlog_effective),
	        GROUPED(s->queue_depth_peak), s->queue_depth, s->backlog_effective);
	(void)fprintf(out, "  %-16s%s asked, %s in force%s\n", "backlog",
	        GROUPED(s->backlog_configured), GROUPED(s->backlog_effective),
	        s->backlog_effective == 0 ? s->gate_closed ? " (the gate is closed)"
	                                                   : " (portd listens no longer)"
	        : s->backlog_effective < s->backlog_configured
	                ? " (clamped by the kernel: net.core.somaxconn)"
	                : "");
	if (s->gate_closed || s->gates)
		(void)fprintf(out, "  %-16s%s, closed %s time%s, %s in all\n", "gate",
		        s->gate_closed ? "closed" : "open", GROUPED(s->gates),
		        PLURAL(s->gates), DURATION(s->gated_ns));
	(void)fprintf(out, "  %-16s%s by this listener%s\n", "kernel drops",
	        GROUPED(s->kernel_drops),
	        s->kernel_drops ? " (the queue overflowed, or SYNs were not wanted)"
	                        : "");
}

static const char *bound_meaning(enum limits_bound bound)
{
	switch (bound) {
	case LIMITS_BOUND_FDS:
		return "descriptors: [budget] fds, or the hard RLIMIT_NOFILE";
	case LIMITS_BOUND_MEMORY:
		return "half of the memory, at 8 KiB a connection";
	case LIMITS_BOUND_MAX_CONNECTIONS:
		return "[budget] max_connections";
	}
	return "?";
}

static void text_budget(const struct stats *s, FILE *out)
{
	(void)fprintf(out, "\n" LABEL "%s of %s (%" PRIu64 " %%), peak %s\n",
	        "connections", GROUPED(s->connections),
	        GROUPED(s->budget.max_connections),
	        stats_percent(s->connections, s->budget.max_connections),
	        GROUPED(s->connections_peak));
	(void)fprintf(out, "  %-16s%s (%s)\n", "bound by",
	        limits_bound_name(s->budget.bound_by), bound_meaning(s->budget.bound_by));
	if (s->budget.priority_slots)
		(void)fprintf(out, "  %-16s%s of %s taken\n", "priority slots",
		        GROUPED(s->priority_connections),
		        GROUPED(s->budget.priority_slots));
	(void)fprintf(out, "  %-16s%s of %s in use, %u a connection\n", "descriptors",
	        GROUPED(s->fds_in_use), GROUPED(s->budget.fds),
	        s->budget.fds_per_connection);
	(void)fprintf(out, "  %-16s%s%s\n", "held", GROUPED(s->held),
	        s->held ? " (the head of the queue waits for a slot)" : "");
	(void)fprintf(out, "  %-16s%s%s\n", "lingering", GROUPED(s->lingering),
	        s->lingering ? " (answered, being closed)" : "");
}

static void text_accept(const struct counts *c, FILE *out)
{
	uint64_t errors = 0;

	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		errors += c->accept_error[i];
	(void)fprintf(out, "\n" LABEL TOTAL "\n", "accepted",
	        GROUPED(c->counter[COUNTER_ACCEPTED]));
	(void)fprintf(out, "  %-16s" TOTAL "  calls of accept4(2)\n", "calls",
	        GROUPED(c->counter[COUNTER_ACCEPT_CALLS]));
	(void)fprintf(out, "  %-16s" TOTAL "  failed calls, in all\n", "errors",
	        GROUPED(errors));
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		if (c->accept_error[i])
			(void)fprintf(out, "    %-14s" TOTAL "\n",
			        counters_accept_error_name(i),
			        GROUPED(c->accept_error[i]));
}

static void text_quantile(const struct counts *c, unsigned q, FILE *out)
{
	unsigned bucket = stats_wait_quantile(c, q);
	bool bounded = bucket < COUNTERS_WAIT_BUCKETS - 1;
	uint64_t ms = stats_wait_bound_ms[bounded ? bucket : COUNTERS_WAIT_BUCKETS - 2];

	(void)fprintf(out, "  p%-15u%s %s ms\n", q, bounded ? "at most" : "more than",
	        GROUPED(ms));
}

static void text_wait(const struct counts *c, FILE *out)
{
	uint64_t count = stats_wait_count(c);

	(void)fprintf(out,
	        "\n" LABEL "%s samples (1 in 16 while not full, every one while full)\n",
	        "queue wait", GROUPED(count));
	if (count == 0)
		return;
	text_quantile(c, 50, out);
	text_quantile(c, 99, out);
	(void)fprintf(out, "  %-16s%s\n", "mean", DURATION(c->wait_sum_ns / count));
}

static void text_row(const char *word, uint64_t n, const char *help, FILE *out)
{
	if (n)
		(void)fprintf(out, "  %-16s" TOTAL "  %s\n", word, GROUPED(n), help);
}

static void text_reasons(const struct counts *c, FILE *out)
{
	(void)fprintf(out, "\n" LABEL TOTAL "\n", "shed", GROUPED(counts_total_shed(c)));
	for (unsigned i = 0; i < SHED_COUNT; i++)
		text_row(counters_shed_name(i), c->shed[i], stats_shed_help[i], out);
	(void)fprintf(
	        out, "\n" LABEL TOTAL "\n", "closed", GROUPED(counts_total_closed(c)));
	for (unsigned i = 0; i < CLOSE_COUNT; i++)
		text_row(counters_close_name(i), c->closed[i], stats_close_help[i], out);
}

static void text_would_shed(const struct counts *c, FILE *out)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SHED_COUNT; i++)
		n += c->would_shed[i];
	if (n == 0)
		return;
	(void)fprintf(out, "\n" LABEL TOTAL "  (a dry run: they were let in)\n",
	        "would shed", GROUPED(n));
	for (unsigned i = 0; i < SHED_COUNT; i++)
		text_row(
		        counters_shed_name(i), c->would_shed[i], stats_shed_help[i], out);
}

static void text_sources(const struct source_usage *u, FILE *out)
{
	(void)fprintf(out, "\n" LABEL "%s of %s remembered, %s with open connections\n",
	        "sources", GROUPED(u->used), GROUPED(u->capacity), GROUPED(u->open));
	if (u->forgotten)
		(void)fprintf(out,
		        "  %-16s" TOTAL "  for want of room, %s of them early\n",
		        "forgotten", GROUPED(u->forgotten), GROUPED(u->early));
}

static void text_traffic(const struct counts *c, FILE *out)
{
	uint64_t in = c->counter[COUNTER_BYTES_IN], sent = c->counter[COUNTER_BYTES_OUT];

	(void)fprintf(out, "\n" LABEL "%s in, %s out\n", "traffic",
	        format_bytes(in, (char[BYTES_MAX]){0}),
	        format_bytes(sent, (char[BYTES_MAX]){0}));
}

static void text_memory(const struct stats *s, FILE *out)
{
	if (s->memory.limit == 0)
		(void)fprintf(out, "\n" LABEL "not known\n", "memory");
	else
		(void)fprintf(out, "\n" LABEL "%s of %s left%s\n", "memory",
		        format_bytes(s->memory.left, (char[BYTES_MAX]){0}),
		        format_bytes(s->memory.limit, (char[BYTES_MAX]){0}),
		        s->memory_short ? ": SHORT, newcomers are turned away" : "");
	(void)fprintf(out, "  %-16s%s of %s taken, for what clients do not read\n",
	        "buffers", GROUPED(s->buffers), GROUPED(s->budget.buffers));
}

static void text_keepalive(const struct stats *s, FILE *out)
{
	(void)fprintf(out, "\n" LABEL, "keepalive");
	if (s->keepalive_ns == 0)
		(void)fprintf(out, "off\n");
	else
		(void)fprintf(out, "%s in force, %s probe%s\n", DURATION(s->keepalive_ns),
		        GROUPED(s->total.counter[COUNTER_PROBES]),
		        PLURAL(s->total.counter[COUNTER_PROBES]));
}

static void text_workers(const struct stats *s, FILE *out)
{
	(void)fprintf(out, "\n%-8s%15s %15s %19s %15s\n", "worker", "connections",
	        "accepted", "loops", "longest loop");
	for (unsigned i = 0; i < s->budget.workers; i++) {
		const struct stats_worker *w = &s->workers[i];

		(void)fprintf(out, "  %-6u %14s %15s %19s %15s\n", w->id,
		        GROUPED(w->connections), GROUPED(w->accepted), GROUPED(w->loops),
		        DURATION(w->longest_loop_ns));
	}
}

static void text_books(const struct stats *s, FILE *out)
{
	uint64_t accepted = s->total.counter[COUNTER_ACCEPTED];
	uint64_t shed = counts_total_shed(&s->total),
	         closed = counts_total_closed(&s->total);
	uint64_t told = s->held + s->connections + shed + closed;

	(void)fprintf(out,
	        "\nbooks: accepted %s %s held %s + connections %s + shed %s + closed "
	        "%s\n",
	        GROUPED(accepted), accepted == told ? "=" : "!=", GROUPED(s->held),
	        GROUPED(s->connections), GROUPED(shed), GROUPED(closed));
	if (accepted != told)
		(void)fprintf(out,
		        "       THE BOOKS DO NOT BALANCE at this instant: %s "
		        "connection%s "
		        "%s.\n"
		        "       A few are normal while clients come and go, for the "
		        "figures are not\n"
		        "       read all at once; at rest any difference is a bug of "
		        "portd.\n",
		        GROUPED(accepted > told ? accepted - told : told - accepted),
		        PLURAL(accepted > told ? accepted - told : told - accepted),
		        accepted > told ? "unaccounted for" : "too many");
}

void stats_render_text(const struct stats *s, FILE *out)
{
	text_state(s, out);
	text_listener(s, out);
	text_budget(s, out);
	text_accept(&s->total, out);
	text_wait(&s->total, out);
	text_reasons(&s->total, out);
	text_would_shed(&s->total, out);
	text_sources(&s->sources, out);
	text_traffic(&s->total, out);
	text_memory(s, out);
	text_keepalive(s, out);
	text_workers(s, out);
	text_books(s, out);
}
