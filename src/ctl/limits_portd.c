/*
 * limits_portd.c - what a running portd says, or what one with the defaults would say.
 *
 * Invariants: a line that is not known is passed over and one that is missing leaves its number
 * unknown, so that portctl and portd need not be of the same version; without the lines of
 * `needed` it is no portd that has answered.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/own.h"
#include "base/parse.h"
#include "ctl/limits.h"

/* The defaults of portd.conf(5). */
#define DEFAULT_BACKLOG           4096
#define DEFAULT_MEMORY_CONNECTION 8192
#define DEFAULT_WORKERS_MAX       1024
#define DEFAULT_NR_OPEN           1048576

#define AT(field) offsetof(struct limits_portd, field)

static const struct {
	const char *name;
	size_t at;
	bool needed;
} numbers[] = {
        {"pid", AT(pid), true},
        {"uptime_seconds", AT(uptime), false},
        {"workers", AT(workers), true},
        {"tables", AT(tables), true},
        {"fd_table_private", AT(is_private), true},
        {"table_limit", AT(table_limit), false},
        {"fds", AT(fds), true},
        {"fds_configured", AT(fds_configured), false},
        {"fds_in_use", AT(fds_in_use), false},
        {"fds_per_connection", AT(fds_per_connection), true},
        {"max_connections", AT(max_connections), true},
        {"max_connections_configured", AT(max_connections_configured), false},
        {"priority_slots", AT(priority_slots), false},
        {"memory", AT(memory), false},
        {"memory_per_connection", AT(memory_per_connection), false},
        {"nofile_soft", AT(nofile_soft), false},
        {"nofile_hard", AT(nofile_hard), false},
        {"connections", AT(connections), true},
        {"priority_connections", AT(priority_connections), false},
        {"connections_peak", AT(connections_peak), false},
        {"accepted", AT(accepted), false},
        {"backlog_configured", AT(backlog_configured), true},
        {"backlog_effective", AT(backlog_effective), true},
        {"queue_depth", AT(queue_depth), false},
        {"queue_depth_peak", AT(queue_depth_peak), false},
        {"kernel_drops", AT(kernel_drops), false},
        {"gate_seconds", AT(gate_seconds), false},
        {"arrivals_peak", AT(arrivals_peak), false},
        {"accept_pause_us", AT(accept_pause_us), false},
};

static const struct {
	const char *name;
	size_t at, size;
} words[] = {
        {"version", AT(version), LIMITS_WORD_MAX},
        {"state", AT(state), LIMITS_WORD_MAX},
        {"listener.address", AT(address), ADDR_TEXT_MAX},
        {"service", AT(service), LIMITS_WORD_MAX},
        {"bound_by", AT(bound_by), LIMITS_WORD_MAX},
        {"config", AT(config), LIMITS_TEXT_MAX},
};

static uint64_t *number_of(struct limits_portd *p, size_t i)
{
	return (uint64_t *)(void *)((char *)p + numbers[i].at);
}

static void take_line(struct limits_portd *p, const char *name, const char *value)
{
	static const char place[] = "place.";

	if (strncmp(name, place, strlen(place)) == 0)
		limits_place_take(p, name + strlen(place), value);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (strcmp(name, numbers[i].name) == 0)
			(void)parse_uint(value, number_of(p, i));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(name, words[i].name) == 0)
			(void)snprintf(
			        (char *)p + words[i].at, words[i].size, "%s", value);
}

static void forget_numbers(struct limits_portd *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		*number_of(p, i) = LIMITS_NONE;
}

int limits_portd_parse(char *text, struct limits_portd *ret)
{
	struct limits_portd p = {.running = true, .config = LIMITS_CONFIG_DEFAULT};
	char *rest = NULL;

	forget_numbers(&p);
	for (char *line = strtok_r(text, "\n", &rest); line;
	        line = strtok_r(NULL, "\n", &rest)) {
		char *blank = strchr(line, ' ');

		if (!blank)
			continue;
		*blank = '\0';
		take_line(&p, line, blank + 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].needed && *number_of(&p, i) == LIMITS_NONE)
			return -EINVAL;
	if (p.workers < 1 || p.workers > DEFAULT_WORKERS_MAX ||
	        p.fds_per_connection < 1 || !*p.bound_by)
		return -EINVAL;
	if (p.priority_slots == LIMITS_NONE)
		p.priority_slots = 0;
	*ret = p;
	return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void limits_portd_assume(const struct limits_machine *m, struct limits_portd *ret)
{
	struct limits_portd p = {.service = "tuple", .config = LIMITS_CONFIG_DEFAULT};
	uint64_t nr_open = m->nr_open.err ? DEFAULT_NR_OPEN : m->nr_open.n;

	forget_numbers(&p);
	p.priority_slots = p.connections = p.is_private = 0;
	p.tables = p.fds_per_connection = 1;
	p.fds = p.table_limit = p.nofile_hard = least(m->nofile_hard.n, nr_open);
	p.workers = limits_workers_of_auto(p.fds, m->cpus);
	p.memory = least(m->memory_total.n, m->cgroup_memory.n);
	p.memory_per_connection = DEFAULT_MEMORY_CONNECTION;
	p.backlog_configured = DEFAULT_BACKLOG;
	p.backlog_effective = least(DEFAULT_BACKLOG, m->somaxconn.n);

	struct limits_shape shape = {.workers = p.workers, .cost = 1};
	uint64_t by_fds = limits_slots_of_fds(&shape, p.fds, p.fds);
	uint64_t by_memory = p.memory == LIMITS_NONE ? LIMITS_NONE
	                                             : limits_slots_of_memory(p.memory,
	                                                       DEFAULT_MEMORY_CONNECTION);

	p.max_connections = least(by_fds, by_memory);
	(void)snprintf(p.bound_by, sizeof(p.bound_by), "%s",
	        by_memory < by_fds ? "memory" : "fds");
	*ret = p;
}
