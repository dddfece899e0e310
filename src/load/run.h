/*
 * run.h - the commands, as the parent carries them out.
 */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "load/crew.h"
#include "load/report.h"

/* Carry the command out with a crew that rests, and print its report on standard output.
 * report has its options, plan and figures. Return an exit code. */
int run_churn(struct crew *crew, struct report *report); /* flood too */
int run_hold(struct crew *crew, struct report *report);
int run_ramp(struct crew *crew, struct report *report);

/* For ramp.c: one order to run, from now for `duration`, to its end; Ctrl-C cuts it short. Adds what was
 * measured to report->figures. Returns how it ended: CREW_DONE, CREW_INTERRUPTED, CREW_LOST. */
enum crew_event run_round(
        struct crew *crew, struct report *report, uint64_t duration, uint64_t rate);
/* Finds the limits and prints. Returns the exit code. */
int run_report(const struct crew *crew, struct report *report);

#endif
