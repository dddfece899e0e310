/*
 * test_memory_left.c - how much memory is left, from files of the test's own, and the pool of buffers.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/memory.h"
#include "core/pool.h"

#define MIB (UINT64_C(1) << 20)

static char dir[] = "/tmp/portd-memory-XXXXXX";
static char own[64], mount[64], meminfo[64], nodes[64];
static const struct memory_paths paths = {own, mount, meminfo, nodes};

static void setup(void)
{
	cr_assert_not_null(mkdtemp(dir));
	(void)snprintf(own, sizeof(own), "%s/cgroup", dir);
	(void)snprintf(mount, sizeof(mount), "%s/mount", dir);
	(void)snprintf(meminfo, sizeof(meminfo), "%s/meminfo", dir);
	(void)snprintf(nodes, sizeof(nodes), "%s/nodes", dir);
}

static void teardown(void)
{
	char command[128];
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(memory_left, .init = setup, .fini = teardown);

/* Writes dir/name, and makes the folders on the way. */
static void put(const char *name, const char *text)
{
	char path[256];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *p = path + sizeof(dir); (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		(void)mkdir(path, 0700);
	}
	OWN_FILE FILE *f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs(text, f);
}

Test(memory_left, nothing_to_read_is_no_limit)
{
	struct memory m;
	cr_assert_eq(memory_read(&paths, &m), -ENOENT);
	put("cgroup", "0::/a\n");
	put("mount/a/memory.max", "max\n");
	put("mount/a/memory.current", "1\n");
	cr_assert_eq(memory_read(&paths, &m), -ENOENT);
}

Test(memory_left, the_machine)
{
	struct memory m;
	put("meminfo", "MemTotal:  1048576 kB\nMemFree: 1 kB\nMemAvailable: 51200 kB\n");
	cr_assert_eq(memory_read(&paths, &m), 0);
	cr_assert_eq(m.limit, 1024 * MIB);
	cr_assert_eq(m.left, 50 * MIB);
	cr_assert_eq(m.reserve, 32 * MIB);
	cr_assert_not(m.of_group);
}

/* As in the unit, where /proc has no such file. */
Test(memory_left, the_machine_by_its_nodes)
{
	struct memory m;
	put("nodes/node0/meminfo",
	        "Node 0 MemTotal: 1048576 kB\nNode 0 MemFree: 1024 kB\n"
	        "Node 0 Active(file): 2048 kB\nNode 0 Active: 999999 kB\n"
	        "Node 0 Inactive(file): 4096 kB\nNode 0 SReclaimable: 8192 kB\n");
	put("nodes/node1/meminfo",
	        "Node 1 MemTotal: 1048576 kB\nNode 1 MemFree: 1024 kB\n");
	cr_assert_eq(memory_read(&paths, &m), 0);
	cr_assert_eq(m.limit, 2048 * MIB);
	cr_assert_eq(m.left, 16 * MIB);
}

Test(memory_left, what_is_nearest_to_its_limit_counts)
{
	struct memory m;
	put("meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n");
	put("cgroup", "4:memory:/old\n0::/slice/unit\n");
	put("mount/slice/unit/memory.max", "max\n");
	put("mount/slice/memory.max", "536870912\n");
	put("mount/slice/memory.current", "536870912\n");
	put("mount/slice/memory.stat",
	        "anon 1\nactive_file 1048576\ninactive_file 2097152\n"
	        "slab_reclaimable 4194304\nshmem 999999999\n");
	cr_assert_eq(memory_read(&paths, &m), 0);
	cr_assert_eq(m.limit, 512 * MIB);
	cr_assert(m.of_group);
	cr_assert_eq(m.left, 7 * MIB);
	cr_assert_eq(m.reserve, 16 * MIB);
	put("mount/memory/old/memory.limit_in_bytes", "67108864\n");
	put("mount/memory/old/memory.usage_in_bytes", "67108864\n");
	put("mount/memory/old/memory.stat",
	        "inactive_file 33554432\ntotal_inactive_file 1048576\n");
	cr_assert_eq(memory_read(&paths, &m), 0);
	cr_assert_eq(m.limit, 64 * MIB);
	cr_assert_eq(m.left, 1 * MIB);
	/* No limit, in the words of version 1. */
	put("mount/memory/old/memory.limit_in_bytes", "9223372036854771712\n");
	cr_assert_eq(memory_read(&paths, &m), 0);
	cr_assert_eq(m.limit, 512 * MIB);
}

