/*
 * plan.c - see plan.h. Arithmetic only.
 *
 * Invariants: the shares add up to the plan's connections; no source has more than PLAN_PORTS
 * connections over all processes, which are PLAN_PROCESSES_MAX at most.
 */
#include "load/plan.h"

#include <errno.h>

#include "base/own.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

uint64_t plan_part(uint64_t total, uint64_t parts, uint64_t index)
{
	return total / parts + (index < total % parts);
}

/* Equal shares must fit what each process has of the sources. With fewer sources, s, than processes,
 * n: as many processes to each source. */
static uint64_t share_sources(uint64_t n, uint64_t s)
{
	uint64_t each = divide_up(n, s);

	return s * least(each, PLAN_PROCESSES_MAX / s);
}

/* With as many sources or more: a few more processes than n, so that what is left over by rounding
 * matters less; if no number of them will do, the one that leaves the least. */
static uint64_t spread_sources(uint64_t n, uint64_t s, uint64_t connections)
{
	uint64_t best = n;

	/* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): n is 1 or more, and grows. */
	for (; n <= least(s, PLAN_PROCESSES_MAX); n++) {
		if (connections <= PLAN_PORTS * (s / n) * n)
			return n;
		if (s / n * n > s / best * best)
			best = n;
	}
	return best;
}

int plan_make(
        const struct options *options, uint64_t fds, uint64_t cpus, struct plan *ret)
{
	const struct source_range *range = &options->sources;
	struct plan plan = {.connections = options->connections, .fds = fds};

	if (fds <= PLAN_FDS_KEPT)
		return -EMFILE;
	uint64_t table = fds - PLAN_FDS_KEPT;

	if (options->count)
		plan.connections = least(plan.connections, options->count);
	if (plan.connections > range->limit * PLAN_PORTS) {
		plan.connections = range->limit * PLAN_PORTS;
		plan.short_of_sources = true;
	}
	if (plan.connections > PLAN_PROCESSES_MAX * table) {
		plan.connections = PLAN_PROCESSES_MAX * table;
		plan.short_of_processes = true;
	}

	/* Holding is mostly waiting: one process if its table has room. The others are as many
	 * as can run. */
	uint64_t wanted = options->processes;
	if (wanted == 0)
		wanted = options->command == COMMAND_HOLD ? 1 : cpus;
	wanted = most(wanted, divide_up(plan.connections, table));
	wanted = least(wanted, least(plan.connections, PLAN_PROCESSES_MAX));

	/* Without a number of sources: enough for each process's share, which is rounded up. */
	uint64_t n = wanted ? wanted : 1;
	uint64_t each = divide_up(divide_up(plan.connections, n), PLAN_PORTS);
	plan.sources =
	        most(1, range->count ? range->count : least(each * n, range->limit));
	uint64_t s = plan.sources;
	n = n > s ? share_sources(n, s) : spread_sources(n, s, plan.connections);
	uint64_t most_here =
	        least(n > s ? PLAN_PORTS * s : PLAN_PORTS * (s / n) * n, n * table);
	if (plan.connections > most_here) {
		plan.connections = most_here;
		plan.short_of_processes = true;
	}
	plan.processes = n;
	*ret = plan;
	return 0;
}

void plan_share(const struct plan *plan, const struct options *options, uint64_t index,
        struct plan_share *ret)
{
	uint64_t n = plan->processes, s = plan->sources;

	*ret = (struct plan_share){.index = index,
	        .processes = n,
	        .connections = plan_part(plan->connections, n, index),
	        .count =
	                options->count ? plan_part(options->count, n, index) : UINT64_MAX,
	        .sample = plan_part(options->sample, n, index)};
	if (s >= n) {
		ret->first = index;
		ret->step = n;
		ret->sources = plan_part(s, n, index);
		ret->ports = PLAN_PORTS;
	} else {
		/* Several processes have the same source, and a part of its ports each. */
		ret->first = index % s;
		ret->step = 1;
		ret->sources = 1;
		ret->ports = plan_part(PLAN_PORTS, plan_part(n, s, index % s), index / s);
	}
}
