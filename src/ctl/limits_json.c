/*
 * limits_json.c - «portctl limits --json»: one object, the names of portctl(1).
 *
 * Invariants: valid JSON (RFC 8259) whatever the texts hold; what is not known, has no limit or
 * does not apply is null; names are an interface: more may come, none goes.
 */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "ctl/limits.h"

/* A member whose name is ours: nothing to escape in it. before: "," or "". */
static void put_name(FILE *out, const char *before, const char *name)
{
	(void)fprintf(out, "%s\"%s\":", before, name);
}

/* An empty text is null. */
static void put_text(FILE *out, const char *before, const char *name, const char *text)
{
	put_name(out, before, name);
	if (*text)
		json_put_string(out, text);
	else
		(void)fputs("null", out);
}

static void put_number(FILE *out, const char *before, const char *name, uint64_t n)
{
	put_name(out, before, name);
	if (n == LIMITS_NONE)
		(void)fputs("null", out);
	else
		(void)fprintf(out, "%" PRIu64, n);
}

static void put_bool(FILE *out, const char *before, const char *name, bool is)
{
	put_name(out, before, name);
	(void)fputs(is ? "true" : "false", out);
}

static const char *group_name(enum limits_group group)
{
	static const char *const names[LIMITS_GROUP_COUNT] = {
	        [LIMITS_GROUP_OPEN] = "open",
	        [LIMITS_GROUP_WAITING] = "waiting",
	        [LIMITS_GROUP_HANDSHAKE] = "handshake",
	        [LIMITS_GROUP_CLIENT] = "client",
	};

	return names[group];
}

static const char *network_name(enum limits_network network)
{
	switch (network) {
	case LIMITS_NETWORK_SAME:
		return "same";
	case LIMITS_NETWORK_ENTERED:
		return "entered";
	case LIMITS_NETWORK_OTHER:
		return "other";
	case LIMITS_NETWORK_UNKNOWN:
		break;
	}
	return "unknown";
}

static void put_row(FILE *out, const struct limits_row *row)
{
	put_text(out, "{", "name", row->name);
	put_text(out, ",", "group", group_name(row->group));
	if (row->number == LIMITS_NONE)
		put_text(out, ",", "value", row->text);
	else
		put_number(out, ",", "value", row->number);
	put_text(out, ",", "unit", row->unit == LIMITS_BYTES ? "bytes" : "");
	put_text(out, ",", "from", row->from);
	put_text(out, ",", "error", row->err ? strerrorname_np(row->err) : "");
	put_number(out, ",", "allows", row->allows);
	put_bool(out, ",", "at_start", row->at_start);
	put_bool(out, ",", "estimate", row->estimate);
	put_bool(out, ",", "binds", row->binds);
	put_bool(out, ",", "below", row->below);
	put_text(out, ",", "note", row->note);
	put_name(out, ",", "raise");
	put_text(out, "{", "command", row->raise.command);
	put_text(out, ",", "line", row->raise.line);
	put_text(out, ",", "file", row->raise.file);
	put_number(out, ",", "file_line",
	        row->raise.file_line ? row->raise.file_line : LIMITS_NONE);
	put_text(out, ",", "option", row->raise.option);
	(void)fputs("}}", out);
}

static void put_portd(FILE *out, const struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;

	put_bool(out, "{", "running", p->running);
	put_text(out, ",", "socket", c->socket);
	put_text(out, ",", "why_not", c->why_not);
	put_text(out, ",", "version", p->version);
	put_number(out, ",", "pid", c->machine.is_portd ? c->machine.pid : p->pid);
	put_bool(out, ",", "process_seen", c->machine.is_portd);
	put_text(out, ",", "unit", c->machine.unit.name);
	put_text(out, ",", "state", p->state);
	put_text(out, ",", "address", p->address);
	put_text(out, ",", "service", p->service);
	put_text(out, ",", "network", network_name(c->machine.network));
	put_number(out, ",", "workers", p->workers);
	put_text(out, ",", "fd_table", p->is_private == 1 ? "private" : "shared");
	put_number(out, ",", "connections", p->connections);
	put_number(out, ",", "connections_peak", p->connections_peak);
	put_number(out, ",", "max_connections", p->max_connections);
	put_number(out, ",", "priority_slots", p->priority_slots);
	put_number(out, ",", "priority_connections", p->priority_connections);
}

static void put_advice(FILE *out, const struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;

	put_name(out, ",", "seen");
	put_number(out, "{", "uptime_seconds", p->uptime);
	put_number(out, ",", "accepted", p->accepted);
	put_number(out, ",", "arrivals_peak", p->arrivals_peak);
	put_number(out, ",", "accept_pause_us", p->accept_pause_us);
	put_number(out, ",", "queue_depth_peak", p->queue_depth_peak);
	put_number(out, ",", "kernel_drops", p->kernel_drops);
	put_bool(out, ",", "enough", c->advice.enough_seen);
	(void)putc('}', out);
	put_name(out, ",", "recommended");
	put_number(
	        out, "{", "needed", c->advice.backlog ? c->advice.needed : LIMITS_NONE);
	put_number(
	        out, ",", "backlog", c->advice.backlog ? c->advice.backlog : LIMITS_NONE);
	put_number(out, ",", "somaxconn",
	        c->advice.backlog ? c->advice.somaxconn : LIMITS_NONE);
	(void)putc('}', out);
}

void limits_render_json(const struct limits_chain *c, FILE *out)
{
	put_portd(out, c);
	put_number(out, ",", "holds", c->holds);
	put_number(out, ",", "holds_priority", c->holds_priority);
	put_text(out, ",", "binds", c->portd.bound_by);
	put_text(out, ",", "binding_limit", c->binds ? c->binds->name : "");
	put_text(out, ",", "reached_first", c->first ? c->first->name : "");
	put_name(out, ",", "limits");
	for (size_t i = 0; i < c->n_rows; i++) {
		(void)putc(i ? ',' : '[', out);
		put_row(out, &c->rows[i]);
	}
	(void)putc(']', out);
	put_advice(out, c);
	(void)fputs("}\n", out);
}
