/*
 * stats_json.c - «portctl stats --json»: one object, the paths of portctl(1).
 *
 * Invariants: the output is valid JSON (RFC 8259) whatever the strings hold: anything
 * that is not printable ASCII is escaped. Numbers are exact. A comma is written before a
 * member, never after: `first` says whether the object that is being written has one
 * already.
 */
#include "core/stats.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "core/stats_render.h"

struct json {
	FILE *out;
	bool first; /* of the object or array that is open; objects are closed by
	               json_close */
};

/* The name of the next member; len for names that are a part of a longer text. */
static void json_name_part(struct json *j, const char *name, size_t len)
{
	(void)fprintf(j->out, "%s\"%.*s\":", j->first ? "" : ",", (int)len, name);
	j->first = false;
}

static void json_name(struct json *j, const char *name)
{
	json_name_part(j, name, strlen(name));
}

static void json_open(struct json *j, const char *name)
{
	json_name(j, name);
	(void)putc('{', j->out);
	j->first = true;
}

static void json_close(struct json *j)
{
	(void)putc('}', j->out);
	j->first = false;
}

static void json_number(struct json *j, const char *name, uint64_t n)
{
	json_name(j, name);
	(void)fprintf(j->out, "%" PRIu64, n);
}

static void json_seconds(struct json *j, const char *name, uint64_t ns)
{
	char text[STATS_SECONDS_MAX];

	json_name(j, name);
	(void)fputs(stats_format_seconds(ns, text), j->out);
}

static void json_text(struct json *j, const char *name, const char *text)
{
	json_name(j, name);
	json_put_string(j->out, text);
}

static void json_accept_errors(struct json *j, const struct counts *c)
{
	json_open(j, "errors");
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		json_number(j, counters_accept_error_name(i), c->accept_error[i]);
	json_close(j);
}

/* True if an earlier row has the same group, so that it is written already. */
static bool group_seen(unsigned row, size_t len)
{
	for (unsigned i = 0; i < row; i++)
		if (strncmp(stats_counter_rows[i].json, stats_counter_rows[row].json,
		            len + 1) == 0)
			return true;
	return false;
}

/* counters.def: one object a group, the group's rows in the table's order. */
static void json_counters(struct json *j, const struct stats *s)
{
	const struct counts *c = &s->total;

	for (unsigned g = 0; g < COUNTER_COUNT; g++) {
		const char *group = stats_counter_rows[g].json;
		size_t len = strcspn(group, ".");

		if (group_seen(g, len))
			continue;
		json_name_part(j, group, len);
		(void)putc('{', j->out);
		j->first = true;
		for (unsigned i = g; i < COUNTER_COUNT; i++)
			if (strncmp(stats_counter_rows[i].json, group, len + 1) == 0)
				json_number(j, stats_counter_rows[i].json + len + 1,
				        c->counter[i]);
		if (strncmp(group, "accept.", len + 1) == 0)
			json_accept_errors(j, c);
		if (strncmp(group, "keepalive.", len + 1) == 0)
			json_seconds(j, "period_seconds", s->keepalive_ns);
		json_close(j);
	}
}

static void json_listener(struct json *j, const struct stats *s)
{
	char address[ADDR_TEXT_MAX];

	json_open(j, "listener");
	json_text(j, "address", addr_format_named(&s->address, address));
	json_number(j, "backlog_configured", s->backlog_configured);
	json_number(j, "backlog_effective", s->backlog_effective);
	json_number(j, "queue_depth", s->queue_depth);
	json_number(j, "queue_depth_peak", s->queue_depth_peak);
	json_number(j, "kernel_drops", s->kernel_drops);
	json_text(j, "gate", s->gate_closed ? "closed" : "open");
	json_number(j, "gates", s->gates);
	json_seconds(j, "gated_seconds", s->gated_ns);
	json_close(j);
}

static void json_budget(struct json *j, const struct stats *s)
{
	json_open(j, "budget");
	json_number(j, "fds", s->budget.fds);
	json_number(j, "fds_in_use", s->fds_in_use);
	json_number(j, "fds_per_connection", s->budget.fds_per_connection);
	json_number(j, "max_connections", s->budget.max_connections);
	json_number(j, "connections", s->connections);
	json_number(j, "connections_peak", s->connections_peak);
	json_number(j, "priority_slots", s->budget.priority_slots);
	json_number(j, "priority_connections", s->priority_connections);
	json_number(j, "held", s->held);
	json_number(j, "lingering", s->lingering);
	json_text(j, "bound_by", limits_bound_name(s->budget.bound_by));
	json_close(j);
}

