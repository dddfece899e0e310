/*
 * report.c - the report for people: what became of the connections, how long it took, and
 * whether portload was the limit.
 */
#include "load/report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/plural.h"

#define NUMBER_MAX 32

static const char *const words[OUTCOME_COUNT] = {
#define X(name, word, turned_away, text) [OUTCOME_##name] = (word),
#include "load/outcomes.def"
#undef X
};

static const char *const texts[OUTCOME_COUNT] = {
#define X(name, word, turned_away, text) [OUTCOME_##name] = (text),
#include "load/outcomes.def"
#undef X
};

const char *report_outcome_word(enum outcome outcome)
{
	return words[outcome];
}

double report_rate(const struct report *r)
{
	uint64_t ns = r->starting ? r->starting : r->elapsed;
	return ns ? (double)figure_get(&r->figures->attempted) * (double)CLOCK_SEC /
	                       (double)ns
	          : 0.0;
}

static double seconds(uint64_t ns)
{
	return (double)ns / (double)CLOCK_SEC;
}

/* 1234567 as "1,234,567". */
static const char *grouped(uint64_t n, char buf[static NUMBER_MAX])
{
	char *p = buf + NUMBER_MAX - 1;

	*p = '\0';
	for (unsigned digits = 1;; digits++) {
		*--p = (char)('0' + n % 10);
		n /= 10;
		if (n == 0)
			return p;
		if (digits % 3 == 0)
			*--p = ',';
	}
}

/* A time in the unit in which it has one to three digits before the point. */
static const char *time_text(uint64_t ns, char buf[static NUMBER_MAX])
{
	if (ns < CLOCK_MSEC)
		(void)snprintf(
		        buf, NUMBER_MAX, "%.1f us", (double)ns / (double)CLOCK_USEC);
	else if (ns < CLOCK_SEC)
		(void)snprintf(
		        buf, NUMBER_MAX, "%.2f ms", (double)ns / (double)CLOCK_MSEC);
	else
		(void)snprintf(buf, NUMBER_MAX, "%.3f s", seconds(ns));
	return buf;
}

static void put_hist(FILE *out, const char *name, const struct hist *h)
{
	static const unsigned per_mille[] = {500, 900, 990, 999};
	char buf[NUMBER_MAX];

	if (h->count == 0)
		return;
	(void)fprintf(out, "  %-10s %12s %10s", name, grouped(h->count, buf),
	        time_text(hist_mean(h), (char[NUMBER_MAX]){0}));
	for (size_t i = 0; i < sizeof(per_mille) / sizeof(*per_mille); i++)
		(void)fprintf(
		        out, " %10s", time_text(hist_quantile(h, per_mille[i]), buf));
	(void)fprintf(out, " %10s\n", time_text(h->max, buf));
}

static void put_times(FILE *out, const struct figures *f)
{
	if (f->connect.count + f->first_byte.count + f->shed.count + f->sample.count == 0)
		return;
	(void)fprintf(out, "\n  %-10s %12s %10s %10s %10s %10s %10s %10s\n", "time to",
	        "count", "mean", "p50", "p90", "p99", "p99.9", "max");
	put_hist(out, "connect", &f->connect);
	put_hist(out, "first byte", &f->first_byte);
	put_hist(out, "be shed", &f->shed);
	put_hist(out, "echo", &f->sample);
}

static void put_outcomes(FILE *out, const struct figures *f)
{
	char buf[NUMBER_MAX];

	(void)putc('\n', out);
	for (int i = 0; i < OUTCOME_COUNT; i++)
		(void)fprintf(out, "  %-10s %12s  %s\n", words[i],
		        grouped(figure_get(&f->outcome[i]), buf), texts[i]);
	if (figure_get(&f->undecided))
		(void)fprintf(out, "  %-10s %12s  cut off by the end\n", "undecided",
		        grouped(figure_get(&f->undecided), buf));
	for (int i = 0; i < OUTCOME_COUNT; i++)
		if (figure_get(&f->lost[i]))
			(void)fprintf(out, "  lost       %12s  %s while it stood\n",
			        grouped(figure_get(&f->lost[i]), buf), words[i]);
}

static void put_head(FILE *out, const struct report *r)
{
	const struct figures *f = r->figures;
	char a[NUMBER_MAX], b[NUMBER_MAX], c[NUMBER_MAX];

	(void)fprintf(out, "%s %s: %s connection%s in %.2f s, %.1f/s",
	        options_command_name(r->options->command), r->options->target_text,
	        grouped(figure_get(&f->attempted), a), PLURAL(figure_get(&f->attempted)),
	        seconds(r->elapsed), report_rate(r));
	if (r->options->rate)
		(void)fprintf(out, " (asked: %s/s)", grouped(r->options->rate, b));
	(void)fprintf(out, ", at most %s open\n", grouped(figure_get(&f->open_peak), c));
	if (r->options->command == COMMAND_HOLD)
		(void)fprintf(out, "%s stand%s, after %.2f s\n",
		        grouped(figure_get(&f->standing), a),
		        figure_get(&f->standing) == 1 ? "s" : "", seconds(r->opened));
}

static void put_steps(FILE *out, const struct report *r)
{
	char a[NUMBER_MAX], b[NUMBER_MAX], c[NUMBER_MAX], d[NUMBER_MAX];

	(void)fprintf(out, "\n  %10s %12s %10s %10s %12s\n", "rate", "achieved", "p50",
	        "p99", "not served");
	for (unsigned i = 0; i < r->step_count; i++) {
		const struct step *s = &r->steps[i];
		(void)fprintf(out, "  %10s %12.1f %10s %10s %12s%s\n",
		        grouped(s->rate, a), s->achieved, time_text(s->p50, b),
		        time_text(s->p99, c), grouped(s->not_served, d),
		        (int)i == r->knee ? "  knee" : "");
	}
	if (r->knee >= 0)
		(void)fprintf(out,
		        "\nknee: %s/s was the last rate with every connection served in "
		        "time\n",
		        grouped(r->steps[r->knee].rate, a));
	else
		(void)fputs(r->step_count > 0
		                    ? "\nknee: below the first rate\n"
		                    : "\nknee: unknown, the first step was cut short\n",
		        out);
}

int report_flush(FILE *out)
{
	errno = 0;
	if (fflush(out) == EOF && errno != 0)
		return -errno;
	return ferror(out) ? -EIO : 0;
}

int report_text(const struct report *r, FILE *out)
{
	const struct figures *f = r->figures;

	put_head(out, r);
	put_outcomes(out, f);
	put_times(out, f);
	if (r->options->sample)
		(void)fprintf(out,
		        "\nof %" PRIu64 " asked while all stood, %" PRIu64 " echoed\n",
		        figure_get(&f->sampled) + figure_get(&f->unsampled),
		        figure_get(&f->sampled));
	if (r->options->command == COMMAND_RAMP)
		put_steps(out, r);
	if (r->limited_by[0])
		(void)fprintf(out, "\nlimited by: %s\n", r->limited_by);
	if (r->still_open)
		(void)fputs("\nholding; Ctrl-C ends it\n", out);
	return report_flush(out);
}
