/*
 * test_limits_priority.c - [budget] priority takes descriptors from the slots: what is refused then
 * names it, and values that are accepted.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "core/limits.h"
#include "net/prefix.h"

static char errors_text[2048];

/* Returns what limits_compute does, for 20,000 descriptors a table and two workers. */
static int compute(const struct config *c, struct budget *ret)
{
	const struct machine m = {20000, 1024, UINT64_C(24) << 30, 2};
	OWN_FILE FILE *errors = fmemopen(errors_text, sizeof(errors_text), "w");
	OWN_FILE FILE *warnings = fopen("/dev/null", "we");

	cr_assert(errors && warnings);
	errors_text[0] = '\0';
	int r = limits_compute(&m, c, 1, ret, errors, warnings);

	(void)fflush(errors);
	return r;
}

/* The number behind the last `words`. */
static uint64_t advised(const char *words)
{
	const char *at = strstr(errors_text, words);

	cr_assert_not_null(at, "no \"%s\" in: %s", words, errors_text);
	return strtoull(at + strlen(words), NULL, 10);
}

static void open_config(struct config *c, enum config_fd_table table, uint64_t priority)
{
	*c = (struct config){.workers = 2, .fd_table = table, .priority = priority};
	cr_assert_eq(
	        prefix_set_parse("127.0.7.0/24", &c->source_priority, NULL, NULL), 0);
}

/* It is refused; *value as it advises behind `words` is accepted, and one step beyond that is not. */
static void try_advice(struct config *c, uint64_t *value, const char *words, int step)
{
	struct budget b;

	cr_assert_eq(compute(c, &b), 1);
	*value = advised(words);
	cr_expect_eq(compute(c, &b), 0, "%s", errors_text);
	*value += (uint64_t)step;
	cr_expect_eq(compute(c, &b), 1, "one step beyond");
}

Test(limits_priority, more_than_there_are_descriptors_is_refused_by_its_name)
{
	static const enum config_fd_table tables[] = {
	        CONFIG_FD_TABLE_SHARED, CONFIG_FD_TABLE_PRIVATE};

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct config c;
		struct budget b;

		open_config(&c, tables[i], 65536);
		cr_assert_eq(compute(&c, &b), 1);
		cr_expect(strstr(errors_text, "[budget] priority: 65536 asked"), "%s",
		        errors_text);
		cr_expect_null(strstr(errors_text, "[workers]"), "%s", errors_text);
		try_advice(&c, &c.priority, "use priority <= ", 1);
		c.source_priority = prefix_set_free(c.source_priority);
	}
}

Test(limits_priority, with_fds_that_were_asked_for_more_of_them_is_a_remedy)
{
	struct config c;

	open_config(&c, CONFIG_FD_TABLE_SHARED, 1000);
	c.fds = 500;
	try_advice(&c, &c.fds, ", or fds >= ", -1);
	c.source_priority = prefix_set_free(c.source_priority);
}

Test(limits_priority, max_connections_that_would_fit_without_it)
{
	struct config c;
	struct budget b;

	open_config(&c, CONFIG_FD_TABLE_SHARED, 5000);
	c.max_connections = 19000;
	try_advice(&c, &c.priority, "or [budget] priority <= ", 1);
	c.priority = 0;
	c.max_connections = 19990;
	cr_assert_eq(compute(&c, &b), 1);
	cr_expect_null(strstr(errors_text, "priority"), "%s", errors_text);
	c.source_priority = prefix_set_free(c.source_priority);
}
