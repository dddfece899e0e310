/*
 * ramp.c - a rising rate, step by step, until the server does not keep up.
 *
 * Invariant: a step is over, with every connection's outcome known, before the next begins:
 * no step pays for the one before.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/own.h"
#include "load/run.h"

/* Of the rate that was asked for. */
#define KEPT_PERCENT 98U

static void take_step(struct report *report, uint64_t rate, uint64_t starting)
{
	const struct figures *f = report->figures;
	struct step *step = &report->steps[report->step_count];
	uint64_t attempted = figure_get(&f->attempted);

	*step = (struct step){.rate = rate,
	        .served = figure_get(&f->outcome[OUTCOME_SERVED]),
	        .p50 = hist_quantile(&f->first_byte, 500),
	        .p99 = hist_quantile(&f->first_byte, 990)};
	step->not_served = attempted - step->served;
	if (starting)
		step->achieved = (double)attempted * (double)CLOCK_SEC / (double)starting;
	step->clean = step->not_served == 0 &&
	              step->achieved * 100.0 >= (double)(rate * KEPT_PERCENT);
	if (step->clean)
		report->knee = (int)report->step_count;
	report->step_count++;
}

/* Errors end a ramp: they are the last step's. */
static void add_step(struct figures *sum, const struct figures *f)
{
	figure_add(&sum->attempted, figure_get(&f->attempted));
	figure_add(&sum->undecided, figure_get(&f->undecided));
	for (int i = 0; i < OUTCOME_COUNT; i++) {
		figure_add(&sum->outcome[i], figure_get(&f->outcome[i]));
		figure_add(&sum->lost[i], figure_get(&f->lost[i]));
	}
	if (figure_get(&f->open_peak) > figure_get(&sum->open_peak))
		figure_set(&sum->open_peak, figure_get(&f->open_peak));
	for (int i = 0; i < SHARED_ERRORS; i++)
		sum->errors[i] = f->errors[i];
	if (f->lag_max > sum->lag_max)
		sum->lag_max = f->lag_max;
	sum->cpu += f->cpu;
	sum->waiting += f->waiting;
	hist_merge(&sum->connect, &f->connect);
	hist_merge(&sum->first_byte, &f->first_byte);
	hist_merge(&sum->shed, &f->shed);
}

int run_ramp(struct crew *crew, struct report *report)
{
	OWN_MEM struct figures *sum = calloc(1, sizeof(*sum));
	struct figures *step = report->figures;
	enum crew_event event = CREW_DONE;
	uint64_t rate = report->options->rate;

	if (!sum)
		return EXIT_NOTHING;
	while (report->step_count < REPORT_STEPS_MAX) {
		uint64_t before = report->starting;

		if (report->step_count > 0)
			crew_clear(crew);
		event = run_round(crew, report, report->options->duration, rate);
		add_step(sum, step);
		if (event != CREW_DONE)
			break;
		take_step(report, rate, report->starting - before);
		if (!report->steps[report->step_count - 1].clean)
			break;
		rate += rate / 4 > 0 ? rate / 4 : 1;
	}
	report->figures = sum;
	int code = run_report(crew, report);
	report->figures = step;
	return code;
}
