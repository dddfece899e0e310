/*
 * progress.c - see progress.h.
 */
#include "load/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

void progress_begin(struct progress *p, const struct options *options,
        uint64_t connections, uint64_t start)
{
	*p = (struct progress){.options = options,
	        .connections = connections,
	        .start = start,
	        .wanted = isatty(STDERR_FILENO) == 1};
}

void progress_tick(struct crew *crew, void *arg)
{
	/* Far too large for a stack that is to stay small, and there is one parent only. */
	static struct figures now;
	struct progress *p = arg;
	uint64_t turned_away = 0;

	if (!p->wanted)
		return;
	crew_sum_counters(crew, &now);
	for (int i = OUTCOME_SERVED + 1; i < OUTCOME_COUNT; i++)
		turned_away += figure_get(&now.outcome[i]);
	uint64_t attempted = figure_get(&now.attempted);
	(void)fprintf(stderr,
	        "\r\033[K%s %" PRIu64 " s: %" PRIu64 " of %" PRIu64 " open, %" PRIu64
	        "/s, %" PRIu64 " served, %" PRIu64 " not",
	        options_command_name(p->options->command),
	        (clock_now() - p->start) / CLOCK_SEC, figure_get(&now.open),
	        p->connections, attempted - p->before,
	        figure_get(&now.outcome[OUTCOME_SERVED]), turned_away);
	p->before = attempted;
	p->shown = true;
}

void progress_end(struct progress *p)
{
	if (p->shown)
		(void)fputs("\r\033[K", stderr);
	p->shown = false;
}
