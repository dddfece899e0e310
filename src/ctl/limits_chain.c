/*
 * limits_chain.c - the chain of limits: how its rows are made, which one binds, and how
 * many connections that leaves.
 *
 * Invariants: arithmetic only, nothing is read here. Exactly one row of LIMITS_GROUP_OPEN
 * binds: the one that portd's own `bound_by` stands for. Rows that rest on an assumption
 * (estimate), or that count only when portd starts, are never `below`. What raises a
 * limit names twice what it is now, as far as that can be had.
 *
 * Reads next: limits_fds.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "ctl/limits_rows.h"

struct limits_row *limits_row_add(struct limits_chain *c, const char *name,
        const char *label, enum limits_group group)
{
	/* Their number is fixed and smaller; no row is ever written past the end. */
	size_t i = c->n_rows < LIMITS_ROWS_MAX ? c->n_rows++ : LIMITS_ROWS_MAX - 1;
	struct limits_row *row = &c->rows[i];

	*row = (struct limits_row){.name = name,
	        .label = label,
	        .group = group,
	        .number = LIMITS_NONE,
	        .allows = LIMITS_NONE};
	return row;
}

void limits_row_take(struct limits_row *row, const struct limits_value *value)
{
	row->number = value->n;
	row->err = value->err;
	(void)snprintf(row->from, sizeof(row->from), "%s", value->from);
	if (!value->err && value->n == LIMITS_NONE)
		(void)snprintf(row->text, sizeof(row->text), "unlimited");
}

void limits_row_take_or(
        struct limits_row *row, const struct limits_value *value, uint64_t portd)
{
	limits_row_take(row, value);
	if (!value->err || portd == LIMITS_NONE)
		return;
	row->err = 0;
	row->number = portd;
	(void)snprintf(row->from, sizeof(row->from), "portd");
}

void limits_row_note(struct limits_row *row, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(row->note, sizeof(row->note), format, args);
	va_end(args);
}

void limits_row_raise_sysctl_words(
        struct limits_row *row, const char *key, const char *value)
{
	const char *quote = strchr(value, ' ') ? "\"" : "";
	struct limits_raise *raise = &row->raise;

	raise->is_sysctl = true;
	(void)snprintf(raise->command, sizeof(raise->command), "sysctl -w %s=%s%s%s", key,
	        quote, value, quote);
	(void)snprintf(raise->line, sizeof(raise->line), "%s = %s", key, value);
	(void)snprintf(raise->file, sizeof(raise->file), "/etc/sysctl.d/90-portd.conf");
}

void limits_row_raise_sysctl(struct limits_row *row, const char *key, uint64_t to)
{
	char value[32];

	(void)snprintf(value, sizeof(value), "%" PRIu64, to);
	limits_row_raise_sysctl_words(row, key, value);
}

void limits_command_about(
        char command[static LIMITS_TEXT_MAX], const char *name, const char *format, ...)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+=,";
	const char *quote = name[strspn(name, plain)] ? "'" : "";
	va_list args;

	*command = '\0';
	for (const char *s = name; *s; s++)
		if (*s == '\'' || *s < ' ' || *s > '~')
			return;
	va_start(args, format);
	int len = vsnprintf(command, LIMITS_TEXT_MAX, format, args);
	va_end(args);
	if (len < 0 || len >= LIMITS_TEXT_MAX) {
		*command = '\0';
		return;
	}

	size_t left = LIMITS_TEXT_MAX - (size_t)len;
	int more = snprintf(command + len, left, "%s%s%s", quote, name, quote);

	if (more < 0 || (size_t)more >= left)
		*command = '\0';
}

