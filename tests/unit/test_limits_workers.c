/*
 * test_limits_workers.c - how many workers [workers] count = auto takes: here and in portctl, which
 * says it of a portd that would be started.
 */
#include <criterion/criterion.h>

#include <string.h>

#include "base/own.h"
#include "core/limits.h"
#include "ctl/limits.h"

#define PLENTY (UINT64_C(1) << 50)

static char errors_text[2048], warnings_text[2048];

/* One computation. */
struct outcome {
	int r;
	struct budget b;
	const char *errors, *warnings; /* until the next one */
};

static struct outcome compute(
        const struct machine *m, const struct config *c, unsigned cost)
{
	struct outcome o = {.r = -1, .errors = errors_text, .warnings = warnings_text};
	OWN_FILE FILE *errors = fmemopen(errors_text, sizeof(errors_text), "w");
	OWN_FILE FILE *warnings = fmemopen(warnings_text, sizeof(warnings_text), "w");

	cr_assert(errors && warnings);
	errors_text[0] = warnings_text[0] = '\0';
	o.r = limits_compute(m, c, cost, &o.b, errors, warnings);
	(void)fflush(errors);
	(void)fflush(warnings);
	return o;
}

static void assert_roomy(uint64_t hard, unsigned cpus, bool private)
{
	struct machine m = {hard, hard, PLENTY, cpus};
	struct config c = {
	        .fd_table = private ? CONFIG_FD_TABLE_PRIVATE : CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 1);
	uint64_t tables = private ? o.b.workers : 1;
	uint64_t table =
	        private ? hard - (48 + o.b.workers + tables - 1) / tables : hard - 48;

	cr_assert_eq(o.r, 0, "%u CPUs, %lu: %s", cpus, hard, o.errors);
	cr_assert_eq(o.b.workers < cpus && o.b.workers < 1024, *o.warnings != '\0', "%s",
	        o.warnings);
	cr_assert(o.b.workers == 1 || 2 * o.b.max_connections / tables >= table,
	        "%u CPUs, %lu, %s: %u workers, %lu slots", cpus, hard,
	        private ? "private" : "shared", o.b.workers, o.b.max_connections);
	if (!private)
		cr_assert_eq(limits_workers_of_auto(hard, cpus), o.b.workers,
		        "%u CPUs, %lu: portctl", cpus, hard);
}

/* Connections get half of what the workers share, as far as that can be; and there is always a way
 * to start. */
Test(limits, auto_takes_fewer_workers_where_descriptors_are_few)
{
	static const unsigned cpus[] = {1, 2, 8, 16, 56, 128, 1024, 100000};

	for (size_t i = 0; i < ARRAY_SIZE(cpus); i++)
		for (uint64_t hard = 60; hard <= 70000; hard += hard < 2000 ? 7 : 1000)
			for (unsigned private = 0; private < 2; private ++)
				assert_roomy(hard, cpus[i], private);
}

Test(limits, what_auto_takes_is_told)
{
	struct machine m = {1024, 1024, PLENTY, 128};
	struct config c = {.fd_table = CONFIG_FD_TABLE_SHARED};
	struct outcome o = compute(&m, &c, 1);

	cr_assert_eq(o.r, 0, "%s", o.errors);
	cr_assert_eq(o.b.workers, 12);
	cr_assert_str_eq(o.warnings,
	        "[workers] count: auto takes 12 of 128, for descriptors are few; raise "
	        "LimitNOFILE= for one worker on each CPU\n");
	c.workers = 128;
	cr_assert_eq(compute(&m, &c, 1).r, 1, "what is asked for is not changed");
	m.cpus = 12;
	c.workers = CONFIG_AUTO;
	cr_assert_str_eq(compute(&m, &c, 1).warnings, "");
}
