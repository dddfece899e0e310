/*
 * test_ctl_machine.c - what «portctl limits» reads: the answer of a portd, and control groups, units
 * and files of an invented /proc.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "ctl/limits.h"

/* Each test is a process of its own. */
static struct limits_machine machine;

static const char answer[] =
        "version 0.2.0\npid 7\nstate open\nlistener.address 127.0.0.1:7777\n"
        "config /etc/my conf\nworkers 2\ntables 1\nfd_table_private 0\nfds 20000\n"
        "fds_per_connection 1\nmax_connections 5\nbound_by max_connections\nconnections "
        "3\n"
        "backlog_configured 10\nbacklog_effective 10\nsomething_new 12\nnonsense\n";

Test(ctl_machine, the_answer_of_a_portd)
{
	char text[sizeof(answer)];
	struct limits_portd p;

	(void)strcpy(text, answer);
	cr_assert_eq(limits_portd_parse(text, &p), 0);
	cr_expect(p.running);
	cr_expect_eq(p.connections, 3);
	cr_expect_str_eq(p.config, "/etc/my conf");
	cr_expect_eq(p.arrivals_peak, LIMITS_NONE);
	cr_expect_eq(p.fds_configured, LIMITS_NONE);
	cr_expect_eq(p.priority_slots, 0);

	/* Without any line that matters it is no portd. */
	static const char *const needed[] = {
	        "pid 7", "workers 2", "fds 20000", "bound_by", "connections 3"};
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		(void)strcpy(text, answer);
		char *at = strstr(text, needed[i]);
		cr_assert(at);
		*at = 'X';
		cr_expect_eq(limits_portd_parse(text, &p), -EINVAL, "%s", needed[i]);
	}
	(void)strcpy(text, answer);
	*strstr(text, "workers 2") = 'w';
	*(strstr(text, "workers 2") + 8) = '0';
	cr_expect_eq(limits_portd_parse(text, &p), -EINVAL, "no workers");
	(void)strcpy(text, answer);
	*(strstr(text, "fds_per_connection 1") + 19) = '0';
	cr_expect_eq(limits_portd_parse(text, &p), -EINVAL, "to be divided by");
	(void)strcpy(text, "HTTP/1.1 400 Bad Request\r\n");
	cr_expect_eq(limits_portd_parse(text, &p), -EINVAL);
}

/* An invented file system; removed at the end. */
static char root[64];

static void make_root(void)
{
	(void)strcpy(root, "/tmp/portd-limits-XXXXXX");
	cr_assert(mkdtemp(root));
}

static void remove_root(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", root);
	cr_expect_eq(system(command), 0);
}

/* Writes root/path, and the directories above it. */
static void put(const char *path, const char *text)
{
	char full[512];

	(void)snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
	        slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		cr_assert(mkdir(full, 0700) == 0 || errno == EEXIST, "%s: %m", full);
		*slash = '/';
	}
	OWN_FILE FILE *f = fopen(full, "we");
	cr_assert(f, "%s: %m", full);
	(void)fputs(text, f);
}

static void expect_value(const struct limits_value *v, uint64_t n, const char *from)
{
	cr_expect_eq(v->err, 0, "%s: %s", v->from, strerror(v->err));
	cr_expect_eq(v->n, n, "%s: %lu", v->from, v->n);
	cr_expect_str_eq(v->from, from);
}

