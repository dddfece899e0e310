/*
 * limits_slots.c - from descriptors to connections, as portd reckons.
 *
 * portctl stands on other floors than portd's core, so the formula stands here a second time;
 * tests/unit/test_ctl_limits.c holds both against each other on many machines. The figures are
 * those of portd.conf(5).
 */
#include "ctl/limits.h"

#define KEPT_MAIN   UINT64_C(48)
#define KEPT_WORKER UINT64_C(8)
#define LINGER_MAX  UINT64_C(32)
#define WORKERS_MAX UINT64_C(1024)
/* fs.nr_open cannot be more. */
#define NOFILE_MAX UINT64_C(1073741816)
/* Connections are counted in 32 bits. */
#define SLOTS_MAX (UINT64_C(1) << 30)

/* What the main thread keeps; its own table, where it has one, knows every worker. */
static uint64_t kept_for_main(const struct limits_shape *s)
{
	return KEPT_MAIN + (s->is_private ? s->workers : 0);
}

/* Descriptors of one table for `slots` ordinary connections in all. */
static uint64_t table_for(const struct limits_shape *s, uint64_t slots)
{
	uint64_t linger = slots / 16;

	linger = linger < 1 ? 1 : linger > LINGER_MAX ? LINGER_MAX : linger;
	if (s->is_private)
		return KEPT_WORKER + s->workers + linger +
		       ((slots + s->workers - 1) / s->workers + s->priority) * s->cost;
	return kept_for_main(s) + s->workers * (KEPT_WORKER + linger) +
	       (slots + s->priority) * s->cost;
}

uint64_t limits_slots_of_table(const struct limits_shape *s, uint64_t table)
{
	if (table > NOFILE_MAX)
		table = NOFILE_MAX;

	uint64_t step = s->is_private ? s->workers : 1;
	uint64_t fits = 0, too_many = table / s->cost + 1; /* in steps */

	while (too_many - fits > 1) {
		uint64_t middle = fits + (too_many - fits) / 2;

		if (table_for(s, middle * step) <= table)
			fits = middle;
		else
			too_many = middle;
	}
	return fits * step;
}

uint64_t limits_slots_of_fds(const struct limits_shape *s, uint64_t fds, uint64_t nofile)
{
	uint64_t table = fds;

	if (s->is_private)
		table = fds < kept_for_main(s) ? 0
		                               : (fds - kept_for_main(s)) / s->workers;
	/* The main thread's own table has the same RLIMIT_NOFILE. */
	if (nofile < kept_for_main(s))
		return 0;
	return limits_slots_of_table(s, table < nofile ? table : nofile);
}

uint64_t limits_slots_of_memory(uint64_t memory, uint64_t each)
{
	uint64_t slots = memory / each;

	slots = (slots < SLOTS_MAX ? slots : SLOTS_MAX) / 2;
	return slots < 1 ? 1 : slots;
}

uint64_t limits_workers_of_auto(uint64_t fds, uint64_t cpus)
{
	struct limits_shape s = {
	        .workers = cpus < WORKERS_MAX ? cpus : WORKERS_MAX, .cost = 1};

	if (fds > NOFILE_MAX)
		fds = NOFILE_MAX;
	/* Fewer than there are CPUs, until connections get half of what the workers share. */
	while (s.workers > 1 && 2 * limits_slots_of_fds(&s, fds, fds) + KEPT_MAIN < fds)
		s.workers--;
	return s.workers < 1 ? 1 : s.workers;
}
