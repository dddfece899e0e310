/*
 * test_ctl_limits.c - «portctl limits»: its formula against the one of portd's core, the
 * chain and the advice on invented machines.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "core/limits.h"
#include "ctl/limits.h"

#define GIB (UINT64_C(1) << 30)

/* As it was read from somewhere. */
static void set(struct limits_value *v, uint64_t n)
{
	v->n = n;
	v->err = 0;
	(void)snprintf(v->from, sizeof(v->from), "/some/file");
}

/* A roomy machine on which nothing but RLIMIT_NOFILE is near. Each test is a process of its own. */
static struct limits_machine machine;
/* A portd that runs on it with the defaults. */
static struct limits_chain *c;

static void make_machine(void)
{
	struct limits_machine *m = &machine;

	m->pid = 42;
	m->is_portd = true;
	m->cpus = 2;
	set(&m->nofile_soft, 20000);
	set(&m->nofile_hard, 20000);
	set(&m->nr_open, 1048576);
	set(&m->file_max, 10000000);
	set(&m->file_used, 1000);
	set(&m->memory_total, 64 * GIB);
	set(&m->memory_available, 60 * GIB);
	set(&m->cgroup_memory, LIMITS_NONE);
	set(&m->cgroup_pids, LIMITS_NONE);
	set(&m->somaxconn, 4096);
	set(&m->syn_backlog, 2048);
	set(&m->syncookies, 1);
	set(&m->abort_on_overflow, 0);
	for (unsigned i = 0; i < 3; i++)
		set(&m->tcp_mem[i], 100 * (i + 1));
	set(&m->tcp_mem_used, 10);
	m->conntrack_max.n = LIMITS_NONE;
	m->conntrack_max.err = ENOENT;
	set(&m->port_first, 32768);
	set(&m->port_last, 60999);
}

/* Starts portd on the machine as it is now. */
static void start_portd(void)
{
	static struct limits_chain chain;

	c = &chain;
	memset(c, 0, sizeof(*c));
	c->machine = machine;
	limits_portd_assume(&machine, &c->portd);
	c->portd.running = true;
	(void)snprintf(c->socket, sizeof(c->socket), "/run/portd/control.sock");
}

static void start(void)
{
	make_machine();
	start_portd();
}

static const struct limits_row *row_of(const char *name)
{
	for (size_t i = 0; i < c->n_rows; i++)
		if (strcmp(c->rows[i].name, name) == 0)
			return &c->rows[i];
	cr_assert_fail("no row %s", name);
	return NULL;
}

/* Exactly one row of the group binds, and it is this one. */
static void expect_binds(const char *name)
{
	unsigned n = 0;

	limits_chain_compute(c);
	for (size_t i = 0; i < c->n_rows; i++)
		n += c->rows[i].group == LIMITS_GROUP_OPEN && c->rows[i].binds;
	cr_expect_eq(n, 1, "%u rows bind", n);
	cr_assert(c->binds);
	cr_expect_str_eq(c->binds->name, name);
	cr_expect(!c->binds->estimate && !c->binds->below);
}

static uint64_t below(uint64_t *seed, uint64_t limit)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*seed >> 33) % limit;
}

