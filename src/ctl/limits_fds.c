/*
 * limits_fds.c - the rows about descriptors: RLIMIT_NOFILE, the unit, tables, the budget, the
 * whole machine.
 *
 * Invariants: arithmetic only. The values of a process count only if it is portd's; where it
 * cannot be seen, what portd says counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "ctl/limits_rows.h"

#define COMMAND_FILE_MAX 160
/* The greatest [budget] priority. */
#define PRIORITY_MAX UINT64_C(65536)

/* The file that has to be named to start this portd anew; NULL: none, or one that a shell would not
 * take as it is. Options beside -c are not known. */
static const char *own_file(const struct limits_portd *p)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                            "0123456789/._-+@:";
	size_t len = strlen(p->config);

	return p->running && strcmp(p->config, LIMITS_CONFIG_DEFAULT) != 0 &&
	                       len <= COMMAND_FILE_MAX && strspn(p->config, plain) == len
	               ? p->config
	               : NULL;
}

/* RLIMIT_NOFILE for a portd that is started anew. */
static void raise_nofile(
        const struct limits_chain *c, struct limits_row *row, uint64_t to)
{
	const char *unit = c->machine.unit.name;
	struct limits_raise *raise = &row->raise;

	if (to == LIMITS_NONE)
		return;
	if (!*unit) {
		const char *file = own_file(&c->portd);
		(void)snprintf(raise->command, sizeof(raise->command),
		        "prlimit --nofile=%" PRIu64 " portd%s%.*s", to,
		        file ? " -c " : "", COMMAND_FILE_MAX, file ? file : "");
		return;
	}
	(void)snprintf(raise->line, sizeof(raise->line),
	        "[Service] LimitNOFILE=1024:%" PRIu64, to);
	(void)snprintf(raise->file, sizeof(raise->file),
	        "/etc/systemd/system/%.200s.d/limits.conf", unit);
	limits_command_about(
	        raise->command, unit, "systemctl daemon-reload && systemctl restart ");
}

/* For a start of portd: as far as fs.nr_open, raised as well, would let it. */
static uint64_t nofile_wanted(const struct limits_chain *c, uint64_t nofile)
{
	return limits_least(limits_twice(nofile), limits_twice(c->machine.nr_open.n));
}

static void add_nofile_hard(struct limits_chain *c)
{
	struct limits_row *row = limits_row_add(
	        c, "nofile_hard", "RLIMIT_NOFILE, hard", LIMITS_GROUP_OPEN);

	row->at_start = true;
	limits_row_take_or(row, &c->machine.nofile_hard, c->portd.nofile_hard);
	if (row->err)
		return;
	row->allows = limits_slots_of_nofile(c, row->number);
	if (row->number >= c->machine.nr_open.n)
		limits_row_note(
		        row, "as high as fs.nr_open lets it be: raise that first");
	raise_nofile(c, row, nofile_wanted(c, row->number));
}

static void add_nofile_soft(struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;
	struct limits_shape shape = limits_shape_of(p);
	struct limits_row *row = limits_row_add(
	        c, "nofile_soft", "RLIMIT_NOFILE, soft", LIMITS_GROUP_OPEN);

	limits_row_take_or(row, &c->machine.nofile_soft, p->nofile_soft);
	if (row->err)
		return;
	limits_row_note(row, "portd raises it itself when it starts");
	if (!p->running)
		return;
	if (row->number != LIMITS_NONE)
		row->allows = limits_slots_of_table(&shape, row->number);
	if (p->table_limit == LIMITS_NONE || row->number >= p->table_limit)
		return;
	limits_row_note(row, "lowered since portd started with %s: EMFILE comes early",
	        GROUPED(p->table_limit));
	if (c->machine.is_portd)
		(void)snprintf(row->raise.command, sizeof(row->raise.command),
		        "prlimit --pid %" PRIu64 " --nofile=%" PRIu64 ":%" PRIu64,
		        c->machine.pid, p->table_limit,
		        limits_most(c->machine.nofile_hard.n, p->table_limit));
}

static void add_unit(struct limits_chain *c)
{
	const struct limits_unit *unit = &c->machine.unit;
	struct limits_row *row;

	if (!*unit->name)
		return;
	row = limits_row_add(
	        c, "unit_nofile", "the unit's LimitNOFILE", LIMITS_GROUP_OPEN);
	row->at_start = true;
	limits_row_take(row, &unit->nofile_hard);
	(void)snprintf(row->from, sizeof(row->from), "systemctl show %s", unit->name);
	row->allows = limits_slots_of_nofile(c, row->number);
	if (row->number != LIMITS_NONE && c->machine.nofile_hard.n < row->number)
		limits_row_note(row,
		        "more than the process has: changed since it started, or "
		        "clipped");
	raise_nofile(c, row, nofile_wanted(c, row->number));
}

