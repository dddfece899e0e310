/*
 * stats_render.h - what the renderings share. Private to stats*.c.
 */
#ifndef CORE_STATS_RENDER_H
#define CORE_STATS_RENDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/stats.h"

/* counters.def, for the renderings. `json` is "group.name". */
struct stats_counter_row {
	const char *json;
	const char *metric;
	const char *help;
};
extern const struct stats_counter_row stats_counter_rows[COUNTER_COUNT];

/* The helps of sheds.def and closes.def. */
extern const char *const stats_shed_help[SHED_COUNT];
extern const char *const stats_close_help[CLOSE_COUNT];

/* Upper bounds of the queue-wait buckets, ms; the last bucket has none. */
extern const uint64_t stats_wait_bound_ms[COUNTERS_WAIT_BUCKETS - 1];

/* The number with a comma between thousands: "19,936". Returns buf. */
#define STATS_GROUPED_MAX 27
char *stats_format_grouped(uint64_t n, char buf[static STATS_GROUPED_MAX]);

/* Exact seconds, to the nanosecond, without trailing zeros: "12.345", "0". Returns buf.
 */
#define STATS_SECONDS_MAX 24
char *stats_format_seconds(uint64_t ns, char buf[static STATS_SECONDS_MAX]);

/* How many of `of` in percent, rounded down: 100 only if all. 0 if `of` is 0. */
uint64_t stats_percent(uint64_t n, uint64_t of);

/* Observations of the queue wait in all. */
uint64_t stats_wait_count(const struct counts *c);

/* The bucket with the quantile q (percent, 1 to 100) of the queue wait. There must be at
 * least one observation. COUNTERS_WAIT_BUCKETS - 1 is the bucket without a bound. */
unsigned stats_wait_quantile(const struct counts *c, unsigned q);

/* Clients turned away by portd: every reason of sheds.def but aborted. */
uint64_t stats_refused(const struct counts *c);

#endif
