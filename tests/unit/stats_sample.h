/*
 * stats_sample.h - snapshots to render, and how to look at a rendering; for
 * test_stats*.c.
 */
#ifndef TEST_STATS_SAMPLE_H
#define TEST_STATS_SAMPLE_H

#include <criterion/criterion.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/own.h"
#include "core/stats.h"

#define S(n) ((uint64_t)(n)*1000000000U)

typedef void render_fn(const struct stats *s, FILE *out);

static const struct stats_worker two_workers[] = {
        {.id = 0,
                .connections = 406,
                .accepted = 2600,
                .loops = 9,
                .longest_loop_ns = 1500},
        {.id = 1,
                .connections = 406,
                .accepted = 2400,
                .loops = 8,
                .longest_loop_ns = S(2)},
};

/* 5,000 accepted = 1 held + 812 + 1,187 shed + 3,000 closed. */
static inline struct stats filled(void)
{
	struct stats s = {
	        .state = STATE_FULL,
	        .version = "0.1.0",
	        .pid = 4242,
	        .uptime_ns = S(3723) + 500000000,
	        .time_in_state_ns = {S(3700), 0, S(23) + 500000000, 0},
	        .address.addr = {.family = AF_INET,
	                .bytes = {127, 0, 0, 1},
	                .port = 7777},
	        .backlog_configured = 8192,
	        .backlog_effective = 4096,
	        .queue_depth = 17,
	        .queue_depth_peak = 99,
	        .kernel_drops = 5,
	        .gate_closed = true,
	        .gates = 2,
	        .gated_ns = 1500000000,
	        .budget = {.workers = 2,
	                .tables = 1,
	                .fds_per_connection = 1,
	                .fds = 20000,
	                .max_connections = 19936,
	                .priority_slots = 16,
	                .bound_by = LIMITS_BOUND_FDS},
	        .fds_in_use = 861,
	        .connections = 812,
	        .connections_peak = 1203,
	        .held = 1,
	        .lingering = 3,
	        .keepalive_ns = S(90) + 500000000,
	        .priority_connections = 4,
	        .sources = {.capacity = 85536,
	                .used = 700,
	                .open = 300,
	                .bytes = 9000000,
	                .forgotten = 12,
	                .early = 3,
	                .unbooked = 1},
	        .workers = two_workers,
	};
	s.total.counter[COUNTER_ACCEPTED] = 5000;
	s.total.counter[COUNTER_ACCEPT_CALLS] = 6001;
	s.total.counter[COUNTER_BYTES_IN] = 1048576;
	s.total.counter[COUNTER_BYTES_OUT] = 1536;
	s.total.counter[COUNTER_PROBES] = 4711;
	s.total.accept_error[ACCEPT_ERROR_EMFILE] = 12;
	s.total.accept_error[ACCEPT_ERROR_OTHER] = 1;
	s.total.shed[SHED_FULL] = 1180;
	s.total.shed[SHED_ABORTED] = 7;
	s.total.closed[CLOSE_CLIENT] = 2999;
	s.total.closed[CLOSE_IDLE] = 1;
	s.total.wait[0] = 49;
	s.total.wait[1] = 1;
	s.total.wait[7] = 49;
	s.total.wait[COUNTERS_WAIT_BUCKETS - 1] = 1;
	s.total.wait_sum_ns = S(30) + 1;
	return s;
}

static inline struct stats with_every_number(uint64_t n)
{
	static struct stats_worker worker;
	struct stats s = {.state = STATE_OPEN, .version = "", .budget.workers = 1};

	worker = (struct stats_worker){(unsigned)n, n, n, n, n};
	s.pid = (int64_t)n;
	s.uptime_ns = s.backlog_configured = s.backlog_effective = s.queue_depth = n;
	s.queue_depth_peak = s.kernel_drops = s.fds_in_use = s.connections = n;
	s.connections_peak = s.held = s.lingering = s.budget.fds = n;
	s.budget.max_connections = n;
	s.budget.fds_per_connection = (unsigned)n;
	for (unsigned i = 0; i < STATE_COUNT; i++)
		s.time_in_state_ns[i] = n;
	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		s.total.counter[i] = n;
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		s.total.accept_error[i] = n;
	s.total.shed[SHED_FULL] = s.total.closed[CLOSE_CLIENT] = n;
	s.total.wait[0] = s.total.wait_sum_ns = s.total.loops = s.total.longest_loop_ns =
	        n;
	s.address = (struct addr_named){.addr = {.family = AF_INET6, .port = 65535}};
	s.workers = &worker;
	return s;
}

static inline char *render(render_fn *how, const struct stats *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	how(s, out);
	cr_assert_eq(fclose(out), 0);
	cr_assert_eq(strlen(text), len);
	cr_assert_eq(text[len - 1], '\n');
	return text;
}

static inline bool has(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

/* A whole line, with its newlines around it. */
static inline void assert_line(const char *text, const char *line)
{
	OWN_MEM char *wanted = NULL;
	OWN_MEM char *whole = NULL;

	cr_assert_geq(asprintf(&wanted, "\n%s\n", line), 0);
	cr_assert_geq(asprintf(&whole, "\n%s", text), 0);
	cr_assert(has(whole, wanted), "no line «%s» in:\n%s", line, text);
}

#endif
