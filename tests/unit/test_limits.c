/*
 * test_limits.c - from descriptors and memory to slots: on invented machines, against a
 * formula written a second time here, and against what the refusals themselves advise.
 */
#include <criterion/criterion.h>

#include <ftw.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/own.h"
#include "core/limits.h"

#define PLENTY (UINT64_C(1) << 50)

/* What the last computation said. */
static char errors_text[2048], warnings_text[2048];

/* One computation. */
struct outcome {
	int r;
	struct budget b;
	const char *errors, *warnings; /* until the next one */
};

static struct outcome compute(
        const struct machine *m, const struct config *c, unsigned cost)
{
	struct outcome o = {.r = -1, .errors = errors_text, .warnings = warnings_text};
	OWN_FILE FILE *errors = fmemopen(errors_text, sizeof(errors_text), "w");
	OWN_FILE FILE *warnings = fmemopen(warnings_text, sizeof(warnings_text), "w");

	cr_assert(errors && warnings);
	errors_text[0] = warnings_text[0] = '\0';
	o.r = limits_compute(m, c, cost, &o.b, errors, warnings);
	(void)fflush(errors);
	(void)fflush(warnings);
	return o;
}

static uint64_t linger_of(uint64_t slots)
{
	return slots / 16 < 1 ? 1 : slots / 16 > 32 ? 32 : slots / 16;
}

/* Do so many slots fit? limits.h, once more, in the form of the question. */
static bool fits(uint64_t fds, uint64_t hard, uint64_t workers, bool private,
        uint64_t cost, uint64_t slots)
{
	if (!private)
		return 48 + workers * (8 + linger_of(slots)) + slots * cost <=
		       (fds < hard ? fds : hard);
	/* Main's own table has a wake-up for each worker, too. */
	uint64_t main_keeps = 48 + workers;
	uint64_t table = fds < main_keeps ? 0 : (fds - main_keeps) / workers;

	if (table > hard)
		table = hard;
	return main_keeps <= hard &&
	       8 + workers + linger_of(slots) + slots / workers * cost <= table;
}

Test(limits, the_designs_own_machine)
{
	struct machine m = {20000, 1024, UINT64_C(24) << 30, 2};
	struct config c = {.fd_table = CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 0);
	cr_assert_eq(o.b.workers, 2);
	cr_assert_eq(o.b.tables, 1);
	cr_assert_eq(o.b.fds, 20000);
	cr_assert_eq(o.b.table_limit, 20000);
	cr_assert_eq(o.b.linger, 32);
	cr_assert_eq(o.b.max_connections, 20000 - 48 - 2 * (8 + 32));
	cr_assert_eq(o.b.table_slots, o.b.max_connections);
	cr_assert_eq(o.b.bound_by, LIMITS_BOUND_FDS);
	cr_assert_str_eq(o.errors, "");
	cr_assert_str_eq(o.warnings, "");

	c.fd_table = CONFIG_FD_TABLE_PRIVATE;
	c.workers = 56;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0);
	cr_assert_eq(o.b.tables, 56);
	cr_assert_eq(o.b.fds, 56 * 20000);
	cr_assert_eq(o.b.table_limit, (56 * 20000 - 48 - 56) / 56);
	cr_assert_eq(o.b.table_slots, o.b.table_limit - 8 - 56 - 32);
	cr_assert_eq(o.b.max_connections, 56 * o.b.table_slots);
	cr_assert_geq(o.b.max_connections, 1000000);
}

