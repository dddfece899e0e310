/*
 * shed.h - SHED: a connection that was accepted only to be answered and closed, with a
 * reason.
 */
#ifndef CORE_SHED_H
#define CORE_SHED_H

#include "core/counters.h"
#include "net/addr.h"

struct worker;

/* Answers as configured, closes fd (or lets it linger), counts it under this one reason, and
 * notes it in the books of its source. An empty peer is asked for. SHED_ABORTED gets no answer. Takes
 * over fd. The caller's worker only. */
void shed(
        struct worker *worker, int fd, enum shed_reason reason, const struct addr *peer);

/* Counts a client that is gone already under this reason. */
void shed_note(struct worker *worker, enum shed_reason reason, const struct addr *peer);

#endif