Test(ctl_limits, the_formula_is_that_of_core)
{
	uint64_t seed = 7;
	unsigned fits = 0;
	struct prefix_set *anybody = NULL;

	cr_assert_eq(prefix_set_parse("::/0", &anybody, NULL, NULL), 0);

	for (unsigned i = 0; i < 20000; i++) {
		struct machine m = {
		        .nofile_hard = 30 + below(&seed, i % 2 ? 3000 : 2000000),
		        .memory = UINT64_C(1) << 50,
		        .cpus = 1};
		unsigned cost = 1 + (unsigned)below(&seed, 3);
		struct config config = {.workers = 1 + below(&seed, 70),
		        .fds = CONFIG_AUTO,
		        .max_connections = CONFIG_AUTO,
		        .fd_table = below(&seed, 2) ? CONFIG_FD_TABLE_PRIVATE
		                                    : CONFIG_FD_TABLE_SHARED};
		bool private = config.fd_table == CONFIG_FD_TABLE_PRIVATE;
		uint64_t most = m.nofile_hard * (private ? config.workers : 1);
		OWN_FILE FILE *words = fopen("/dev/null", "we");
		struct limits_shape shape = {
		        .workers = config.workers, .cost = cost, .is_private = private};
		struct budget b;

		config.priority = shape.priority = below(&seed, 2) ? below(&seed, 90) : 0;
		config.source_priority = anybody;

		if (most > 64 && below(&seed, 2))
			config.fds = 64 + below(&seed, most - 63);
		cr_assert(words);
		int r = limits_compute(&m, &config, cost, &b, words, words);
		uint64_t fds = config.fds == CONFIG_AUTO ? most : config.fds;
		uint64_t slots = limits_slots_of_fds(&shape, fds, m.nofile_hard);

		cr_assert_eq(slots, r == 0 ? b.max_connections : 0,
		        "hard %lu workers %lu fds %lu cost %u private %d: %lu here, %lu "
		        "there",
		        m.nofile_hard, config.workers, fds, cost, private, slots,
		        b.max_connections);
		/* So is what portctl reckons from the limit in force, but where the main thread's own
		 * table makes that larger than a worker needs. */
		if (r == 0 && b.table_limit > 48 + (private ? config.workers : 0))
			cr_assert_eq(limits_slots_of_table(&shape, b.table_limit), slots);
		fits += r == 0;
	}
	cr_expect_gt(fits, 10000, "only %u of the machines had room", fits);
	cr_expect_lt(fits, 20000, "none of the machines was too small");
	(void)prefix_set_free(anybody);
}

Test(ctl_limits, what_binds, .init = start)
{

	expect_binds("nofile_hard");
	cr_expect_eq(c->holds, c->portd.max_connections);
	cr_expect_eq(c->first, c->binds);
	cr_expect_eq(row_of("nofile_hard")->allows, c->holds);
	cr_expect_eq(row_of("nofile_soft")->allows, c->holds);
	cr_expect_str_eq(
	        row_of("nofile_hard")->raise.command, "prlimit --nofile=40000 portd");
	(void)strcpy(c->portd.config, "/srv/web.conf");
	expect_binds("nofile_hard");
	cr_expect_str_eq(row_of("nofile_hard")->raise.command,
	        "prlimit --nofile=40000 portd -c /srv/web.conf");
	(void)strcpy(c->portd.config, "/srv/$(web).conf");
	expect_binds("nofile_hard");
	cr_expect_str_eq(
	        row_of("nofile_hard")->raise.command, "prlimit --nofile=40000 portd");

	c->portd.fds = c->portd.fds_configured = c->portd.table_limit = 1000;
	c->portd.max_connections = row_of("fds")->allows;
	expect_binds("fds");
	cr_expect_str_eq(row_of("fds")->raise.line, "[budget] fds = auto");

	(void)strcpy(c->portd.bound_by, "max_connections");
	c->portd.max_connections = c->portd.max_connections_configured = 17;
	expect_binds("max_connections");
	cr_expect_eq(c->holds, 17);
	cr_expect_str_eq(row_of("max_connections")->raise.command,
	        "portctl reload -s /run/portd/control.sock");
}

Test(ctl_limits, memory_binds, .init = start)
{
	set(&machine.memory_total, GIB / 8);
	start_portd();
	expect_binds("memory_total");
	cr_expect_eq(c->holds, GIB / 8 / 2 / 8192);
	cr_expect_str_eq(c->portd.bound_by, "memory");
	cr_expect_str_eq(
	        row_of("memory_total")->raise.line, "[budget] max_connections = 16384");

	make_machine();
	set(&machine.cgroup_memory, GIB / 16);
	(void)strcpy(machine.cgroup_memory.from, "/sys/fs/cgroup/a\\x2db/memory.max");
	start_portd();
	expect_binds("cgroup_memory");
	cr_expect_eq(c->holds, 4096);
	cr_expect_str_eq(row_of("cgroup_memory")->raise.command,
	        "echo 134217728 >'/sys/fs/cgroup/a\\x2db/memory.max'");

	/* What portctl may not see, portd has told. */
	c->machine.cgroup_memory.n = LIMITS_NONE;
	c->machine.cgroup_memory.err = EACCES;
	expect_binds("cgroup_memory");
	cr_expect_eq(row_of("cgroup_memory")->number, GIB / 16);
	cr_expect_str_eq(row_of("cgroup_memory")->from, "portd");
}