/* One shape of machine and configuration: the slots fit, and a step more would not. */
static void assert_largest(
        uint64_t fds, uint64_t hard, uint64_t workers, bool private, unsigned cost)
{
	struct machine m = {hard, hard, PLENTY, 4};
	struct config c = {.workers = workers,
	        .fds = fds,
	        .fd_table = private ? CONFIG_FD_TABLE_PRIVATE : CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, cost);
	uint64_t step = private ? workers : 1, slots = o.b.max_connections;

	if (fds > hard * step) {
		cr_assert_eq(o.r, 1);
		return;
	}
	if (!fits(fds, hard, workers, private, cost, step)) {
		cr_assert_eq(o.r, 1, "%lu fds, %lu workers, cost %u", fds, workers, cost);
		return;
	}
	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert(fits(fds, hard, workers, private, cost, slots),
	        "%lu slots do not fit: %lu fds of %lu, %lu workers, cost %u", slots, fds,
	        hard, workers, cost);
	cr_assert(!fits(fds, hard, workers, private, cost, slots + step),
	        "more than %lu slots fit: %lu fds of %lu, %lu workers, cost %u", slots,
	        fds, hard, workers, cost);
	cr_assert_eq(o.b.linger, linger_of(slots));
	cr_assert_eq(o.b.table_slots, slots / step);
	cr_assert_leq(o.b.table_limit, hard);
	cr_assert_geq(o.b.table_limit, private ? 48 + workers : 48);
	cr_assert_eq(o.b.fds, fds);
}

Test(limits, slots_are_the_largest_number_that_fits)
{
	/* Every small number of descriptors, where linger's steps are. */
	for (uint64_t fds = 64; fds < 1500; fds++)
		for (uint64_t workers = 1; workers <= 5; workers += 2) {
			assert_largest(fds, 1024, workers, false, 1);
			assert_largest(fds, 300, workers, true, 1);
			assert_largest(fds, 300, workers, true, 3);
		}
	srandom(20);
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t hard = 48 + (uint64_t)random() % 100000;
		uint64_t workers = 1 + (uint64_t)random() % (i % 2 ? 8 : 1024);
		bool private = random() % 2;
		uint64_t fds =
		        64 + (uint64_t)random() % (hard * (private ? workers : 1) + 10);

		assert_largest(fds, hard, workers, private, 1 + (unsigned)random() % 4);
	}
}

Test(limits, memory_binds)
{
	/* 64 MiB: half of it at 8 KiB is 4096 connections. */
	struct machine m = {20000, 20000, UINT64_C(64) << 20, 2};
	struct config c = {.fd_table = CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 0);
	cr_assert_eq(o.b.max_connections, 4096);
	cr_assert_eq(o.b.bound_by, LIMITS_BOUND_MEMORY);
	c.fd_table = CONFIG_FD_TABLE_PRIVATE;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.b.max_connections, 4096);
	cr_assert_eq(o.b.table_slots, 4096, "one worker may have all of them");

	c.max_connections = 4096;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0);
	cr_assert_str_eq(o.warnings, "");
	cr_assert_eq(o.b.bound_by, LIMITS_BOUND_MAX_CONNECTIONS);
	c.max_connections = 4097;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0);
	cr_assert_eq(o.b.max_connections, 4097);
	cr_assert(
	        strstr(o.warnings, "[budget] max_connections: 4097 "), "%s", o.warnings);
	cr_assert(strstr(o.warnings, "at most 4096 "), "%s", o.warnings);
	c.max_connections = 8192;
	cr_assert_eq(compute(&m, &c, 1).r, 0);
	c.max_connections = 8193;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	cr_assert(
	        strstr(o.errors, "[budget] max_connections: 8193 asked"), "%s", o.errors);
	cr_assert(strstr(o.errors, "use max_connections <= 8192\n"), "%s", o.errors);
	m.memory = 4096;
	c.max_connections = CONFIG_AUTO;
	cr_assert_eq(compute(&m, &c, 1).b.max_connections, 1, "never none");
}

/* The number after a phrase of an advice. */
static uint64_t advised(const char *errors, const char *phrase)
{
	const char *p = strstr(errors, phrase);

	cr_assert(p, "no '%s' in: %s", phrase, errors);
	return strtoull(p + strlen(phrase), NULL, 10);
}

