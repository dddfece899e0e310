/*
 * report.h - what a run has found, for people and for programs.
 */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "load/options.h"
#include "load/plan.h"
#include "load/shared.h"

#define REPORT_LIMITED_MAX 1024
#define REPORT_STEPS_MAX   64

/* One step of a ramp. */
struct step {
	uint64_t rate; /* asked, a second */
	double achieved;
	uint64_t p50, p99; /* ns, of the first byte */
	uint64_t served, not_served;
	bool clean;
};

struct report {
	const struct options *options;
	const struct plan *plan;
	struct figures *figures;
	const struct figures *last; /* of the last round alone: a ramp has many */
	uint64_t elapsed;           /* ns from the first connection's time to now */
	uint64_t starting;          /* ns of it in which connections were started */
	uint64_t opened;            /* hold: ns until all stood */
	uint64_t lost;              /* processes that died */
	int lost_status;
	bool still_open; /* hold: the first of its two objects */
	struct step steps[REPORT_STEPS_MAX];
	unsigned step_count;
	int knee;                            /* number of the last clean step, -1: none */
	char limited_by[REPORT_LIMITED_MAX]; /* empty: nothing */
};

/* The word in JSON and in texts: served, timed_out … */
const char *report_outcome_word(enum outcome outcome);

/* What of portload itself, or of this machine, stood in the way: fills limited_by. */
void report_find_limits(struct report *report);

/* Connections started a second. */
double report_rate(const struct report *report);

/* Writes out what is left in the stream. Returns 0, or -errno of that or of what was written before
 * (-EIO where that is not known). */
int report_flush(FILE *out);

/* Return 0 or -errno of the stream, which is flushed. */
int report_text(const struct report *report, FILE *out);
int report_json(const struct report *report, FILE *out);

#endif