Test(ctl_limits, what_is_reached_before, .init = start)
{

	c->portd.connections = 50;
	set(&c->machine.conntrack_max, 1000);
	set(&c->machine.conntrack_used, 400);
	expect_binds("nofile_hard");
	cr_expect_str_eq(c->first->name, "conntrack");
	cr_expect_eq(c->holds, 650);

	set(&c->machine.file_max, 1100);
	expect_binds("nofile_hard");
	cr_expect_str_eq(c->first->name, "file_max");
	cr_expect_eq(c->holds, 150);

	set(&c->machine.file_max, 900); /* fewer than are open */
	expect_binds("nofile_hard");
	cr_expect_eq(c->holds, 50);

	/* Loaded, but not at work. */
	set(&c->machine.file_max, LIMITS_NONE);
	set(&c->machine.conntrack_used, 0);
	expect_binds("nofile_hard");
	cr_expect_eq(c->first, c->binds);

	/* Lowered under a running portd. */
	set(&c->machine.nofile_soft, 500);
	expect_binds("nofile_hard");
	cr_expect_str_eq(c->first->name, "nofile_soft");
	cr_expect_eq(c->holds, row_of("nofile_soft")->allows);
	cr_expect_lt(c->holds, 500);
	cr_expect_str_eq(row_of("nofile_soft")->raise.command,
	        "prlimit --pid 42 --nofile=20000:20000");

	/* An estimate is no limit, and next time's limit none of today's. */
	c->machine = machine;
	set(&c->machine.memory_available, 4096);
	set(&c->machine.nr_open, 100);
	expect_binds("nofile_hard");
	cr_expect_eq(c->first, c->binds);
	cr_expect_eq(row_of("socket_memory")->allows, 51);
}

/* They come beside the others, and what counts all connections counts them, too. */
Test(ctl_limits, priority_slots, .init = start)
{
	expect_binds("nofile_hard");
	cr_expect_eq(c->holds_priority, 0);
	cr_expect_eq(row_of("priority")->number, 0);
	cr_expect_str_eq(row_of("priority")->raise.line, "");

	c->portd.priority_slots = 16;
	c->portd.max_connections -= 16;
	expect_binds("nofile_hard");
	cr_expect_eq(c->holds, c->portd.max_connections);
	cr_expect_eq(row_of("nofile_hard")->allows, c->holds);
	cr_expect_eq(c->holds_priority, 16);
	cr_expect_eq(row_of("priority")->number, 16);
	cr_expect_str_eq(row_of("priority")->raise.line, "[budget] priority = 32");

	set(&c->machine.file_used, 0);
	set(&c->machine.file_max, c->portd.max_connections + 5);
	expect_binds("nofile_hard");
	cr_expect_eq(c->holds, c->portd.max_connections);
	cr_expect_eq(c->holds_priority, 5);
	set(&c->machine.file_max, 100);
	expect_binds("nofile_hard");
	cr_expect_eq(c->holds, 100);
	cr_expect_eq(c->holds_priority, 0);
}

Test(ctl_limits, a_unit_and_a_group_say_how_to_raise, .init = start)
{
	set(&c->machine.cgroup_pids, 100);
	(void)strcpy(c->machine.unit.name, "portd@we b.service");
	set(&c->machine.unit.nofile_hard, 20000);
	expect_binds("nofile_hard");
	const struct limits_raise *raise = &row_of("nofile_hard")->raise;
	cr_expect_str_eq(raise->line, "[Service] LimitNOFILE=1024:40000");
	cr_expect_str_eq(
	        raise->file, "/etc/systemd/system/portd@we b.service.d/limits.conf");
	cr_expect_str_eq(raise->command,
	        "systemctl daemon-reload && systemctl restart 'portd@we b.service'");
	cr_expect_str_eq(row_of("cgroup_pids")->raise.command,
	        "systemctl set-property --runtime TasksMax=200 -- 'portd@we b.service'");
	cr_expect_str_eq(row_of("backlog")->raise.command,
	        "systemctl reload 'portd@we b.service'");

	/* Nobody is led to paste what somebody else's name would do. */
	(void)strcpy(c->machine.unit.name, "");
	(void)strcpy(c->machine.cgroup_pids.from, "/x/';reboot;'/pids.max");
	expect_binds("nofile_hard");
	cr_expect_str_eq(row_of("cgroup_pids")->raise.command, "");
}