Test(limits, fds_above_the_machines_are_refused_with_values_that_work)
{
	struct machine m = {20000, 1024, PLENTY, 2};
	struct config c = {.fds = 50000, .fd_table = CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 1);
	cr_assert_str_eq(o.errors,
	        "[budget] fds: 50000 asked, but one shared table holds at most "
	        "20000 (hard RLIMIT_NOFILE 20000); use fds <= 20000, or "
	        "[workers] fd_table = private with [workers] count >= 3, or "
	        "raise LimitNOFILE= to 50000\n");
	c.fds = 20000;
	cr_assert_eq(compute(&m, &c, 1).r, 0);
	c.fds = 20001;
	cr_assert_eq(compute(&m, &c, 1).r, 1);
	c = (struct config){
	        .fds = 50000, .fd_table = CONFIG_FD_TABLE_PRIVATE, .workers = 3};
	cr_assert_eq(compute(&m, &c, 1).r, 0);
	c.workers = 2;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	cr_assert_eq(advised(o.errors, "use fds <= "), 40000);
	cr_assert_eq(advised(o.errors, "[workers] count >= "), 3);
	m.nofile_hard = advised(o.errors, "LimitNOFILE= to ");
	cr_assert_eq(compute(&m, &c, 1).r, 0);
}

Test(limits, fds_too_few_for_one_slot_are_refused_with_values_that_work)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine m = {20000, 1024, PLENTY, 4};
		struct config c = {.fds = 150,
		        .workers = 16,
		        .fd_table = i ? CONFIG_FD_TABLE_PRIVATE : CONFIG_FD_TABLE_SHARED};
		struct outcome o = compute(&m, &c, 2);

		cr_assert_eq(o.r, 1);
		cr_assert(strstr(o.errors, "[budget] fds: 150 asked"), "%s", o.errors);
		uint64_t workers = advised(o.errors, "[workers] count <= ");

		c.fds = advised(o.errors, "fds >= ");
		o = compute(&m, &c, 2);
		cr_assert_eq(o.r, 0, "%s", o.errors);
		cr_assert_eq(o.b.max_connections, i ? 16 : 1);
		c.fds--;
		cr_assert_eq(compute(&m, &c, 2).r, 1);
		c.fds = 150;
		c.workers = workers;
		cr_assert_eq(compute(&m, &c, 2).r, 0);
		c.workers++;
		cr_assert_eq(compute(&m, &c, 2).r, 1);

		/* The machine itself has too few. */
		c = (struct config){.workers = 16, .fd_table = c.fd_table};
		m.nofile_hard = 33 - i * 10;
		o = compute(&m, &c, 2);
		cr_assert_eq(o.r, 1);
		m.nofile_hard = advised(o.errors, "LimitNOFILE= of at least ");
		cr_assert_eq(compute(&m, &c, 2).r, 0);
	}
}

Test(limits, max_connections_above_what_fds_allow_are_refused_with_values_that_work)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine m = {20000, 1024, PLENTY, 3};
		struct config c = {.fds = 3000,
		        .max_connections = 9000,
		        .fd_table = i ? CONFIG_FD_TABLE_PRIVATE : CONFIG_FD_TABLE_SHARED};
		struct outcome o = compute(&m, &c, 2);

		cr_assert_eq(o.r, 1);
		cr_assert(strstr(o.errors, "[budget] max_connections: 9000 asked"), "%s",
		        o.errors);
		uint64_t fds = advised(o.errors, ", or fds >= ");

		c.max_connections = advised(o.errors, "max_connections <= ");
		cr_assert_eq(compute(&m, &c, 2).r, 0);
		c.max_connections++;
		cr_assert_eq(compute(&m, &c, 2).r, 1);
		c.max_connections = 9000;
		c.fds = fds;
		o = compute(&m, &c, 2);
		cr_assert_eq(o.r, 0, "%s", o.errors);
		cr_assert_eq(o.b.max_connections, 9000);
		c.fds--;
		cr_assert_eq(compute(&m, &c, 2).r, 1);

		/* More than the machine has. */
		c.fds = CONFIG_AUTO;
		c.max_connections = 508000;
		o = compute(&m, &c, 2);
		cr_assert_eq(o.r, 1);
		uint64_t workers = advised(o.errors, "[workers] count >= ");
		uint64_t limit = advised(o.errors, "raise LimitNOFILE= to ");

		m.nofile_hard = limit;
		cr_assert_eq(compute(&m, &c, 2).r, 0);
		m.nofile_hard = 20000;
		c.fd_table = CONFIG_FD_TABLE_PRIVATE;
		c.workers = workers;
		cr_assert_eq(compute(&m, &c, 2).r, 0);
		c.workers--;
		cr_assert_eq(compute(&m, &c, 2).r, 1);
	}
}