Test(ctl_machine, control_groups, .init = make_root, .fini = remove_root)
{
	machine.pid = 7;

	/* Version 2: the limit of a group above, and a root group without files. */
	put("/proc/7/cgroup", "0::/system.slice/portd.service\n");
	put("/sys/fs/cgroup/system.slice/portd.service/memory.max", "max\n");
	put("/sys/fs/cgroup/system.slice/memory.max", "1048576\n");
	put("/sys/fs/cgroup/system.slice/memory.current", "4096\n");
	put("/sys/fs/cgroup/system.slice/portd.service/pids.max", "33\n");
	put("/sys/fs/cgroup/system.slice/pids.max", "50\n");
	limits_cgroup_read(root, &machine);
	expect_value(&machine.cgroup_memory, 1048576,
	        "/sys/fs/cgroup/system.slice/memory.max");
	expect_value(&machine.cgroup_memory_used, 4096,
	        "/sys/fs/cgroup/system.slice/memory.current");
	expect_value(&machine.cgroup_pids, 33,
	        "/sys/fs/cgroup/system.slice/portd.service/pids.max");

	/* Version 1, with its way to say that there is none. */
	put("/proc/7/cgroup", "9:name=systemd:/\n8:cpu,pids:/a/b\n4:memory:/a\n0::/\n");
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/pids/a/pids.max", "12\n");
	limits_cgroup_read(root, &machine);
	expect_value(&machine.cgroup_memory, LIMITS_NONE,
	        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
	expect_value(&machine.cgroup_pids, 12, "/sys/fs/cgroup/pids/a/pids.max");

	/* Groups that are there and have no such files: no limit. */
	put("/proc/7/cgroup", "0::/x/y\n");
	put("/sys/fs/cgroup/x/y/cgroup.procs", "7\n");
	limits_cgroup_read(root, &machine);
	expect_value(&machine.cgroup_memory, LIMITS_NONE, "/sys/fs/cgroup/x/y");
	put("/proc/7/cgroup", "0::/z\n");
	put("/sys/fs/cgroup/pids.max", "5\n");
	limits_cgroup_read(root, &machine);
	expect_value(&machine.cgroup_pids, 5, "/sys/fs/cgroup/pids.max");

	/* Out of this namespace; no such process. */
	put("/proc/7/cgroup", "0::/../../other\n");
	limits_cgroup_read(root, &machine);
	cr_expect_eq(machine.cgroup_memory.err, ENODATA);
	machine.pid = 8;
	limits_cgroup_read(root, &machine);
	cr_expect_eq(machine.cgroup_pids.err, ENOENT);
	cr_expect_str_eq(machine.cgroup_pids.from, "/proc/8/cgroup");
}

Test(ctl_machine, units, .init = make_root, .fini = remove_root)
{
	static const struct {
		const char *groups, *unit;
	} cases[] = {
	        {"0::/system.slice/portd.service\n", "portd.service"},
	        {"0::/system.slice/system-portd.slice/portd@web.service\n",
	                "portd@web.service"},
	        {"4:memory:/x.service\n1:name=systemd:/system.slice/portd.service\n",
	                "portd.service"},
	        {"0::/user.slice/user-0.slice/session-2.scope\n", ""},
	        {"0::/user.slice/user@1.service/app.slice/run-1.scope\n", ""},
	        {"0::/\n", ""},
	        {"0::/.service\n", ""},
	};
	machine.pid = 7;
	static struct limits_unit unit;
	char name[LIMITS_NAME_MAX], text[128];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put("/proc/7/cgroup", cases[i].groups);
		limits_cgroup_unit(root, &machine, name);
		cr_expect_str_eq(name, cases[i].unit, "case %zu: '%s'", i, name);
	}

	(void)strcpy(text, "MainPID=7\nLimitNOFILE=4096\nLimitNOFILESoft=infinity\nx\n");
	cr_expect(limits_unit_parse(text, 7, &unit));
	cr_expect_eq(unit.nofile_hard.n, 4096);
	cr_expect_eq(unit.nofile_soft.n, LIMITS_NONE);
	(void)strcpy(text, "MainPID=8\nLimitNOFILE=4096\n");
	cr_expect(!limits_unit_parse(text, 7, &unit), "another one's main process");
	(void)strcpy(text, "MainPID=7\n");
	cr_expect(!limits_unit_parse(text, 7, &unit), "no limit was told");
}

Test(ctl_machine, files_that_are_not_as_they_should_be, .init = make_root,
        .fini = remove_root)
{
	struct limits_value v;

	limits_read(root, "/none", NULL, 0, &v);
	cr_expect_eq(v.err, ENOENT);
	cr_expect_eq(v.n, LIMITS_NONE);
	put("/empty", "");
	limits_read(root, "/empty", NULL, 0, &v);
	cr_expect_eq(v.err, ENODATA);
	put("/words", "a -1 99999999999999999999 7");
	limits_read(root, "/words", NULL, 0, &v);
	cr_expect_eq(v.err, EINVAL);
	limits_read(root, "/words", NULL, 1, &v);
	cr_expect_eq(v.err, EINVAL);
	limits_read(root, "/words", NULL, 2, &v);
	cr_expect_eq(v.err, ERANGE);
	limits_read(root, "/words", NULL, 3, &v);
	expect_value(&v, 7, "/words");
	limits_read(root, "/words", NULL, 4, &v);
	cr_expect_eq(v.err, ENODATA);
	limits_read(root, "/words", "b", 0, &v);
	cr_expect_eq(v.err, ENODATA);
	limits_read(root, "", NULL, 0, &v);
	cr_expect_eq(v.err, EISDIR);
}
