/*
 * run.c - see run.h.
 *
 * Invariant: figures are summed only once every process rests, but for a hold that goes on,
 * whose counters alone still change.
 */
#include "load/run.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "load/progress.h"

/* Processes that sample at once. */
#define SAMPLERS 2U
/* For processes to see an order and begin together. */
#define START_AFTER (20 * CLOCK_MSEC)
/* For all to put an order into effect, beyond the time it takes by itself: they may be many. */
#define GRACE (30 * CLOCK_SEC)

/* Ends what has no outcome yet. */
static void cut(struct crew *crew)
{
	crew_order(crew, ORDER_CUT, 0, 0, 0);
	(void)crew_wait(crew, &(struct crew_wait){.for_done = true,
	                              .to_the_end = true,
	                              .deadline = clock_add(clock_now(), GRACE)});
}

enum crew_event run_round(
        struct crew *crew, struct report *report, uint64_t duration, uint64_t rate)
{
	uint64_t start = clock_now() + START_AFTER, until = clock_add(start, duration);

	crew_order(crew, ORDER_RUN, start, until, rate);
	struct progress progress;
	progress_begin(&progress, report->options, report->plan->connections, start);
	enum crew_event event = crew_wait(
	        crew, &(struct crew_wait){.for_done = true,
	                      .for_input_end = report->options->command == COMMAND_HOLD,
	                      .deadline = CLOCK_INFINITY,
	                      .tick = progress_tick,
	                      .arg = &progress});
	progress_end(&progress);
	if (event == CREW_INTERRUPTED || event == CREW_INPUT_ENDED)
		cut(crew);

	uint64_t now = clock_now();
	report->elapsed += now > start ? now - start : 0;
	crew_sum(crew, report->figures);
	uint64_t last = report->figures->last_start;
	/* A schedule that was kept has used all of its time, also behind its last start. */
	bool whole = event == CREW_DONE && duration != CLOCK_INFINITY &&
	             !report->options->count;
	if (whole)
		report->starting += duration;
	else if (last > start)
		report->starting += last - start;
	return event;
}

int run_report(const struct crew *crew, struct report *report)
{
	report->lost = crew->lost;
	report->lost_status = crew->lost_status;
	report_find_limits(report);
	int r = report->options->json ? report_json(report, stdout)
	                              : report_text(report, stdout);
	if (r < 0)
		(void)fprintf(
		        stderr, "portload: standard output: %s\n", strerrordesc_np(-r));
	uint64_t attempted = figure_get(&report->figures->attempted);
	bool nothing = attempted == 0 ||
	               figure_get(&report->figures->outcome[OUTCOME_FAILED]) == attempted;
	return r < 0 || report->lost || nothing ? EXIT_NOTHING : EXIT_DONE;
}

int run_churn(struct crew *crew, struct report *report)
{
	(void)run_round(crew, report, report->options->duration, report->options->rate);
	return run_report(crew, report);
}

/* A few processes at a time: all at once they would wait for each other's CPU, and measure that. */
static void sample(struct crew *crew)
{
	const struct crew_wait wait = {.for_done = true, .deadline = CLOCK_INFINITY};

	for (uint64_t i = 0; i < crew->plan->processes; i += SAMPLERS) {
		crew_order(crew, ORDER_SAMPLE, i, i + SAMPLERS, 0);
		if (crew_wait(crew, &wait) != CREW_DONE) {
			cut(crew);
			return;
		}
	}
}

int run_hold(struct crew *crew, struct report *report)
{
	const struct options *options = report->options;
	uint64_t began = clock_now();
	enum crew_event event = run_round(crew, report, CLOCK_INFINITY, options->rate);

	if (event == CREW_DONE && options->sample)
		sample(crew);
	crew_sum(crew, report->figures);
	report->opened = report->elapsed;
	report->still_open = event == CREW_DONE;
	if (event == CREW_INPUT_ENDED)
		(void)fputs(
		        "portload: the other end of standard input is closed, which ends "
		        "a hold; </dev/null keeps it\n",
		        stderr);
	int code = run_report(crew, report);

	uint64_t until = clock_add(clock_now(), options->duration);
	if (event == CREW_DONE && code == EXIT_DONE)
		(void)crew_wait(crew,
		        &(struct crew_wait){.for_input_end = true, .deadline = until});
	/* Every process has then seen what epoll had for it. */
	cut(crew);
	crew_sum(crew, report->figures);
	report->elapsed = clock_now() - began;
	report->still_open = false;
	int end = run_report(crew, report);
	return code > end ? code : end;
}