Test(limits, both_keys_can_be_wrong_at_once)
{
	struct machine m = {20000, 1024, UINT64_C(1) << 30, 2};
	struct config c = {.fds = 50000, .max_connections = 200000};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 1);
	cr_assert(strstr(o.errors, "[budget] fds: 50000 "), "%s", o.errors);
	cr_assert(strstr(o.errors, "[budget] max_connections: 200000 "), "%s", o.errors);
}

/* More workers than connections: what main keeps is what matters. */
Test(limits, many_workers_are_refused_and_granted_with_values_that_work)
{
	struct machine m = {660, 1024, PLENTY, 2};
	struct config c = {.workers = 1000, .fd_table = CONFIG_FD_TABLE_PRIVATE};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 1);
	c.workers = advised(o.errors, "[workers] count <= ");
	cr_assert_eq(c.workers, 660 - 48, "all of main's table");
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert_eq(o.b.table_limit, 660);
	c.workers++;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	m.nofile_hard = advised(o.errors, "LimitNOFILE= of at least ");
	cr_assert_eq(m.nofile_hard, 661);
	cr_assert_eq(compute(&m, &c, 1).r, 0);
	/* A small budget of large tables is main's limit all the same. */
	c.fds = 613 * (8 + 613 + 32 + 1) + 48 + 613;
	m.nofile_hard = 655;
	m.nofile_hard = advised(compute(&m, &c, 1).errors, "raise LimitNOFILE= to ");
	cr_assert_eq(m.nofile_hard, 48 + 613);
	o = compute(&m, &c, 1);
	cr_assert_eq(o.b.max_connections, 613);
	cr_assert_eq(o.b.table_limit, 48 + 613);
	c.fds--;
	cr_assert_eq(compute(&m, &c, 1).r, 1);
	/* What is advised against too few descriptors has room for main, too. */
	m.nofile_hard = 100;
	c = (struct config){.fds = 50000};
	cr_assert_not(strstr(compute(&m, &c, 1).errors, "private"), "%s", errors_text);
	c = (struct config){.fds = 200, .fd_table = CONFIG_FD_TABLE_PRIVATE};
	m.nofile_hard = 60;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	c.workers = advised(o.errors, "[workers] count >= ");
	cr_assert_eq(compute(&m, &c, 1).r, 0, "%s", o.errors);
}

/* A directory of files that stand for a cgroup's, and a file that stands for the process's. */
static char tree[] = "/tmp/portd-test-limits-XXXXXX";

static const char *const branches[] = {
        "m", "m/a", "m/a/b", "m/memory", "m/memory/a", "m/unified", "m/unified/a"};

static void grow_tree(void)
{
	cr_assert(mkdtemp(tree));
	cr_assert_eq(chdir(tree), 0);
	for (size_t i = 0; i < ARRAY_SIZE(branches); i++)
		cr_assert_eq(mkdir(branches[i], 0755), 0);
}