void limits_row_raise_config(const struct limits_chain *c, struct limits_row *row,
        bool live, enum limits_key key, const char *format, ...)
{
	const struct limits_place *place = &c->portd.place[key];
	const char *section = limits_key_section(key), *name = limits_key_name(key);
	const char *unit = c->machine.unit.name;
	struct limits_raise *raise = &row->raise;
	char value[32];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	(void)snprintf(
	        raise->line, sizeof(raise->line), "[%s] %s = %s", section, name, value);
	if (*place->option) {
		/* No file wins over it, and a reload does not read it anew. */
		(void)snprintf(raise->option, sizeof(raise->option), "%s", place->option);
		(void)snprintf(raise->option_wanted, sizeof(raise->option_wanted),
		        "-o %s.%s=%s", section, name, value);
		if (*unit)
			limits_command_about(raise->command, unit,
			        "systemctl daemon-reload && systemctl restart ");
		return;
	}
	(void)snprintf(raise->file, sizeof(raise->file), "%s",
	        *place->file ? place->file : c->portd.config);
	raise->file_line = place->line;
	if (*unit)
		limits_command_about(raise->command, unit, "systemctl %s ",
		        live ? "reload" : "restart");
	else if (live && c->portd.running)
		limits_command_about(raise->command, c->socket, "portctl reload -s ");
}

struct limits_shape limits_shape_of(const struct limits_portd *p)
{
	return (struct limits_shape){.workers = p->workers,
	        .cost = p->fds_per_connection,
	        .priority = p->priority_slots,
	        .is_private = p->is_private == 1};
}

uint64_t limits_slots_of_nofile(const struct limits_chain *c, uint64_t nofile)
{
	struct limits_shape shape = limits_shape_of(&c->portd);

	nofile = limits_least(nofile, c->machine.nr_open.n);
	if (nofile == LIMITS_NONE)
		return LIMITS_NONE;
	return limits_slots_of_fds(
	        &shape, nofile * (shape.is_private ? shape.workers : 1), nofile);
}

/* The row that bound_by stands for. */
static const char *binding_name(const struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;

	if (strcmp(p->bound_by, "max_connections") == 0)
		return "max_connections";
	if (strcmp(p->bound_by, "memory") == 0)
		return p->memory < c->machine.memory_total.n ? "cgroup_memory"
		                                             : "memory_total";
	return p->fds_configured == LIMITS_NONE ? "nofile_hard" : "fds";
}

static void judge_row(struct limits_chain *c, struct limits_row *row, const char *binding)
{
	if (row->group != LIMITS_GROUP_OPEN)
		return;
	row->binds = strcmp(row->name, binding) == 0;
	if (row->binds) {
		row->estimate = false;
		c->binds = row;
	}
	row->below = !row->binds && !row->estimate && !row->at_start &&
	             row->allows < c->portd.max_connections;
	if (row->below && row->allows < c->holds) {
		c->first = row;
		c->holds = row->allows;
	}
	if (row->together && row->allows < c->portd.max_connections + c->holds_priority)
		c->holds_priority = row->allows > c->portd.max_connections
		                            ? row->allows - c->portd.max_connections
		                            : 0;
}

/* 0 is in force behind a closed gate, and of a portd that stops: what comes back with the next
 * listen(2) is what counts here. */
static void expect_backlog(struct limits_portd *p, const struct limits_machine *m)
{
	if (p->backlog_effective == 0)
		p->backlog_effective = limits_least(p->backlog_configured,
		        m->somaxconn.err ? LIMITS_NONE : m->somaxconn.n);
}

void limits_chain_compute(struct limits_chain *c)
{
	expect_backlog(&c->portd, &c->machine);
	c->n_rows = 0;
	c->binds = c->first = NULL;
	limits_rows_add_fds(c);
	limits_rows_add_memory(c);
	limits_rows_add_kernel(c);
	limits_rows_add_queue(c);
	limits_advise(&c->portd, &c->machine, &c->advice);

	const char *binding = binding_name(c);

	c->holds = c->portd.max_connections;
	c->holds_priority = c->portd.priority_slots;
	for (size_t i = 0; i < c->n_rows; i++)
		judge_row(c, &c->rows[i], binding);
	if (!c->first)
		c->first = c->binds;
}
