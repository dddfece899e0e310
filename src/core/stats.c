/*
 * stats.c - COUNT, told: the tables and the arithmetic that all renderings share, and the
 * one line for systemd.
 *
 * Invariants: every row of counters.def, accept_errors.def, sheds.def and closes.def
 * appears in every machine-readable rendering, also at 0, because the renderings walk
 * these tables and name no row themselves. Arithmetic is in integers: no figure is
 * rounded twice.
 */
#include "core/stats.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "core/stats_render.h"

const struct stats_counter_row stats_counter_rows[COUNTER_COUNT] = {
#define X(name, json, metric, help) {json, metric, help},
#include "core/counters.def"
#undef X
};

const char *const stats_shed_help[SHED_COUNT] = {
#define X(name, word, kind, help) help,
#include "core/sheds.def"
#undef X
};

const char *const stats_close_help[CLOSE_COUNT] = {
#define X(name, word, help) help,
#include "core/closes.def"
#undef X
};

const uint64_t stats_wait_bound_ms[COUNTERS_WAIT_BUCKETS - 1] = COUNTERS_WAIT_BOUNDS_MS;

char *stats_format_grouped(uint64_t n, char buf[static STATS_GROUPED_MAX])
{
	char digits[STATS_GROUPED_MAX];
	size_t len = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n);
	char *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*p++ = ',';
		*p++ = digits[i];
	}
	*p = '\0';
	return buf;
}

char *stats_format_seconds(uint64_t ns, char buf[static STATS_SECONDS_MAX])
{
	int len = snprintf(buf, STATS_SECONDS_MAX, "%" PRIu64 ".%09" PRIu64,
	        ns / CLOCK_SEC, ns % CLOCK_SEC);
	char *end = buf + len;

	while (end[-1] == '0')
		end--;
	if (end[-1] == '.')
		end--;
	*end = '\0';
	return buf;
}

uint64_t stats_percent(uint64_t n, uint64_t of)
{
	if (of == 0)
		return 0;

	unsigned __int128 percent = (unsigned __int128)n * 100 / of;

	return percent > UINT64_MAX ? UINT64_MAX : (uint64_t)percent;
}

uint64_t stats_wait_count(const struct counts *c)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < COUNTERS_WAIT_BUCKETS; i++)
		count += c->wait[i];
	return count;
}

unsigned stats_wait_quantile(const struct counts *c, unsigned q)
{
	unsigned __int128 rank = (unsigned __int128)stats_wait_count(c) * q;
	unsigned __int128 seen = 0;

	for (unsigned i = 0; i < COUNTERS_WAIT_BUCKETS - 1; i++) {
		seen += c->wait[i];
		if (seen * 100 >= rank)
			return i;
	}
	return COUNTERS_WAIT_BUCKETS - 1;
}

uint64_t stats_refused(const struct counts *c)
{
	return counts_total_shed(c) - c->shed[SHED_ABORTED];
}

char *stats_render_status(
        const struct stats *s, uint64_t rate, char buf[static STATS_STATUS_MAX])
{
	char connections[STATS_GROUPED_MAX], max[STATS_GROUPED_MAX],
	        per_second[STATS_GROUPED_MAX];
	char shed[STATS_GROUPED_MAX], emfile[STATS_GROUPED_MAX];

	(void)snprintf(buf, STATS_STATUS_MAX,
	        "%s: %s of %s connections (%" PRIu64 " %%), %s/s, queue %" PRIu64
	        "/%" PRIu64 ", shed %s, EMFILE %s",
	        state_name(s->state), stats_format_grouped(s->connections, connections),
	        stats_format_grouped(s->budget.max_connections, max),
	        stats_percent(s->connections, s->budget.max_connections),
	        stats_format_grouped(rate, per_second), s->queue_depth,
	        s->backlog_effective,
	        stats_format_grouped(stats_refused(&s->total), shed),
	        stats_format_grouped(s->total.accept_error[ACCEPT_ERROR_EMFILE], emfile));
	return buf;
}
