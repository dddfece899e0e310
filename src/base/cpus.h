/*
 * cpus.h - how many processors there are for this process.
 */
#ifndef BASE_CPUS_H
#define BASE_CPUS_H

/* Those of sched_getaffinity(2); those that are online where these are too many for its set; at least
 * 1. */
unsigned cpus_allowed(void);

#endif