static void json_reasons(struct json *j, const struct counts *c)
{
	json_open(j, "shed");
	for (unsigned i = 0; i < SHED_COUNT; i++)
		json_number(j, counters_shed_name(i), c->shed[i]);
	json_close(j);
	json_open(j, "would_shed");
	for (unsigned i = 0; i < SHED_COUNT; i++)
		json_number(j, counters_shed_name(i), c->would_shed[i]);
	json_close(j);
	json_open(j, "closed");
	for (unsigned i = 0; i < CLOSE_COUNT; i++)
		json_number(j, counters_close_name(i), c->closed[i]);
	json_close(j);
}

static void json_memory(struct json *j, const struct stats *s)
{
	json_open(j, "memory");
	json_number(j, "limit_bytes", s->memory.limit);
	json_number(j, "left_bytes", s->memory.left);
	json_number(j, "reserve_bytes", s->memory.reserve);
	json_number(j, "short", s->memory_short);
	json_number(j, "buffers", s->buffers);
	json_number(j, "buffers_max", s->budget.buffers);
	json_close(j);
}

static void json_sources(struct json *j, const struct source_usage *u)
{
	json_open(j, "sources");
	json_number(j, "capacity", u->capacity);
	json_number(j, "used", u->used);
	json_number(j, "open", u->open);
	json_number(j, "bytes", u->bytes);
	json_number(j, "forgotten", u->forgotten);
	json_number(j, "forgotten_early", u->early);
	json_number(j, "unbooked", u->unbooked);
	json_close(j);
}

/* Buckets are cumulative, under the names that Prometheus gives them. */
static void json_wait(struct json *j, const struct counts *c)
{
	uint64_t seen = 0;

	json_open(j, "queue_wait_seconds");
	json_open(j, "buckets");
	for (unsigned i = 0; i < COUNTERS_WAIT_BUCKETS - 1; i++) {
		char le[STATS_SECONDS_MAX];

		seen += c->wait[i];
		stats_format_seconds(stats_wait_bound_ms[i] * CLOCK_MSEC, le);
		json_number(j, le, seen);
	}
	json_number(j, "+Inf", stats_wait_count(c));
	json_close(j);
	json_seconds(j, "sum", c->wait_sum_ns);
	json_number(j, "count", stats_wait_count(c));
	json_close(j);
}

static void json_workers(struct json *j, const struct stats *s)
{
	json_name(j, "workers");
	(void)putc('[', j->out);
	for (unsigned i = 0; i < s->budget.workers; i++) {
		const struct stats_worker *w = &s->workers[i];

		(void)fputs(i ? ",{" : "{", j->out);
		j->first = true;
		json_number(j, "id", w->id);
		json_number(j, "connections", w->connections);
		json_number(j, "accepted", w->accepted);
		json_number(j, "loops", w->loops);
		json_seconds(j, "longest_loop_seconds", w->longest_loop_ns);
		json_close(j);
	}
	(void)putc(']', j->out);
}

void stats_render_json(const struct stats *s, FILE *out)
{
	struct json j = {.out = out, .first = true};

	(void)putc('{', out);
	json_text(&j, "state", state_name(s->state));
	json_text(&j, "version", s->version);
	json_name(&j, "pid");
	(void)fprintf(out, "%" PRId64, s->pid);
	json_seconds(&j, "uptime_seconds", s->uptime_ns);
	json_open(&j, "time_in_state_seconds");
	for (unsigned i = 0; i < STATE_COUNT; i++)
		json_seconds(&j, state_name(i), s->time_in_state_ns[i]);
	json_close(&j);
	json_listener(&j, s);
	json_budget(&j, s);
	json_counters(&j, s);
	json_reasons(&j, &s->total);
	json_memory(&j, s);
	json_sources(&j, &s->sources);
	json_wait(&j, &s->total);
	json_workers(&j, s);
	(void)fputs("}\n", out);
}