static void add_tables(struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;
	struct limits_shape other = limits_shape_of(p);
	struct limits_row *row =
	        limits_row_add(c, "fd_table", "descriptor tables", LIMITS_GROUP_OPEN);

	row->number = p->tables;
	(void)snprintf(row->from, sizeof(row->from), "[workers] fd_table = %s",
	        other.is_private ? "private" : "shared");
	if (p->nofile_hard == LIMITS_NONE)
		return;
	if (other.is_private)
		other.workers = limits_least(2 * other.workers, 1024);
	else
		other.is_private = true;
	limits_row_note(row,
	        "RLIMIT_NOFILE is for each; %" PRIu64 " private ones would allow %s",
	        other.workers,
	        GROUPED(limits_slots_of_fds(
	                &other, other.workers * p->nofile_hard, p->nofile_hard)));
	if (p->is_private == 1)
		limits_row_raise_config(
		        c, row, false, LIMITS_KEY_WORKERS, "%" PRIu64, other.workers);
	else
		limits_row_raise_config(c, row, false, LIMITS_KEY_FD_TABLE, "private");
}

static void add_descriptors(struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;
	struct limits_shape shape = limits_shape_of(p);
	struct limits_row *row = limits_row_add(
	        c, "fds_per_connection", "descriptors a connection", LIMITS_GROUP_OPEN);

	row->number = p->fds_per_connection;
	(void)snprintf(row->from, sizeof(row->from), "[service] type = %s", p->service);

	row = limits_row_add(c, "fds", "[budget] fds", LIMITS_GROUP_OPEN);
	row->number = p->fds;
	(void)snprintf(row->from, sizeof(row->from), "%s",
	        p->running ? "portd" : "the default: auto");
	row->allows = limits_slots_of_fds(&shape, p->fds, p->table_limit);
	if (p->fds_configured == LIMITS_NONE)
		limits_row_note(row,
		        "auto: the hard RLIMIT_NOFILE at portd's start, in each table");
	else
		limits_row_raise_config(c, row, false, LIMITS_KEY_FDS, "auto");

	row = limits_row_add(
	        c, "max_connections", "[budget] max_connections", LIMITS_GROUP_OPEN);
	row->number = row->allows = p->max_connections;
	(void)snprintf(row->from, sizeof(row->from), "%s",
	        p->running ? "portd" : "the default: auto");
	if (strcmp(p->bound_by, "max_connections") == 0)
		limits_row_raise_config(c, row, true, LIMITS_KEY_MAX_CONNECTIONS, "auto");
	else
		limits_row_note(row, "auto: the slots that descriptors and memory leave");
}

static void add_priority(struct limits_chain *c)
{
	const struct limits_portd *p = &c->portd;
	struct limits_row *row =
	        limits_row_add(c, "priority", "[budget] priority", LIMITS_GROUP_OPEN);

	row->number = p->priority_slots;
	(void)snprintf(row->from, sizeof(row->from), "%s",
	        p->running ? "portd" : "the default: no sources");
	if (p->priority_slots == 0) {
		limits_row_note(row, "none, as priority is 0 or [source] priority empty");
		return;
	}
	limits_row_note(row,
	        "further slots, for [source] priority alone; their descriptors are kept");
	if (p->priority_slots < PRIORITY_MAX)
		limits_row_raise_config(c, row, true, LIMITS_KEY_PRIORITY, "%" PRIu64,
		        limits_least(limits_twice(p->priority_slots), PRIORITY_MAX));
}

static void add_files(struct limits_chain *c)
{
	const struct limits_machine *m = &c->machine;
	struct limits_row *row =
	        limits_row_add(c, "nr_open", "fs.nr_open", LIMITS_GROUP_OPEN);

	row->at_start = true;
	limits_row_take(row, &m->nr_open);
	limits_row_note(row, "the most that RLIMIT_NOFILE can be");
	if (row->number != LIMITS_NONE) {
		row->allows = limits_slots_of_nofile(c, row->number);
		limits_row_raise_sysctl(row, "fs.nr_open", limits_twice(row->number));
	}

	row = limits_row_add(c, "file_max", "fs.file-max", LIMITS_GROUP_OPEN);
	limits_row_take(row, &m->file_max);
	if (row->number == LIMITS_NONE || m->file_used.err)
		return;
	uint64_t left = row->number > m->file_used.n ? row->number - m->file_used.n : 0;

	row->allows = c->portd.connections + left / c->portd.fds_per_connection;
	row->together = true;
	limits_row_note(row, "%s files are open in the whole machine (fs.file-nr)",
	        GROUPED(m->file_used.n));
	limits_row_raise_sysctl(row, "fs.file-max", limits_twice(row->number));
}

void limits_rows_add_fds(struct limits_chain *c)
{
	add_nofile_hard(c);
	add_nofile_soft(c);
	add_unit(c);
	add_tables(c);
	add_descriptors(c);
	add_priority(c);
	add_files(c);
}
