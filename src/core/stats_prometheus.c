/*
 * stats_prometheus.c - «portctl stats --prometheus» (text format 0.0.4) and
 * «--openmetrics» (1.0).
 *
 * Invariants: both formats have the same samples under the same names; only what is said
 * about them differs. OpenMetrics names the family of a counter without `_total` and that
 * of an info without `_info`, writes a bucket's bound as a float, and ends with # EOF.
 * HELP and TYPE come once, before the samples of their family, and families do not
 * interleave. Base units only.
 */
#include "core/stats.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "core/stats_render.h"

enum kind {
	KIND_GAUGE,
	KIND_COUNTER,
	KIND_INFO,
	KIND_HISTOGRAM
};

struct metrics {
	FILE *out;
	bool openmetrics;
	const char
	        *name; /* of the family that is being written, as its samples have it */
};

/* Both formats escape backslash and newline, in labels and, for OpenMetrics, in HELP the
 * quote. */
static void put_escaped(FILE *out, const char *text, bool quote)
{
	for (; *text; text++) {
		if (*text == '\n')
			(void)fputs("\\n", out);
		else if (*text == '\\' || (quote && *text == '"'))
			(void)fprintf(out, "\\%c", *text);
		else
			(void)putc(*text, out);
	}
}

/* Begins the family whose samples are called name. */
static void family(struct metrics *m, enum kind kind, const char *name, const char *help)
{
	static const char *const words[] = {"gauge", "counter", "info", "histogram"};
	static const char *const suffixes[] = {"", "_total", "_info", ""};
	const char *word = words[kind];
	size_t len = strlen(name);

	if (m->openmetrics)
		len -= strlen(suffixes[kind]);
	else if (kind == KIND_INFO)
		word = words[KIND_GAUGE];
	m->name = name;
	(void)fprintf(m->out, "# HELP %.*s ", (int)len, name);
	put_escaped(m->out, help, m->openmetrics);
	(void)fprintf(m->out, "\n# TYPE %.*s %s\n", (int)len, name, word);
}

/* Name and label of a sample; label NULL: none. suffix is "" but for histograms. */
static void sample_begin(
        struct metrics *m, const char *suffix, const char *label, const char *value)
{
	(void)fprintf(m->out, "%s%s", m->name, suffix);
	if (label) {
		(void)fprintf(m->out, "{%s=\"", label);
		put_escaped(m->out, value, true);
		(void)fputs("\"}", m->out);
	}
	(void)putc(' ', m->out);
}

static void sample(struct metrics *m, const char *label, const char *value, uint64_t n)
{
	sample_begin(m, "", label, value);
	(void)fprintf(m->out, "%" PRIu64 "\n", n);
}

static void sample_seconds(
        struct metrics *m, const char *label, const char *value, uint64_t ns)
{
	char text[STATS_SECONDS_MAX];

	sample_begin(m, "", label, value);
	(void)fprintf(m->out, "%s\n", stats_format_seconds(ns, text));
}

/* A family of one sample without labels. */
static void gauge(struct metrics *m, const char *name, const char *help, uint64_t n)
{
	family(m, KIND_GAUGE, name, help);
	sample(m, NULL, NULL, n);
}

static void metrics_state(struct metrics *m, const struct stats *s)
{
	family(m, KIND_INFO, "portd_build_info", "The version of portd that runs.");
	sample(m, "version", s->version, 1);
	family(m, KIND_GAUGE, "portd_uptime_seconds", "Time since portd started.");
	sample_seconds(m, NULL, NULL, s->uptime_ns);
	family(m, KIND_GAUGE, "portd_state",
	        "1 for the state that holds now, 0 for the others.");
	for (unsigned i = 0; i < STATE_COUNT; i++)
		sample(m, "state", state_name(i), i == s->state);
	family(m, KIND_COUNTER, "portd_state_seconds_total", "Time spent in each state.");
	for (unsigned i = 0; i < STATE_COUNT; i++)
		sample_seconds(m, "state", state_name(i), s->time_in_state_ns[i]);
}

static void metrics_listener(struct metrics *m, const struct stats *s)
{
	char address[ADDR_TEXT_MAX];

	family(m, KIND_INFO, "portd_listener_info", "The address that is listened on.");
	sample(m, "address", addr_format_named(&s->address, address), 1);
	gauge(m, "portd_listener_backlog_configured",
	        "The backlog that was asked of listen(2).", s->backlog_configured);
	gauge(m, "portd_listener_backlog_effective",
	        "The backlog that the kernel gives this listener (ss: Send-Q).",
	        s->backlog_effective);
	gauge(m, "portd_listener_queue_depth",
	        "Connections in the backlog queue of this listener (ss: Recv-Q).",
	        s->queue_depth);
	gauge(m, "portd_listener_queue_depth_peak",
	        "The deepest that the backlog queue was seen.", s->queue_depth_peak);
	family(m, KIND_COUNTER, "portd_listener_kernel_drops_total",
	        "Packets that the kernel dropped for this listener, queue overflows "
	        "among them.");
	sample(m, NULL, NULL, s->kernel_drops);
}

