/*
 * test_load_limited.c - what portload says of itself: it fell behind its schedule, or had no CPU.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "load/report.h"

static void check_limits(struct figures *all, struct figures *last, const char *words)
{
	const struct options options = {.command = COMMAND_RAMP};
	const struct plan plan = {.processes = 2, .connections = 1000};
	struct report report = {
	        .options = &options, .plan = &plan, .figures = all, .last = last};

	report_find_limits(&report);
	if (words)
		cr_assert(
		        strstr(report.limited_by, words), "said: %s", report.limited_by);
	else
		cr_assert_str_empty(report.limited_by, "said: %s", report.limited_by);
}

Test(load_limited, late_starts)
{
	OWN_MEM struct figures *f = calloc(1, sizeof(*f));

	cr_assert_not_null(f);
	figure_set(&f->attempted, 1000);
	check_limits(f, f, NULL);
	f->late[LATE_SELF] = 10;
	check_limits(f, f, NULL);
	f->late[LATE_SELF] = 11;
	f->lag_max = 20 * CLOCK_MSEC;
	check_limits(f, f,
	        "11 connections began more than 10 ms late, up to 0.020 s, or never");
}

/* What ends a ramp is the last step's, however many connections were in time before. */
Test(load_limited, last_step_of_a_ramp)
{
	OWN_MEM struct figures *all = calloc(1, sizeof(*all));
	OWN_MEM struct figures *last = calloc(1, sizeof(*last));

	cr_assert(all && last);
	figure_set(&all->attempted, 10000);
	figure_set(&last->attempted, 1000);
	all->late[LATE_SELF] = last->late[LATE_SELF] = 30;
	check_limits(all, last, "fell behind its schedule: 30 connections");
	all->late[LATE_SELF] = last->late[LATE_SELF] = 0;
	all->wall = 10 * CLOCK_SEC;
	last->wall = last->cpu = all->cpu = CLOCK_SEC;
	check_limits(all, last, "its 2 processes used 100 % of a CPU each");
	/* Late in a step that was clean all the same, and never since. */
	last->cpu = 0;
	all->late[LATE_SELF] = 200;
	check_limits(all, last, NULL);
}
