/*
 * limits_machine.h - what this machine allows a process: a snapshot of /proc, /sys and systemd.
 */
#ifndef CTL_LIMITS_MACHINE_H
#define CTL_LIMITS_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No limit, not known, or not there. */
#define LIMITS_NONE     UINT64_MAX
#define LIMITS_FROM_MAX 512
#define LIMITS_NAME_MAX 256

/* A number, and where it was read. */
struct limits_value {
	uint64_t n; /* LIMITS_NONE: no limit ("max", "unlimited"), or err */
	int err;    /* 0, or the errno with which reading it failed */
	char from[LIMITS_FROM_MAX];
};

/* Whose network namespace the net.* values are of. */
enum limits_network {
	LIMITS_NETWORK_SAME,    /* portd's is the caller's */
	LIMITS_NETWORK_ENTERED, /* portd's is another one, and was entered to read them */
	LIMITS_NETWORK_OTHER,   /* the caller's, though portd's is another one */
	LIMITS_NETWORK_UNKNOWN  /* the caller's; which one portd's is may not be seen */
};

/* The service that the process is the main process of, as systemd says. */
struct limits_unit {
	char name[LIMITS_NAME_MAX]; /* "" : none */
	struct limits_value nofile_soft, nofile_hard;
};

struct limits_machine {
	uint64_t
	        pid; /* whose limits these are: portd's if it can be seen, else the caller's */
	bool is_portd;
	unsigned cpus; /* that the caller may use */
	uint64_t page; /* bytes */
	enum limits_network network;
	struct limits_unit unit;

	struct limits_value nofile_soft, nofile_hard;
	struct limits_value nr_open, file_max, file_used;
	struct limits_value memory_total, memory_available; /* bytes */
	struct limits_value cgroup_memory,
	        cgroup_memory_used; /* the least of all groups above */
	struct limits_value cgroup_pids, cgroup_pids_used;
	struct limits_value somaxconn, syn_backlog, syncookies, abort_on_overflow;
	struct limits_value tcp_mem[3], tcp_mem_used; /* pages */
	struct limits_value conntrack_max, conntrack_used;
	struct limits_value port_first, port_last;
	uint64_t ports_reserved; /* of those between the two */
};

/* Reads all of it for process `pid`, portd (LIMITS_NONE: for the caller). root is put before every path: "". What
 * cannot be read is marked with its errno; nothing fails. May move the caller into the network
 * namespace of pid. */
void limits_machine_read(const char *root, uint64_t pid, struct limits_machine *ret);

/* Its parts. /proc/PID/file of the process. Returns path. */
#define LIMITS_PROCESS_MAX 64
char *limits_process_path(const struct limits_machine *machine, const char *file,
        char path[static LIMITS_PROCESS_MAX]);
/* The number `field` (from 0) of the first line of root/path; of the line that starts
 * with `key`, whatever comes before the numbers, if key is not NULL. */
void limits_read(const char *root, const char *path, const char *key, unsigned field,
        struct limits_value *ret);
/* How many of the ports first to last a list as "1000-1009,2000" has. */
uint64_t limits_count_ports(const char *list, uint64_t first, uint64_t last);

/* limits_cgroup.c: the least memory and pids limits of the groups of process pid and of those
 * above, and how much of that is used there. */
void limits_cgroup_read(const char *root, struct limits_machine *machine);
/* The service that the process's group belongs to ("portd.service"), or "". */
void limits_cgroup_unit(const char *root, const struct limits_machine *machine,
        char name[static LIMITS_NAME_MAX]);

/* limits_unit.c: asks systemd, if it runs, for the service of the process. Leaves ret empty if
 * there is none, or if its main process is another one. */
void limits_unit_read(
        const char *root, const struct limits_machine *machine, struct limits_unit *ret);
/* Reads what `systemctl show` printed. Returns whether pid is the main process. */
bool limits_unit_parse(char *text, uint64_t pid, struct limits_unit *ret);

#endif
