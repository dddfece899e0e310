/*
 * test_stats_text.c - the renderings for people: «portctl stats» and the line for
 * systemd.
 */
#define _GNU_SOURCE
#include "stats_sample.h"

Test(stats_text, text_tells_the_operator)
{
	struct stats s = filled();
	OWN_MEM char *text = render(stats_render_text, &s);

	cr_assert(has(text, "portd 0.1.0, pid 4242, up 1 h 02 min\n"));
	cr_assert(has(
	        text, "full: short of descriptors, or not yet down to low_watermark\n"));
	cr_assert(
	        has(text, "17 of 4,096 waiting, peak 99 (ss: Recv-Q 17, Send-Q 4096)\n"));
	cr_assert(has(text, "8,192 asked, 4,096 in force (clamped by the kernel"));
	cr_assert(has(text, "812 of 19,936 (4 %), peak 1,203\n"));
	cr_assert(has(
	        text, "fds (descriptors: [budget] fds, or the hard RLIMIT_NOFILE)\n"));
	cr_assert(has(text, "861 of 20,000 in use"));
	cr_assert(has(text, "No slot came free within queue_timeout."));
	cr_assert_not(has(text, "No memory for the connection"));
	cr_assert(has(text, "1.0 MiB in, 1.5 KiB out"));
	cr_assert(has(text, "p50             at most 5 ms\n"));
	cr_assert(has(text, "p99             at most 500 ms\n"));
	cr_assert(has(text, "mean            300.000 ms\n"));
	assert_line(text, "books: accepted 5,000 = held 1 + connections 812 + shed 1,187 "
	                  "+ closed 3,000");
	cr_assert_not(has(text, "BALANCE"));
}

Test(stats_text, text_says_full_of_connections_only_if_it_is)
{
	struct stats s = filled();

	s.connections = s.budget.max_connections;
	OWN_MEM char *text = render(stats_render_text, &s);
	cr_assert(has(text, "full: every slot is taken"));
}

Test(stats_text, text_does_not_hide_books_that_do_not_balance)
{
	struct stats s = filled();

	s.total.closed[CLOSE_CLIENT] -= 2;
	OWN_MEM char *text = render(stats_render_text, &s);
	assert_line(text, "books: accepted 5,000 != held 1 + connections 812 + shed "
	                  "1,187 + closed 2,998");
	cr_assert(has(text,
	        "THE BOOKS DO NOT BALANCE at this instant: 2 connections unaccounted"));
	s.held += 5;
	OWN_MEM char *more = render(stats_render_text, &s);
	cr_assert(has(more, "3 connections too many"));
}

Test(stats_text, a_dry_run_is_told_only_where_it_would_have_shed)
{
	struct stats s = filled();

	memset(s.total.would_shed, 0, sizeof(s.total.would_shed));
	OWN_MEM char *none = render(stats_render_text, &s);
	cr_assert_not(has(none, "would shed"));
	s.total.would_shed[SHED_RATE] = 1234;
	s.total.would_shed[SHED_FULL] = 1;
	OWN_MEM char *text = render(stats_render_text, &s);
	cr_assert(has(text, "1,235  (a dry run: they were let in)\n"));
	/* What would have been is not in the books. */
	assert_line(text, "books: accepted 5,000 = held 1 + connections 812 + shed 1,187 "
	                  "+ closed 3,000");
}

Test(stats_text, a_quantile_past_the_last_bound_says_so)
{
	struct stats s = with_every_number(0);

	OWN_MEM char *none = render(stats_render_text, &s);
	cr_assert(has(none, "0 samples") && !has(none, "p50"));
	s.total.wait[COUNTERS_WAIT_BUCKETS - 1] = 1;
	OWN_MEM char *late = render(stats_render_text, &s);
	cr_assert(has(late, "p50             more than 10,000 ms\n"));
	s.total.wait[0] = UINT64_MAX - 1;
	OWN_MEM char *early = render(stats_render_text, &s);
	cr_assert(has(early, "p99             at most 1 ms\n"));
}

static void assert_status(const struct stats *s, uint64_t rate, const char *expected)
{
	char buf[STATS_STATUS_MAX];

	cr_assert_eq(stats_render_status(s, rate, buf), buf);
	cr_assert_str_eq(buf, expected);
}

Test(stats_text, status_is_the_contract)
{
	struct stats s = {.state = STATE_OPEN,
	        .connections = 812,
	        .budget.max_connections = 19936,
	        .backlog_effective = 4096};

	assert_status(&s, 1203,
	        "open: 812 of 19,936 connections (4 %), 1,203/s, queue 0/4096, shed 0, "
	        "EMFILE 0");
	/* 100 % only if all of them; aborted clients were not shed by portd. */
	s.state = STATE_FULL;
	s.connections = 19935;
	s.queue_depth = 4097;
	s.total.shed[SHED_ABORTED] = 5;
	s.total.shed[SHED_FULL] = 1000;
	s.total.shed[SHED_BACKLOG] = 1;
	s.total.accept_error[ACCEPT_ERROR_EMFILE] = 999;
	s.total.accept_error[ACCEPT_ERROR_ENFILE] = 4;
	assert_status(&s, 0,
	        "full: 19,935 of 19,936 connections (99 %), 0/s, queue 4097/4096, shed "
	        "1,001, "
	        "EMFILE 999");
	s.connections = 19936;
	assert_status(&s, 0,
	        "full: 19,936 of 19,936 connections (100 %), 0/s, queue 4097/4096, shed "
	        "1,001, "
	        "EMFILE 999");
}

#define MOST "18,446,744,073,709,551,615"

Test(stats_text, status_holds_the_largest_numbers)
{
	struct stats s = with_every_number(UINT64_MAX);

	s.state = STATE_SHEDDING;
	s.budget.max_connections = 1;
	assert_status(&s, UINT64_MAX,
	        "shedding: " MOST " of 1 connections (18446744073709551615 %), " MOST
	        "/s, queue 18446744073709551615/18446744073709551615, shed " MOST
	        ", EMFILE " MOST);
	s.budget.max_connections = 0;
	s.connections = 0;
	s.queue_depth = s.backlog_effective = 0;
	s.total = (struct counts){0};
	assert_status(&s, 0,
	        "shedding: 0 of 0 connections (0 %), 0/s, queue 0/0, shed 0, EMFILE 0");
}