static void metrics_budget(struct metrics *m, const struct stats *s)
{
	gauge(m, "portd_fds_budget", "Descriptors that portd may use in all its tables.",
	        s->budget.fds);
	gauge(m, "portd_fds_in_use", "Descriptors in use in all tables.", s->fds_in_use);
	gauge(m, "portd_fds_per_connection", "Descriptors that one connection costs.",
	        s->budget.fds_per_connection);
	gauge(m, "portd_connections_max", "Slots: how many connections may be open.",
	        s->budget.max_connections);
	gauge(m, "portd_connections", "Connections that are open.", s->connections);
	gauge(m, "portd_connections_peak", "The most connections that were open at once.",
	        s->connections_peak);
	gauge(m, "portd_priority_slots", "Further slots, for priority sources.",
	        s->budget.priority_slots);
	gauge(m, "portd_priority_connections", "Connections in priority slots.",
	        s->priority_connections);
	gauge(m, "portd_held_connections",
	        "Heads of the queue that were accepted while full and wait for a slot: 0 "
	        "or 1.",
	        s->held);
	gauge(m, "portd_lingering_connections",
	        "Answered connections that are still being closed; not part of the "
	        "books.",
	        s->lingering);
	family(m, KIND_GAUGE, "portd_connections_bound_by",
	        "1 for the limit that makes the number of slots, 0 for the others.");
	for (unsigned i = LIMITS_BOUND_FDS; i <= LIMITS_BOUND_MAX_CONNECTIONS; i++)
		sample(m, "limit", limits_bound_name(i), i == s->budget.bound_by);
}

static void metrics_counters(struct metrics *m, const struct counts *c)
{
	for (unsigned i = 0; i < COUNTER_COUNT; i++) {
		family(m, KIND_COUNTER, stats_counter_rows[i].metric,
		        stats_counter_rows[i].help);
		sample(m, NULL, NULL, c->counter[i]);
	}
	family(m, KIND_COUNTER, "portd_accept_errors_total",
	        "Failed calls of accept4(2).");
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		sample(m, "errno", counters_accept_error_name(i), c->accept_error[i]);
	family(m, KIND_COUNTER, "portd_shed_connections_total",
	        "Connections accepted only to be answered and closed, and those gone by "
	        "then.");
	for (unsigned i = 0; i < SHED_COUNT; i++)
		sample(m, "reason", counters_shed_name(i), c->shed[i]);
	family(m, KIND_COUNTER, "portd_would_shed_connections_total",
	        "Connections that [shed] dry_run let in, under what would have been the "
	        "reason.");
	for (unsigned i = 0; i < SHED_COUNT; i++)
		sample(m, "reason", counters_shed_name(i), c->would_shed[i]);
	family(m, KIND_COUNTER, "portd_closed_connections_total",
	        "Connections that were served and have ended.");
	for (unsigned i = 0; i < CLOSE_COUNT; i++)
		sample(m, "reason", counters_close_name(i), c->closed[i]);
}

static void counter(struct metrics *m, const char *name, const char *help, uint64_t n)
{
	family(m, KIND_COUNTER, name, help);
	sample(m, NULL, NULL, n);
}

static void metrics_sources(struct metrics *m, const struct source_usage *u)
{
	gauge(m, "portd_sources_capacity", "Source networks that the books can remember.",
	        u->capacity);
	gauge(m, "portd_sources_used", "Entries of the books that have been used.",
	        u->used);
	gauge(m, "portd_sources_open", "Source networks with open connections.", u->open);
	gauge(m, "portd_sources_bytes", "Memory that the books may use, in bytes.",
	        u->bytes);
	counter(m, "portd_sources_forgotten_total",
	        "Source networks forgotten to make room for others.", u->forgotten);
	counter(m, "portd_sources_forgotten_early_total",
	        "Of those, the ones that still lacked tokens of their rate.", u->early);
	counter(m, "portd_sources_unbooked_total",
	        "Connections that found no entry in the books.", u->unbooked);
}

static void metrics_gate(struct metrics *m, const struct stats *s)
{
	gauge(m, "portd_listener_gate_closed",
	        "1 while [shed] gate keeps SYNs unanswered.", s->gate_closed);
	counter(m, "portd_listener_gates_total", "How often the gate was closed.",
	        s->gates);
	family(m, KIND_COUNTER, "portd_listener_gated_seconds_total",
	        "For how long it was closed.");
	sample_seconds(m, NULL, NULL, s->gated_ns);
}

