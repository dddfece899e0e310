/*
 * memory.h - how much of the machine's memory is left: what the kernel takes for connections
 * (sockets, their queues) is in it, and is not portd's to bound.
 */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Where to read. */
struct memory_paths {
	const char *own;     /* as /proc/self/cgroup */
	const char *mount;   /* as /sys/fs/cgroup */
	const char *meminfo; /* as /proc/meminfo */
	const char
	        *nodes; /* as /sys/devices/system/node, where meminfo is out of sight */
};

extern const struct memory_paths memory_paths;

/* Of what is nearest to its limit: the machine, or a cgroup that this process is in. */
struct memory {
	uint64_t limit, left; /* bytes; what can be taken back from caches is left */
	uint64_t
	        reserve; /* with less than that left, memory is short: memory_reserve(limit) */
	bool of_group; /* a cgroup's limit, not the machine's */
};

/* Returns 0, or -ENOENT: nothing can be read. */
int memory_read(const struct memory_paths *paths, struct memory *ret);
/* A 32nd of the limit, from 16 to 256 MiB, but at most a quarter of it. */
uint64_t memory_reserve(uint64_t limit);
/* Is it short, where it was so, or not, before? It is over with half of the reserve more. */
bool memory_is_short(const struct memory *memory, bool was_short);
/* How long until it may be, ns: when to look again. */
uint64_t memory_pause(const struct memory *memory);

#endif
