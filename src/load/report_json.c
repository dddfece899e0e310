/*
 * report_json.c - the report as one JSON object on one line; its names are a contract,
 * portload(1).
 *
 * Invariant: every member is there in every object, so that who reads it need not ask;
 * what does not go with the command is null.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/json.h"
#include "load/report.h"

static double seconds(uint64_t ns)
{
	return (double)ns / (double)CLOCK_SEC;
}

static void put_hist(FILE *out, const char *name, const struct hist *h)
{
	(void)fprintf(out,
	        ",\"%s\":{\"count\":%" PRIu64 ",\"mean\":%.9f,\"p50\":%.9f,\"p90\":%.9f,"
	        "\"p99\":%.9f,\"p999\":%.9f,\"max\":%.9f}",
	        name, h->count, seconds(hist_mean(h)), seconds(hist_quantile(h, 500)),
	        seconds(hist_quantile(h, 900)), seconds(hist_quantile(h, 990)),
	        seconds(hist_quantile(h, 999)), seconds(h->max));
}

static void put_outcomes(FILE *out, const char *name, const _Atomic uint64_t *counts)
{
	(void)fprintf(out, ",\"%s\":{", name);
	for (int i = 0; i < OUTCOME_COUNT; i++)
		(void)fprintf(out, "%s\"%s\":%" PRIu64, i ? "," : "",
		        report_outcome_word((enum outcome)i), figure_get(&counts[i]));
	(void)putc('}', out);
}

static void put_step(FILE *out, const struct step *s)
{
	(void)fprintf(out,
	        "{\"rate\":%" PRIu64
	        ",\"achieved\":%.1f,\"p50\":%.9f,\"p99\":%.9f,\"served\":%" PRIu64
	        ",\"not_served\":%" PRIu64 ",\"clean\":%s}",
	        s->rate, s->achieved, seconds(s->p50), seconds(s->p99), s->served,
	        s->not_served, s->clean ? "true" : "false");
}

static void put_ramp(FILE *out, const struct report *r)
{
	(void)fputs(",\"knee\":", out);
	if (r->knee >= 0)
		put_step(out, &r->steps[r->knee]);
	else
		(void)fputs("null", out);
	(void)fputs(",\"steps\":", out);
	if (r->options->command != COMMAND_RAMP) {
		(void)fputs("null", out);
		return;
	}
	for (unsigned i = 0; i < r->step_count; i++) {
		(void)putc(i ? ',' : '[', out);
		put_step(out, &r->steps[i]);
	}
	(void)fputs(r->step_count ? "]" : "[]", out);
}

static void put_sample(FILE *out, const struct report *r)
{
	const struct figures *f = r->figures;

	if (r->options->sample == 0) {
		(void)fputs(",\"sample\":null", out);
		return;
	}
	(void)fprintf(out,
	        ",\"sample\":{\"asked\":%" PRIu64 ",\"echoed\":%" PRIu64
	        ",\"failed\":%" PRIu64,
	        figure_get(&f->sampled) + figure_get(&f->unsampled),
	        figure_get(&f->sampled), figure_get(&f->unsampled));
	put_hist(out, "seconds", &f->sample);
	(void)putc('}', out);
}

int report_json(const struct report *r, FILE *out)
{
	const struct figures *f = r->figures;
	bool stands = r->options->command == COMMAND_HOLD ||
	              r->options->command == COMMAND_FLOOD;
	(void)fprintf(out, "{\"command\":\"%s\",\"target\":",
	        options_command_name(r->options->command));
	json_put_string(out, r->options->target_text);
	(void)fprintf(out, ",\"connections\":%" PRIu64, r->options->connections);
	if (stands)
		(void)fprintf(out, ",\"standing\":%" PRIu64, figure_get(&f->standing));
	else
		(void)fputs(",\"standing\":null", out);
	if (r->options->command == COMMAND_HOLD)
		(void)fprintf(out, ",\"opened_seconds\":%.6f", seconds(r->opened));
	else
		(void)fputs(",\"opened_seconds\":null", out);
	(void)fprintf(out,
	        ",\"seconds\":%.6f,\"rate_asked\":%" PRIu64
	        ",\"rate\":%.1f,\"attempted\":%" PRIu64 ",\"undecided\":%" PRIu64
	        ",\"open_peak\":%" PRIu64 ",\"open_end\":%" PRIu64,
	        seconds(r->elapsed), r->options->rate, report_rate(r),
	        figure_get(&f->attempted), figure_get(&f->undecided),
	        figure_get(&f->open_peak), figure_get(&f->open));
	put_outcomes(out, "outcomes", f->outcome);
	put_outcomes(out, "lost", f->lost);
	put_hist(out, "connect_seconds", &f->connect);
	put_hist(out, "first_byte_seconds", &f->first_byte);
	put_hist(out, "shed_seconds", &f->shed);
	put_sample(out, r);
	(void)fprintf(out,
	        ",\"load\":{\"processes\":%" PRIu64 ",\"sources\":%" PRIu64
	        ",\"cpu_seconds\":%.6f,\"cpu_waiting_seconds\":%.6f,\"lag_max_seconds\":%"
	        ".6f}",
	        r->plan->processes, r->plan->sources, seconds(f->cpu),
	        seconds(f->waiting), seconds(f->lag_max));
	(void)fputs(",\"limited_by\":", out);
	if (r->limited_by[0])
		json_put_string(out, r->limited_by);
	else
		(void)fputs("null", out);
	put_ramp(out, r);
	(void)fputs("}\n", out);
	return report_flush(out);
}