static void put(const char *path, const char *text)
{
	OWN_FILE FILE *f = fopen(path, "w");

	cr_assert(f, "%s: %m", path);
	cr_assert_geq(fputs(text, f), 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

static void fell_tree(void)
{
	cr_assert_eq(chdir("/"), 0);
	(void)nftw(tree, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The limit for a process of which /proc/self/cgroup says this, of 1000000 bytes. */
static uint64_t limit_of(const char *own)
{
	put("own", own);
	return limits_cgroup_memory("own", "m", 1000000);
}

Test(limits, cgroup_version_2, .init = grow_tree, .fini = fell_tree)
{
	put("m/a/b/memory.max", "max\n");
	put("m/a/memory.max", "500000\n");
	cr_assert_eq(limit_of("0::/a/b\n"), 500000, "the one above binds");
	put("m/a/b/memory.max", "400000\n");
	cr_assert_eq(limit_of("0::/a/b\n"), 400000);
	cr_assert_eq(limit_of("0::/a/b"), 400000, "without the newline");
	cr_assert_eq(limit_of("0::/a/b (deleted)\n"), 500000);
	cr_assert_eq(limit_of("0::/\n"), 1000000, "the machine's own has no limit");
	put("m/a/b/memory.max", "2000000\n");
	put("m/a/memory.max", "2000000\n");
	cr_assert_eq(limit_of("0::/a/b\n"), 1000000, "more than there is");
	put("m/a/memory.max", "0\n");
	put("m/a/b/memory.max", "many\n");
	cr_assert_eq(limit_of("0::/a/b\n"), 1000000, "nothing to be had from these");
	cr_assert_eq(limits_cgroup_memory("none", "m", 77), 77);
}

Test(limits, cgroup_in_a_container, .init = grow_tree, .fini = fell_tree)
{
	put("m/memory.max", "300000\n");
	cr_assert_eq(limit_of("0::/\n"), 300000, "with a namespace of its own");
	cr_assert_eq(limit_of("0::/docker/0123\n"), 300000, "with the host's path");
	/* The process is outside of the namespace: those limits are not its own. */
	cr_assert_eq(limit_of("0::/..\n"), 1000000);
	cr_assert_eq(limit_of("0::/../../x\n"), 1000000);
}

Test(limits, cgroup_version_1, .init = grow_tree, .fini = fell_tree)
{
	put("m/memory/a/memory.limit_in_bytes", "600000\n");
	put("m/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("m/unified/a/memory.max", "700000\n");
	cr_assert_eq(
	        limit_of("5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n"), 600000);
	cr_assert_eq(limit_of("5:cpu,cpuacct:/a\n1:name=systemd:/a\n"), 1000000);
	cr_assert_eq(limit_of("0::/a\n"), 700000, "both versions side by side");
	cr_assert_eq(limit_of("4:memory:/a\n0::/a\n"), 600000);
	cr_assert_eq(
	        limit_of("4\n4:memory\n\n:::\n4:memory:\n"), 1000000, "no such lines");
}

Test(limits, this_machine)
{
	struct machine m;
	struct rlimit lim;
	struct sysinfo info;

	cr_assert_eq(limits_probe(&m), 0);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
	cr_assert_eq(sysinfo(&info), 0);
	cr_assert_eq(m.nofile_soft, lim.rlim_cur);
	if (lim.rlim_max != RLIM_INFINITY)
		cr_assert_eq(m.nofile_hard, lim.rlim_max);
	cr_assert_geq(m.cpus, 1);
	cr_assert_leq(m.cpus, sysconf(_SC_NPROCESSORS_CONF));
	cr_assert_leq(m.memory, (uint64_t)info.totalram * info.mem_unit);
	cr_assert_geq(m.memory, 1U << 20);
}

/* As under systemd's ProcSubset=pid: no /proc/meminfo, no /proc/sys. */
Test(limits, this_machine_where_proc_shows_processes_only)
{
	struct machine before, confined;

	cr_assert_eq(limits_probe(&before), 0);
	if (unshare(CLONE_NEWNS) < 0 ||
	        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	        mount("proc", "/proc", "proc", 0, "subset=pid") < 0)
		cr_skip_test("no mounts of its own here");
	cr_assert_neq(access("/proc/meminfo", F_OK), 0);
	cr_assert_neq(access("/proc/sys", F_OK), 0);
	cr_assert_eq(limits_probe(&confined), 0);
	cr_assert_eq(confined.memory, before.memory);
	cr_assert_eq(confined.nofile_hard, before.nofile_hard);
	cr_assert_eq(confined.cpus, before.cpus);
}

Test(limits, names_of_what_binds)
{
	cr_assert_str_eq(limits_bound_name(LIMITS_BOUND_FDS), "fds");
	cr_assert_str_eq(limits_bound_name(LIMITS_BOUND_MEMORY), "memory");
	cr_assert_str_eq(
	        limits_bound_name(LIMITS_BOUND_MAX_CONNECTIONS), "max_connections");
}