Test(ctl_limits, keys_are_changed_where_they_win, .init = start)
{
	(void)strcpy(c->portd.bound_by, "max_connections");
	c->portd.max_connections = 17;
	const struct limits_raise *raise;

	limits_place_take(&c->portd, "budget.max_connections", "/etc/a:b 7.d/x.conf:12");
	limits_place_take(&c->portd, "budget.max", "/nothing:1");
	limits_place_take(&c->portd, "max_connections", "/nothing:1");
	expect_binds("max_connections");
	raise = &row_of("max_connections")->raise;
	cr_expect_str_eq(raise->file, "/etc/a:b 7.d/x.conf");
	cr_expect_eq(raise->file_line, 12);
	cr_expect_str_eq(raise->option, "");

	/* Whatever the value looks like. A reload reads no command line. */
	limits_place_take(
	        &c->portd, "budget.max_connections", "-o budget.max_connections=9:9");
	expect_binds("max_connections");
	raise = &row_of("max_connections")->raise;
	cr_expect_str_eq(raise->option, "-o budget.max_connections=9:9");
	cr_expect_str_eq(raise->option_wanted, "-o budget.max_connections=auto");
	cr_expect_str_eq(raise->file, "");
	cr_expect_str_eq(raise->command, "");
	(void)strcpy(c->machine.unit.name, "portd.service");
	expect_binds("max_connections");
	cr_expect_str_eq(row_of("max_connections")->raise.command,
	        "systemctl daemon-reload && systemctl restart portd.service");
}

Test(ctl_limits, private_tables, .init = start)
{
	struct limits_shape shape = {.workers = 2, .cost = 1, .is_private = true};

	limits_chain_compute(c);
	uint64_t shared = c->holds, private = limits_slots_of_fds(&shape, 40000, 20000);
	cr_expect(strstr(row_of("fd_table")->note, "39,866"), "%s",
	        row_of("fd_table")->note);
	cr_expect_eq(private, 39866);
	cr_expect_eq(shared, 19872);

	c->portd.is_private = 1;
	c->portd.tables = 2;
	c->portd.fds = 40000;
	c->portd.max_connections = private;
	expect_binds("nofile_hard");
	cr_expect_eq(row_of("nofile_hard")->allows, private);
	cr_expect_str_eq(row_of("fd_table")->raise.line, "[workers] count = 4");
}

Test(ctl_limits, backlog_and_somaxconn, .init = start)
{

	limits_chain_compute(c);
	cr_expect(row_of("backlog")->binds && !row_of("somaxconn")->binds);
	c->portd.backlog_configured = 10000;
	limits_chain_compute(c);
	cr_expect(!row_of("backlog")->binds && row_of("somaxconn")->binds);
	cr_expect_str_eq(
	        row_of("somaxconn")->raise.command, "sysctl -w net.core.somaxconn=8192");
	cr_expect_eq(row_of("tcp_max_syn_backlog")->allows, LIMITS_NONE);
	set(&c->machine.syncookies, 0);
	limits_chain_compute(c);
	cr_expect_eq(row_of("tcp_max_syn_backlog")->allows, 1536);
	cr_expect_eq(row_of("ip_local_port_range")->allows, 28232);
	cr_expect_eq(
	        limits_count_ports("1000-1009,40000,60990-62000\n", 32768, 60999), 11);
	cr_expect_eq(limits_count_ports("\n", 32768, 60999), 0);
	cr_expect_eq(limits_count_ports("x,7-,9-8,32768", 32768, 60999), 1);
}

