/*
 * plan.h - how many processes, which share of the connections each of them has, and which
 * source addresses: each process has a descriptor table of its own, and each source address
 * carries only so many ports.
 *
 * Past half of the ephemeral ports from one address to one target connect(2) has to search
 * for a free one, and slows down a hundredfold (measured: from 28,000/s to 200/s at 14,116);
 * so no address is given more than PLAN_PORTS.
 */
#ifndef LOAD_PLAN_H
#define LOAD_PLAN_H

#include <stdint.h>

#include "load/options.h"

#define PLAN_PORTS 9000U
/* Descriptors that a process needs beside its connections. */
#define PLAN_FDS_KEPT      16U
#define PLAN_PROCESSES_MAX 4096U

struct plan {
	uint64_t
	        connections; /* at once, over all: what was asked, or what the sources carry */
	uint64_t processes;
	uint64_t sources;      /* in all */
	uint64_t fds;          /* RLIMIT_NOFILE of each process */
	bool short_of_sources; /* fewer connections than were asked */
	bool short_of_processes;
};

/* What process number `index` does. Its sources are first, first + step, first + 2 * step …
 * of the range: no two processes have one in common while there are as many sources as
 * processes. */
struct plan_share {
	uint64_t index, processes;
	uint64_t connections;
	uint64_t count; /* of --count; UINT64_MAX if that is not set */
	uint64_t sample;
	uint64_t first, step, sources;
	uint64_t ports; /* that it may have of each source at once */
};

/* fds: the hard RLIMIT_NOFILE; cpus: those that this process may use. Returns 0, or -EMFILE
 * if fds leave no connection. */
int plan_make(
        const struct options *options, uint64_t fds, uint64_t cpus, struct plan *ret);

/* The share of process index, which is below plan->processes. */
void plan_share(const struct plan *plan, const struct options *options, uint64_t index,
        struct plan_share *ret);

/* Which share of total falls to part number index of parts: they differ by one at most. */
uint64_t plan_part(uint64_t total, uint64_t parts, uint64_t index);

#endif