static void metrics_memory(struct metrics *m, const struct stats *s)
{
	gauge(m, "portd_memory_limit_bytes",
	        "Memory of the machine, or of the cgroup that is nearest to its limit.",
	        s->memory.limit);
	gauge(m, "portd_memory_left_bytes", "What is left of it, caches included.",
	        s->memory.left);
	gauge(m, "portd_memory_reserve_bytes",
	        "With less than that left newcomers are shed for memory.",
	        s->memory.reserve);
	gauge(m, "portd_memory_short", "1 while they are.", s->memory_short);
	gauge(m, "portd_buffers",
	        "Buffers that are taken: one for each worker, and one for each client "
	        "that "
	        "does not take what it is sent.",
	        s->buffers);
	gauge(m, "portd_buffers_max", "How many there are.", s->budget.buffers);
}

static void metrics_keepalive(struct metrics *m, const struct stats *s)
{
	family(m, KIND_GAUGE, "portd_keepalive_period_seconds",
	        "About how long a dead client stays: [timeouts] keepalive, or more where "
	        "connections are many. 0: no keepalive.");
	sample_seconds(m, NULL, NULL, s->keepalive_ns);
}

static void metrics_wait(struct metrics *m, const struct counts *c)
{
	char text[STATS_SECONDS_MAX];
	uint64_t seen = 0;

	family(m, KIND_HISTOGRAM, "portd_queue_wait_seconds",
	        "Time in the backlog queue before accept: 1 in 16 sampled while not "
	        "full, every "
	        "one while full.");
	for (unsigned i = 0; i < COUNTERS_WAIT_BUCKETS - 1; i++) {
		char le[STATS_SECONDS_MAX + 2];

		stats_format_seconds(stats_wait_bound_ms[i] * CLOCK_MSEC, text);
		(void)snprintf(le, sizeof(le), "%s%s", text,
		        m->openmetrics && !strchr(text, '.') ? ".0" : "");
		seen += c->wait[i];
		sample_begin(m, "_bucket", "le", le);
		(void)fprintf(m->out, "%" PRIu64 "\n", seen);
	}
	sample_begin(m, "_bucket", "le", "+Inf");
	(void)fprintf(m->out, "%" PRIu64 "\n", stats_wait_count(c));
	sample_begin(m, "_sum", NULL, NULL);
	(void)fprintf(m->out, "%s\n", stats_format_seconds(c->wait_sum_ns, text));
	sample_begin(m, "_count", NULL, NULL);
	(void)fprintf(m->out, "%" PRIu64 "\n", stats_wait_count(c));
}

static char *worker_label(const struct stats_worker *w, char buf[static 12])
{
	(void)snprintf(buf, 12, "%u", w->id);
	return buf;
}

static void metrics_workers(struct metrics *m, const struct stats *s)
{
	const struct stats_worker *end = s->workers + s->budget.workers;
	char id[12];

	family(m, KIND_GAUGE, "portd_worker_connections",
	        "Connections open in this worker.");
	for (const struct stats_worker *w = s->workers; w < end; w++)
		sample(m, "worker", worker_label(w, id), w->connections);
	family(m, KIND_COUNTER, "portd_worker_accepted_connections_total",
	        "Connections that this worker took from the backlog queue.");
	for (const struct stats_worker *w = s->workers; w < end; w++)
		sample(m, "worker", worker_label(w, id), w->accepted);
	family(m, KIND_COUNTER, "portd_worker_loops_total",
	        "Turns of this worker's event loop.");
	for (const struct stats_worker *w = s->workers; w < end; w++)
		sample(m, "worker", worker_label(w, id), w->loops);
	family(m, KIND_GAUGE, "portd_worker_longest_loop_seconds",
	        "The longest turn of this worker's event loop, waiting not counted.");
	for (const struct stats_worker *w = s->workers; w < end; w++)
		sample_seconds(m, "worker", worker_label(w, id), w->longest_loop_ns);
}

static void render(const struct stats *s, bool openmetrics, FILE *out)
{
	struct metrics m = {.out = out, .openmetrics = openmetrics};

	metrics_state(&m, s);
	metrics_listener(&m, s);
	metrics_budget(&m, s);
	metrics_gate(&m, s);
	metrics_sources(&m, &s->sources);
	metrics_counters(&m, &s->total);
	metrics_memory(&m, s);
	metrics_keepalive(&m, s);
	metrics_wait(&m, &s->total);
	metrics_workers(&m, s);
}

void stats_render_prometheus(const struct stats *s, FILE *out)
{
	render(s, false, out);
}

void stats_render_openmetrics(const struct stats *s, FILE *out)
{
	render(s, true, out);
	(void)fputs("# EOF\n", out);
}
