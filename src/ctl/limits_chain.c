/*
 * limits_chain.c - the chain of limits: how its rows are made, which one binds, and how
 * many connections that leaves.
 *
 * Invariants: arithmetic only, nothing is read here. Exactly one row of LIMITS_GROUP_OPEN
 * binds: the one that portd's own `bound_by` stands for. Rows that rest on an assumption
 * (estimate), or that count only when portd starts, are never `below`. What raises a
 * limit names twice what it is now, as far as that can be had.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "ctl/limits_rows.h"

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
