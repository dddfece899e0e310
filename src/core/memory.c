/*
 * memory.c - see memory.h.
 *
 * Invariant: what cannot be read sets no limit.
 */
#include "core/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/cgroup.h"

#define MIB (UINT64_C(1) << 20)
/* The reserve is such a part of the limit, within these bounds, and never more than a quarter of it: a
 * small container is there to be used. */
#define MEMORY_RESERVE_PART     32
#define MEMORY_RESERVE_MIN      (16 * MIB)
#define MEMORY_RESERVE_MAX      (256 * MIB)
#define MEMORY_RESERVE_PART_MAX 4
/* The kernel may take so much in a second, by a rough guess: connections at 30,000 a second, and what
 * they send. */
#define MEMORY_GROWTH    (256 * MIB)
#define MEMORY_PAUSE_MIN (50 * CLOCK_MSEC)
#define MEMORY_PAUSE_MAX CLOCK_SEC

const struct memory_paths memory_paths = {
        .own = "/proc/self/cgroup",
        .mount = "/sys/fs/cgroup",
        .meminfo = "/proc/meminfo",
        .nodes = "/sys/devices/system/node",
};

/* A name of such a file, before its number. */
struct row {
	const char *name;
	uint64_t *sum;
};

static void add_row(const char *line, const struct row *rows, size_t n, uint64_t unit)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(rows[i].name);
		uint64_t value;
		if (strncmp(line, rows[i].name, len) == 0 &&
		        sscanf(line + len, " %" SCNu64, &value) == 1)
			*rows[i].sum += value * unit;
	}
}

/* Adds what the rows say, each line from behind `skip` on. Returns 0 or -errno. */
static int read_rows(const char *path, const char *skip, const struct row *rows, size_t n,
        uint64_t unit)
{
	OWN_FILE FILE *f = fopen(path, "re");
	char line[256];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		const char *from = strstr(line, skip);
		if (from)
			add_row(from + strlen(skip), rows, n, unit);
	}
	return 0;
}

/* *ret is what is nearest to its limit. */
static void note(struct memory *ret, uint64_t limit, uint64_t left, bool of_group)
{
	struct memory m = {.limit = limit,
	        .left = left,
	        .reserve = memory_reserve(limit),
	        .of_group = of_group};

	if (ret->limit == 0 || m.left * ret->reserve < ret->left * m.reserve)
		*ret = m;
}

static void visit(const char *folder, const struct cgroup_files *files, void *arg)
{
	uint64_t limit, used, cached = 0;
	char path[4352], names[3][64];
	static const char *const caches[] = {
	        "inactive_file", "active_file", "slab_reclaimable"};
	struct row rows[3];

	/* A limit beyond any machine's memory is none: version 1 has no other word for it. */
	if (cgroup_read(folder, files->limit, &limit) < 0 || limit == 0 ||
	        limit > UINT64_MAX / 4 || cgroup_read(folder, files->used, &used) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		(void)snprintf(
		        names[i], sizeof(names[i]), "%s%s ", files->total, caches[i]);
		rows[i] = (struct row){names[i], &cached};
	}
	(void)snprintf(path, sizeof(path), "%s/memory.stat", folder);
	(void)read_rows(path, "", rows, ARRAY_SIZE(rows), 1);
	used = used > cached ? used - cached : 0;
	note(arg, limit, used < limit ? limit - used : 0, true);
}

/* Where /proc shows processes only. The kernel does not add it up for a node. */
static void read_nodes(const char *nodes, uint64_t *total, uint64_t *left)
{
	const struct row rows[] = {{"MemTotal:", total}, {"MemFree:", left},
	        {"Active(file):", left}, {"Inactive(file):", left},
	        {"SReclaimable:", left}};
	char path[4096], skip[32];
	int r = 0;

	for (unsigned i = 0; r == 0; i++) {
		(void)snprintf(path, sizeof(path), "%s/node%u/meminfo", nodes, i);
		(void)snprintf(skip, sizeof(skip), "Node %u ", i);
		r = read_rows(path, skip, rows, ARRAY_SIZE(rows), 1024);
	}
}

int memory_read(const struct memory_paths *paths, struct memory *ret)
{
	uint64_t total = 0, left = 0;
	const struct row rows[] = {{"MemTotal:", &total}, {"MemAvailable:", &left}};

	*ret = (struct memory){0};
	if (read_rows(paths->meminfo, "", rows, ARRAY_SIZE(rows), 1024) < 0)
		read_nodes(paths->nodes, &total, &left);
	if (total > 0)
		note(ret, total, left, false);
	cgroup_each(paths->own, paths->mount, visit, ret);
	return ret->limit > 0 ? 0 : -ENOENT;
}

uint64_t memory_reserve(uint64_t limit)
{
	uint64_t part = limit / MEMORY_RESERVE_PART;
	uint64_t most = limit / MEMORY_RESERVE_PART_MAX;

	if (part < MEMORY_RESERVE_MIN)
		part = MEMORY_RESERVE_MIN;
	if (part > MEMORY_RESERVE_MAX)
		part = MEMORY_RESERVE_MAX;
	return part < most ? part : most;
}

bool memory_is_short(const struct memory *m, bool was_short)
{
	return m->left < (was_short ? m->reserve + m->reserve / 2 : m->reserve);
}

uint64_t memory_pause(const struct memory *m)
{
	uint64_t room = m->left > m->reserve ? m->left - m->reserve : 0;

	if (room >= MEMORY_GROWTH)
		return MEMORY_PAUSE_MAX;
	uint64_t pause = room * CLOCK_SEC / MEMORY_GROWTH;
	return pause < MEMORY_PAUSE_MIN ? MEMORY_PAUSE_MIN : pause;
}
