/*
 * cpus.c - how many processors there are for this process.
 */
#include "base/cpus.h"

#include <sched.h>
#include <unistd.h>

unsigned cpus_allowed(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	/* More than 1024 CPUs do not fit into the set. */
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (unsigned)n : 1;
}
