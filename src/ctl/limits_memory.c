/*
 * limits_memory.c - the rows about memory and what else the kernel keeps for each connection.
 *
 * Invariants: arithmetic only. Rows that rest on an assumption are estimates, and their notes say
 * which.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "ctl/limits_rows.h"

/* What the kernel keeps for an idle connection, at the server's end: measured, see
 * portctl(1). */
#define KERNEL_PER_CONNECTION UINT64_C(4096)

/* portd's own rule: half of it, at so much a connection. */
static void memory_rule(const struct limits_chain *c, struct limits_row *row)
{
	const struct limits_portd *p = &c->portd;
	uint64_t each = p->memory_per_connection;

	row->unit = LIMITS_BYTES;
	if (row->number == LIMITS_NONE || each == LIMITS_NONE || each < 1)
		return;
	row->allows = limits_slots_of_memory(row->number, each);
	/* With a number of the user's own it is no more than a rule of thumb. */
	row->estimate = strcmp(p->bound_by, "max_connections") == 0;
	limits_row_note(row,
	        "max_connections = auto counts with half of it, at %" PRIu64
	        " KiB a connection",
	        each / 1024);
}

/* The limit of a group, by its unit if it has one. */
static void raise_group(
        const struct limits_chain *c, struct limits_row *row, const char *property)
{
	char *command = row->raise.command;

	if (row->number == LIMITS_NONE)
		return;
	if (*c->machine.unit.name)
		limits_command_about(command, c->machine.unit.name,
		        "systemctl set-property --runtime %s=%" PRIu64 " -- ", property,
		        limits_twice(row->number));
	else if (row->from[0] == '/')
		limits_command_about(command, row->from, "echo %" PRIu64 " >",
		        limits_twice(row->number));
}

static void add_memory(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row =
	        limits_row_add(c, "memory_total", "memory", LIMITS_GROUP_OPEN);

	limits_row_take_or(row, &m->memory_total, c->portd.memory);
	memory_rule(c, row);
	if (strcmp(c->portd.bound_by, "memory") == 0)
		limits_row_raise_config(c, row, true, LIMITS_KEY_MAX_CONNECTIONS,
		        "%" PRIu64,
		        limits_least(limits_twice(row->allows),
		                limits_slots_of_nofile(c, c->portd.nofile_hard)));

	row = limits_row_add(
	        c, "cgroup_memory", "memory of the control group", LIMITS_GROUP_OPEN);
	limits_row_take(row, &m->cgroup_memory);
	/* What portd saw when it started is what it counts with: a group that portctl may not
	 * see, or one whose limit has been lifted since. */
	if (c->portd.memory < limits_least(m->memory_total.n, row->number)) {
		row->err = 0;
		row->number = c->portd.memory;
		(void)snprintf(row->from, sizeof(row->from), "portd");
	}
	memory_rule(c, row);
	raise_group(c, row, "MemoryMax");
}

/* What the sockets themselves take, and what is in their buffers. */
static void add_sockets(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	const struct limits_portd *p = &c->portd;
	struct limits_row *row =
	        limits_row_add(c, "socket_memory", "memory available", LIMITS_GROUP_OPEN);
	char value[96];

	limits_row_take(row, &m->memory_available);
	row->unit = LIMITS_BYTES;
	row->estimate = true;
	if (row->number != LIMITS_NONE) {
		row->allows = p->connections + row->number / KERNEL_PER_CONNECTION;
		limits_row_note(row,
		        "an idle connection takes about 4 KiB of the kernel's: %s of "
		        "them %s MiB",
		        GROUPED(p->max_connections),
		        GROUPED((p->max_connections * KERNEL_PER_CONNECTION) >> 20));
	}

	row = limits_row_add(c, "tcp_mem", "net.ipv4.tcp_mem", LIMITS_GROUP_OPEN);
	limits_row_take(row, &m->tcp_mem[2]);
	row->estimate = true;
	if (row->number == LIMITS_NONE || m->tcp_mem_used.err)
		return;
	row->allows =
	        p->connections +
	        (row->number > m->tcp_mem_used.n ? row->number - m->tcp_mem_used.n : 0);
	limits_row_note(row,
	        "pages for data in flight, %s in use; ~: with one for each connection "
	        "(idle ones have none)",
	        GROUPED(m->tcp_mem_used.n));
	(void)snprintf(value, sizeof(value), "%" PRIu64 " %" PRIu64 " %" PRIu64,
	        limits_twice(m->tcp_mem[0].n), limits_twice(m->tcp_mem[1].n),
	        limits_twice(m->tcp_mem[2].n));
	limits_row_raise_sysctl_words(row, "net.ipv4.tcp_mem", value);
}

static void add_pids(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row = limits_row_add(
	        c, "cgroup_pids", "threads of the control group", LIMITS_GROUP_OPEN);

	limits_row_take(row, &m->cgroup_pids);
	limits_row_note(row, "portd has %" PRIu64 " threads, however many connections",
	        c->portd.workers + 1);
	raise_group(c, row, "TasksMax");
}

static void add_conntrack(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row =
	        limits_row_add(c, "conntrack", "nf_conntrack_max", LIMITS_GROUP_OPEN);

	limits_row_take(row, &m->conntrack_max);
	if (row->err == ENOENT) {
		row->err = 0;
		(void)snprintf(row->text, sizeof(row->text), "not loaded");
	}
	if (row->number == LIMITS_NONE || m->conntrack_used.err)
		return;
	limits_row_raise_sysctl(
	        row, "net.netfilter.nf_conntrack_max", limits_twice(row->number));
	if (m->conntrack_used.n == 0) {
		limits_row_note(
		        row, "loaded, but it tracks nothing now, so it limits nothing");
		return;
	}
	row->allows =
	        c->portd.connections + (row->number > m->conntrack_used.n
	                                               ? row->number - m->conntrack_used.n
	                                               : 0);
	row->together = true;
	limits_row_note(row,
	        "%s are tracked, not only portd's; beyond the limit, packets are dropped",
	        GROUPED(m->conntrack_used.n));
}

void limits_rows_add_memory(struct limits_chain *c)
{
	add_memory(c);
	add_sockets(c);
}

void limits_rows_add_kernel(struct limits_chain *c)
{
	add_pids(c);
	add_conntrack(c);
}