/* One case: what was seen, and what is to be advised (0: nothing). */
struct seen {
	uint64_t uptime, accepted, arrivals, pause_us, peak, drops, gate;
	uint64_t backlog, somaxconn;
};

Test(ctl_limits, advice, .init = start)
{
	static const struct seen cases[] = {
	        {599, 5000, 1000, 1000, 5, 0, 0, 0, 0},
	        {600, 999, 1000, 1000, 5, 0, 0, 0, 0},
	        {600, 1000, 1000, 1000, 5, 0, 0, 4096, 4096},
	        {600, 1000, 50000, 40000, 5, 0, 0, 4096, 4096},    /* 4,000 */
	        {600, 1000, 50000, 41000, 5, 0, 0, 8192, 8192},    /* 4,100 */
	        {600, 1000, 50000, 400000, 5, 0, 0, 65536, 65536}, /* 40,000 */
	        {600, 1000, 10, 10, 2048, 0, 0, 4096, 4096},
	        {600, 1000, 10, 10, 2049, 0, 0, 8192, 8192},
	        {600, 1000, LIMITS_NONE, LIMITS_NONE, 3000, 0, 0, 8192, 8192},
	        {600, 1000, LIMITS_NONE, LIMITS_NONE, 30, 0, 0, 4096, 4096},
	        {5, 10, 10, 10, 0, 3, 0, 8192, 8192}, /* enough to see at once */
	        {5, 10, 10, 10, 100, 3, 7, 0, 0},     /* the gate's, perhaps */
	        {5, 10, 10, 10, 4000, 3, 7, 8192, 8192},
	        {5, 10, 10, 10, 3000, 0, 0, 8192, 8192},
	        /* A clock that jumped, a number that is none. */
	        {600, 1000, UINT64_MAX - 1, UINT64_MAX / 4, 5, 0, 0, 1048576, 1048576},
	        {600, 1000, UINT64_MAX - 1, UINT64_MAX - 1, 5, 0, 0, 4096, 4096},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct seen *s = &cases[i];

		start_portd();
		c->portd.uptime = s->uptime;
		c->portd.accepted = s->accepted;
		c->portd.arrivals_peak = s->arrivals;
		c->portd.accept_pause_us = s->pause_us;
		c->portd.queue_depth_peak = s->peak;
		c->portd.kernel_drops = s->drops;
		c->portd.gate_seconds = s->gate;
		limits_chain_compute(c);
		cr_expect_eq(c->advice.backlog, s->backlog, "case %zu: backlog %lu", i,
		        c->advice.backlog);
		cr_expect_eq(c->advice.somaxconn, s->somaxconn, "case %zu: somaxconn %lu",
		        i, c->advice.somaxconn);
	}
}

Test(ctl_limits, texts_stay_in_their_bounds, .init = start)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;

	/* Names as long as they come, and one that would play with a terminal. */
	memset(c->machine.unit.name, 'u', LIMITS_NAME_MAX - 1);
	set(&c->machine.unit.nofile_hard, 1);
	memset(c->portd.config, 'c', LIMITS_TEXT_MAX - 1);
	(void)strcpy(c->portd.version, "\x1b[31m\"\\");
	memset(c->machine.cgroup_memory.from, 'g', LIMITS_FROM_MAX - 1);
	c->machine.somaxconn.n = LIMITS_NONE;
	c->machine.somaxconn.err = EACCES;
	limits_chain_compute(c);
	for (unsigned json = 0; json < 2; json++) {
		FILE *out = open_memstream(&text, &len);
		cr_assert(out);
		if (json)
			limits_render_json(c, out);
		else
			limits_render_text(c, out);
		cr_assert_eq(fclose(out), 0);
		cr_expect_eq(strlen(text), len);
		cr_expect(!strchr(text, '\x1b'));
		cr_expect(strstr(
		        text, json ? "\"error\":\"EACCES\"" : "Permission denied"));
		if (json)
			cr_expect(strstr(text, "\"version\":\"\\u001b[31m\\\"\\\\\""),
			        "%s", text);
		free(TAKE_PTR(text));
	}
}
