/*
 * limits.h - what the machine allows: from descriptors and memory to a number of slots.
 *
 * limits_probe reads the machine; limits_compute is arithmetic only, so that it can be
 * tested with any machine. Libraries do not log: both hand back what to say.
 *
 *   shared table:   fds = LIMITS_KEPT_MAIN
 *                         + workers * (LIMITS_KEPT_WORKER + linger)
 *                         + slots * fds_per_connection      (+ what is left)
 *   private tables: fds = LIMITS_KEPT_MAIN + workers
 *                         + workers * table                 (+ what is left)
 *                 table = LIMITS_KEPT_WORKER + workers + linger
 *                         + table_slots * fds_per_connection,
 *                         at most the hard RLIMIT_NOFILE
 *   linger              = min(32, slots / 16), at least 1: answered connections that are
 *                         still being closed, a worker
 *
 * Descriptors alone never size anything: the hard RLIMIT_NOFILE is 1,073,741,816 in many
 * containers. Whatever is sized by them is also bound by the memory, at
 * LIMITS_MEMORY_CONNECTION for each connection.
 *
 * With private tables each of them, the main thread's too, has the wake-up descriptors of
 * all workers, each under the same number everywhere: that is the «+ workers» in both. So
 * the hard RLIMIT_NOFILE has to be LIMITS_KEPT_MAIN + workers at least.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include <stdint.h>
#include <stdio.h>

#include "core/config.h"

#define LIMITS_KEPT_MAIN         48U
#define LIMITS_KEPT_WORKER       8U
#define LIMITS_LINGER_MAX        32U
#define LIMITS_MEMORY_CONNECTION UINT64_C(8192)
/* Connections are counted in 32 bits. */
#define LIMITS_SLOTS_MAX (UINT64_C(1) << 30)
/* Of the memory, for buffers of what clients do not take: this part, within these bounds (bytes). */
#define LIMITS_BUFFERS_PART UINT64_C(64)
#define LIMITS_BUFFERS_MIN  (UINT64_C(1) << 20)
#define LIMITS_BUFFERS_MAX  (UINT64_C(64) << 20)

enum limits_bound {
	LIMITS_BOUND_FDS,
	LIMITS_BOUND_MEMORY,
	LIMITS_BOUND_MAX_CONNECTIONS
};

/* What the machine gives. */
struct machine {
	uint64_t nofile_hard; /* RLIMIT_NOFILE; where setrlimit(2) does not take it,
	                         fs.nr_open, or 1048576 */
	uint64_t nofile_soft;
	uint64_t memory; /* bytes: the least of MemTotal and the cgroup's limits */
	unsigned cpus;   /* that this process may use, sched_getaffinity(2) */
};

/* What follows from it for a configuration. */
struct budget {
	unsigned workers;
	unsigned tables;             /* 1 shared, else one a worker */
	unsigned fds_per_connection; /* as the service said */
	uint64_t fds;                /* in all tables together */
	uint64_t
	        table_limit; /* descriptors of one table: the soft limit that is needed */
	uint64_t max_connections; /* slots */
	uint64_t priority_slots;  /* further ones, for priority sources */
	uint64_t fds_slots; /* slots that the descriptors and all of the memory would
	                       allow: those of a dry run */
	enum limits_bound fds_slots_bound; /* which of the two: fds or memory */
	uint64_t most; /* connections that can ever be open, also after any reload */
	uint64_t table_slots; /* slots of one worker's table; shared: max_connections */
	unsigned linger;      /* a worker */
	unsigned buffers;     /* of the pool (pool.h) */
	enum limits_bound bound_by;
};

/* The least of memory (bytes) and the limits of the cgroup that the file `own` names, in
 * the form of /proc/self/cgroup, and of those above it, below the mount point; version 1,
 * 2 or both. What cannot be read sets no limit. */
uint64_t limits_cgroup_memory(const char *own, const char *mount, uint64_t memory);

/* Reads this machine and process. A file that cannot be read (confinement) leaves its
 * limit out. Returns 0 or -errno. */
int limits_probe(struct machine *ret);

/* Returns 0; 1 if the machine cannot give what the configuration asks for: `errors` then
 * has a line for each such key, «PLACE: [section] key: …», with the value asked for, what
 * stands in the way and the values that would work; -errno. `warnings` gets a line for what works but should be
 * known. */
int limits_compute(const struct machine *machine, const struct config *config,
        unsigned fds_per_connection, struct budget *ret, FILE *errors, FILE *warnings);

/* "fds", "memory", "max_connections". */
const char *limits_bound_name(enum limits_bound bound);

#endif
