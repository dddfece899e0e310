/*
 * burst.h - the worst bursts that the port has seen: how many came in one second, and for how long
 * nobody looked at a queue with somebody in it. What a backlog has to bear is the one times the other
 * (portctl limits).
 *
 * All workers write, anybody reads. Times are ns of CLOCK_MONOTONIC.
 */
#ifndef CORE_BURST_H
#define CORE_BURST_H

#include <stdatomic.h>
#include <stdint.h>

/* Zeroed memory has seen nothing. */
struct burst {
	_Alignas(64) _Atomic uint64_t window; /* a second, and how many came in it */
	_Atomic uint64_t looked;              /* when somebody last asked for a client */
	_Atomic uint32_t arrivals_peak; /* most accepted in one second of the clock */
	_Atomic uint64_t pause;         /* longest with a client waiting, ns */
};

/* n clients were accepted. */
void burst_note_arrivals(struct burst *b, uint64_t n, uint64_t now);

/* The queue is looked at now. Returns how long it was not, if that is a millisecond at least and longer
 * than every pause so far, and so worth asking whether a client has waited; else 0. */
uint64_t burst_look(struct burst *b, uint64_t now);

/* Nobody had looked for `gap`, what burst_look said, and the client at the head of the queue has waited
 * for `age`. */
void burst_note_pause(struct burst *b, uint64_t gap, uint64_t age);

#endif
