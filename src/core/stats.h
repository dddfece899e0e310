/*
 * stats.h - one snapshot of everything that portd says about itself, and its renderings.
 *
 * stats.c collects (port.h) in time that depends on the number of workers only, never on the number
 * of connections; stats_text.c, stats_json.c and stats_prometheus.c render. Names follow
 * "portctl stats" in portctl(1); they are an interface: additive only.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/counters.h"
#include "core/limits.h"
#include "core/memory.h"
#include "core/source.h"
#include "core/state.h"
#include "net/addr.h"

struct stats_worker {
	unsigned id;
	uint64_t connections;
	uint64_t accepted;
	uint64_t loops;
	uint64_t longest_loop_ns;
};

struct stats {
	enum state state;
	const char *version;
	int64_t pid;
	uint64_t uptime_ns;
	uint64_t time_in_state_ns[STATE_COUNT];

	/* the listener; the last four from the kernel, for this listener */
	struct addr_named address;
	uint64_t backlog_configured;
	uint64_t backlog_effective;
	uint64_t queue_depth;
	uint64_t queue_depth_peak;
	uint64_t kernel_drops;
	bool gate_closed; /* [shed] gate: the kernel answers no SYNs now */
	uint64_t gates;   /* how often it was closed */
	uint64_t gated_ns;
	uint64_t arrivals_peak;   /* most accepted in one second */
	uint64_t accept_pause_ns; /* longest that nobody looked at a queue with clients */

	/* the budget */
	struct budget budget; /* max_connections as in force now */
	uint64_t fds_in_use;
	uint64_t connections;
	uint64_t connections_peak;
	uint64_t held;
	uint64_t priority_connections; /* in priority slots */
	struct source_usage sources;   /* the per-source books */
	struct memory memory;          /* what is left; limit 0: not known */
	bool memory_short;
	uint64_t buffers;      /* taken, of budget.buffers */
	uint64_t keepalive_ns; /* the period in force; 0: off */
	uint64_t lingering; /* answered connections being closed; not part of the books */

	struct counts total;
	const struct stats_worker
	        *workers; /* budget.workers of them; owned by the caller */
};

/* Writes "portctl stats" for people: aligned, with units, the binding limit named. */
void stats_render_text(const struct stats *s, FILE *out);
/* One JSON object and a newline. */
void stats_render_json(const struct stats *s, FILE *out);
/* Prometheus text format 0.0.4. */
void stats_render_prometheus(const struct stats *s, FILE *out);
/* OpenMetrics 1.0, with its # EOF. */
void stats_render_openmetrics(const struct stats *s, FILE *out);

/* The line for systemd's STATUS=, a contract:
 * «open: 812 of 19,936 connections (4 %), 1,203/s, queue 0/4096, shed 0, EMFILE 0».
 * rate is accepted connections a second over the last interval. Returns buf. */
#define STATS_STATUS_MAX 256
char *stats_render_status(
        const struct stats *s, uint64_t rate, char buf[static STATS_STATUS_MAX]);

#endif
