/*
 * limits_machine.c - what this machine allows a process: a snapshot of /proc and /sys.
 *
 * Invariants: nothing here fails; a value that could not be read says with which errno, and
 * where. Values of the whole machine are read before the network namespace is changed, for
 * another one does not show them (net.ipv4.tcp_mem).
 */
#include "ctl/limits_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/own.h"
#include "base/parse.h"

/* Kilobytes to bytes. */
static void read_memory(const char *root, const char *key, struct limits_value *ret)
{
	limits_read(root, "/proc/meminfo", key, 0, ret);
	if (ret->n != LIMITS_NONE)
		ret->n *= 1024;
}

uint64_t limits_count_ports(const char *list, uint64_t first, uint64_t last)
{
	OWN_MEM char *text = strdup(list);
	char *rest = NULL;
	uint64_t n = 0;

	for (char *range = text ? strtok_r(text, ", \t\n", &rest) : NULL; range;
	        range = strtok_r(NULL, ", \t\n", &rest)) {
		char *dash = strchr(range, '-');
		uint64_t low = 0, high = 0;

		if (dash)
			*dash = '\0';
		if (parse_uint(range, &low) < 0 ||
		        parse_uint(dash ? dash + 1 : range, &high) < 0)
			continue;
		if (low < first)
			low = first;
		if (high > last)
			high = last;
		if (low <= high)
			n += high - low + 1;
	}
	return n;
}

static void read_ports(const char *root, struct limits_machine *m)
{
	char path[256];
	OWN_MEM char *line = NULL;
	size_t size = 0;

	limits_read(
	        root, "/proc/sys/net/ipv4/ip_local_port_range", NULL, 0, &m->port_first);
	limits_read(
	        root, "/proc/sys/net/ipv4/ip_local_port_range", NULL, 1, &m->port_last);
	(void)snprintf(
	        path, sizeof(path), "%s/proc/sys/net/ipv4/ip_local_reserved_ports", root);
	OWN_FILE FILE *f = fopen(path, "re");
	if (f && getline(&line, &size, f) > 0 && !m->port_first.err && !m->port_last.err)
		m->ports_reserved =
		        limits_count_ports(line, m->port_first.n, m->port_last.n);
}

/* What belongs to a network namespace. */
static void read_network(const char *root, struct limits_machine *m)
{
	limits_read(root, "/proc/sys/net/core/somaxconn", NULL, 0, &m->somaxconn);
	limits_read(
	        root, "/proc/sys/net/ipv4/tcp_max_syn_backlog", NULL, 0, &m->syn_backlog);
	limits_read(root, "/proc/sys/net/ipv4/tcp_syncookies", NULL, 0, &m->syncookies);
	limits_read(root, "/proc/sys/net/ipv4/tcp_abort_on_overflow", NULL, 0,
	        &m->abort_on_overflow);
	limits_read(root, "/proc/sys/net/netfilter/nf_conntrack_max", NULL, 0,
	        &m->conntrack_max);
	limits_read(root, "/proc/sys/net/netfilter/nf_conntrack_count", NULL, 0,
	        &m->conntrack_used);
	read_ports(root, m);
}

/* What belongs to the machine. */
static void read_whole(const char *root, struct limits_machine *m)
{
	limits_read(root, "/proc/sys/fs/nr_open", NULL, 0, &m->nr_open);
	limits_read(root, "/proc/sys/fs/file-max", NULL, 0, &m->file_max);
	limits_read(root, "/proc/sys/fs/file-nr", NULL, 0, &m->file_used);
	read_memory(root, "MemTotal:", &m->memory_total);
	read_memory(root, "MemAvailable:", &m->memory_available);
	for (unsigned i = 0; i < 3; i++)
		limits_read(root, "/proc/sys/net/ipv4/tcp_mem", NULL, i, &m->tcp_mem[i]);
}

/* Finds out whose namespace the next reads are of; enters that of the process where this may be
 * done, which takes root. */
static enum limits_network enter_network(const char *root, const struct limits_machine *m)
{
	char file[LIMITS_PROCESS_MAX], path[256], own[256];
	struct stat theirs, ours;

	(void)snprintf(
	        path, sizeof(path), "%s%s", root, limits_process_path(m, "ns/net", file));
	(void)snprintf(own, sizeof(own), "%s/proc/self/ns/net", root);
	if (stat(own, &ours) < 0 || stat(path, &theirs) < 0)
		return m->pid == LIMITS_NONE ? LIMITS_NETWORK_SAME
		                             : LIMITS_NETWORK_UNKNOWN;
	if (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
		return LIMITS_NETWORK_SAME;

	OWN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && setns(fd, CLONE_NEWNET) == 0 ? LIMITS_NETWORK_ENTERED
	                                               : LIMITS_NETWORK_OTHER;
}

void limits_machine_read(const char *root, uint64_t pid, struct limits_machine *ret)
{
	struct limits_machine *m = ret;
	char path[LIMITS_PROCESS_MAX];

	*m = (struct limits_machine){.pid = pid, .cpus = cpus_allowed()};
	limits_process_path(m, "limits", path);
	limits_read(root, path, "Max open files", 0, &m->nofile_soft);
	limits_read(root, path, "Max open files", 1, &m->nofile_hard);
	m->is_portd = pid != LIMITS_NONE && !m->nofile_hard.err;
	limits_read(root, "/proc/self/net/sockstat", "TCP:", 9, &m->tcp_mem_used);
	read_whole(root, m);
	limits_cgroup_read(root, m);
	if (m->is_portd)
		limits_unit_read(root, m, &m->unit);
	m->network = enter_network(root, m);
	read_network(root, m);
}