Test(memory_left, the_reserve_is_a_part_of_the_limit)
{
	static const struct {
		uint64_t limit, reserve;
	} rows[] = {
	        {1, 0},
	        {4 * MIB, MIB},
	        {12 * MIB, 3 * MIB},
	        {16 * MIB, 4 * MIB},
	        {64 * MIB - 4, 16 * MIB - 1},
	        {64 * MIB, 16 * MIB},
	        {512 * MIB, 16 * MIB},
	        {1024 * MIB, 32 * MIB},
	        {8192 * MIB, 256 * MIB},
	        {65536 * MIB, 256 * MIB},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cr_assert_eq(
		        memory_reserve(rows[i].limit), rows[i].reserve, "row %zu", i);
}

Test(memory_left, it_is_short_until_there_is_more)
{
	struct memory m = {.limit = 1024 * MIB, .reserve = 32 * MIB};
	m.left = 32 * MIB;
	cr_assert_not(memory_is_short(&m, false));
	m.left = 32 * MIB - 1;
	cr_assert(memory_is_short(&m, false));
	m.left = 48 * MIB - 1;
	cr_assert(memory_is_short(&m, true));
	m.left = 48 * MIB;
	cr_assert_not(memory_is_short(&m, true));
}

Test(memory_left, the_less_there_is_the_oftener_it_is_looked_at)
{
	struct memory m = {.limit = 1024 * MIB, .left = 1024 * MIB, .reserve = 32 * MIB};
	cr_assert_eq(memory_pause(&m), CLOCK_SEC);
	m.left = 160 * MIB;
	cr_assert_eq(memory_pause(&m), CLOCK_SEC / 2);
	m.left = 0;
	cr_assert_eq(memory_pause(&m), 50 * CLOCK_MSEC);
}

static unsigned resident(const uint8_t *buffer)
{
	unsigned char page[POOL_BUFFER / 4096];
	unsigned n = 0;
	cr_assert_eq(mincore((void *)(uintptr_t)buffer, POOL_BUFFER, page), 0);
	for (size_t i = 0; i < sizeof(page); i++)
		n += page[i] & 1;
	return n;
}

Test(pool, has_so_many_and_gives_their_memory_back)
{
	enum {
		ALL = 40
	};
	struct pool pool;
	uint8_t *buffer[ALL];
	pool_init(&pool, ALL);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < ALL; i++) {
			buffer[i] = pool_take(&pool);
			cr_assert_not_null(buffer[i]);
			memset(buffer[i], (int)i, POOL_BUFFER);
		}
		cr_assert_eq(pool_taken(&pool), ALL);
		cr_assert_null(pool_take(&pool));
		for (unsigned i = 0; i < ALL; i++)
			cr_assert_eq(buffer[i][POOL_BUFFER - 1], i, "one of its own");
		for (unsigned i = 0; i < ALL; i++)
			pool_give(&pool, buffer[i]);
		unsigned kept = 0;
		for (unsigned i = 0; i < ALL; i++)
			kept += resident(buffer[i]) > 0;
		cr_assert_eq(kept, POOL_WARM);
		cr_assert_eq(pool_taken(&pool), 0);
	}
	pool_destroy(&pool);
}

Test(pool, of_none_gives_none)
{
	struct pool pool;
	pool_init(&pool, 0);
	cr_assert_null(pool_take(&pool));
	pool_give(&pool, NULL);
	cr_assert_eq(pool_taken(&pool), 0);
	pool_destroy(&pool);
}
