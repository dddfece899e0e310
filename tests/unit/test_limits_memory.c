/*
 * test_limits_memory.c - what is sized by descriptors is bound by memory too.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "core/limits.h"

/* What the last computation said. */
static char errors_text[1024];

struct outcome {
	int r;
	struct budget b;
	const char *errors; /* until the next one */
};

static struct outcome compute(
        const struct machine *m, const struct config *c, unsigned cost)
{
	struct outcome o = {.errors = errors_text};
	OWN_FILE FILE *errors = fmemopen(errors_text, sizeof(errors_text), "w");
	OWN_FILE FILE *warnings = fopen("/dev/null", "we");

	cr_assert(errors && warnings);
	errors_text[0] = '\0';
	o.r = limits_compute(m, c, cost, &o.b, errors, warnings);
	(void)fflush(errors);
	return o;
}

Test(limits_memory, an_unbounded_machine_does_not_overflow)
{
	struct machine m = {UINT64_MAX, 1024, UINT64_MAX, 100000};
	struct config c = {.fd_table = CONFIG_FD_TABLE_PRIVATE};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 0);
	cr_assert_eq(o.b.workers, 1024);
	cr_assert_leq(o.b.table_limit, 1073741816);
	cr_assert_eq(o.b.bound_by, LIMITS_BOUND_MEMORY);
	cr_assert_leq(o.b.max_connections, INT32_MAX, "counted in 32 bits");
	cr_assert_leq(o.b.fds_slots, INT32_MAX);
	cr_assert_leq(o.b.most, INT32_MAX);
	cr_assert_leq(o.b.table_slots, INT32_MAX);
}

/* The hard RLIMIT_NOFILE of many containers. Nothing that has a size of its own for each
 * connection may be as large as that. */
Test(limits_memory, a_huge_limit_of_descriptors_is_bound_by_memory)
{
	static const enum config_fd_table tables[] = {
	        CONFIG_FD_TABLE_SHARED, CONFIG_FD_TABLE_PRIVATE};
	struct machine m = {1073741816, 1024, UINT64_C(1) << 30, 4};

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct config c = {.fd_table = tables[i]};
		struct outcome o = compute(&m, &c, 1);

		cr_assert_eq(o.r, 0, "%s", o.errors);
		cr_assert_eq(o.b.bound_by, LIMITS_BOUND_MEMORY);
		cr_assert_eq(o.b.max_connections, 65536, "half of it");
		cr_assert_eq(o.b.fds_slots, 131072, "all of it, for a dry run");
		cr_assert_eq(o.b.fds_slots_bound, LIMITS_BOUND_MEMORY);
		cr_assert_eq(o.b.most, 131072);
		c.max_connections = 1000;
		o = compute(&m, &c, 1);
		cr_assert_eq(o.r, 0, "%s", o.errors);
		cr_assert_eq(o.b.max_connections, 1000);
		cr_assert_eq(o.b.most, 131072, "a reload may ask for so many");
	}
	/* Where descriptors are fewer than memory, they count. */
	m.nofile_hard = 20000;
	struct config c = {.fd_table = CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 2);

	cr_assert_eq(o.b.fds_slots_bound, LIMITS_BOUND_FDS);
	cr_assert_eq(o.b.fds_slots, o.b.max_connections);
	cr_assert_eq(o.b.most, 10000);
}

/* The number behind the last `words`. */
static uint64_t advised(const char *words)
{
	const char *at = strstr(errors_text, words);

	cr_assert_not_null(at, "no \"%s\" in: %s", words, errors_text);
	return strtoull(at + strlen(words), NULL, 10);
}

Test(limits_memory, priority_slots_need_memory_too)
{
	/* Room for 1,024 connections. */
	struct machine m = {20000, 1024, 8 << 20, 2};
	struct config c = {.fd_table = CONFIG_FD_TABLE_SHARED, .priority = 2000};
	struct outcome o;

	cr_assert_eq(prefix_set_parse("127.0.7.0/24", &c.source_priority, NULL, NULL), 0);
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	cr_assert_not_null(
	        strstr(o.errors, "[budget] priority: 2000 asked"), "%s", o.errors);
	c.priority = advised("use priority <= ");
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert_leq(o.b.max_connections + o.b.priority_slots, 1024);
	c.priority++;
	cr_assert_eq(compute(&m, &c, 1).r, 1, "one more");

	c.priority = 500;
	c.max_connections = 600;
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 1);
	c.max_connections = advised("use max_connections <= ");
	cr_assert_eq(c.max_connections, 524);
	o = compute(&m, &c, 1);
	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert_eq(o.b.most, 1024);
	cr_assert_eq(o.b.fds_slots, 524);
	c.source_priority = prefix_set_free(c.source_priority);
}

Test(limits_memory, a_tiny_machine_still_has_a_slot)
{
	struct machine m = {20000, 1024, 4096, 2};
	struct config c = {.fd_table = CONFIG_FD_TABLE_PRIVATE};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert_eq(o.b.max_connections, 1);
	cr_assert_eq(o.b.fds_slots, 1);
	cr_assert_eq(o.b.most, 1);
}
