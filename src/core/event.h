/*
 * event.h - what a worker has to tell the operator, handed to the main thread through a
 * bounded ring: one writer (the worker), one reader (main). A full ring drops the record
 * and counts it, so a worker never waits for a log. What must keep its order among workers
 * goes through one ring of all, with a lock for its writers.
 */
#ifndef CORE_EVENT_H
#define CORE_EVENT_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/state.h"

enum event_kind {
	EVENT_FULL,     /* a spell began: spell.cause, .depth_began */
	EVENT_NOT_FULL, /* it ended: spell, all of it */
	EVENT_ACCEPT_ERROR, /* accept4 fails in a way that has no row, or again and again: err */
	EVENT_KIND_COUNT
};

struct event {
	enum event_kind kind;
	unsigned worker;
	int err; /* positive errno */
	struct state_spell spell;
};

#define EVENT_RING_SIZE 64U

struct event_ring {
	_Atomic uint32_t head; /* next to write */
	_Atomic uint32_t tail; /* next to read */
	_Atomic uint64_t dropped;
	struct event record[EVENT_RING_SIZE];
};

/* Writer only. Returns 0, or 1 if the ring was full (counted in dropped). */
int event_push(struct event_ring *ring, const struct event *event);
/* Reader only. Returns 1 and fills *ret, or 0 if the ring is empty. */
int event_pop(struct event_ring *ring, struct event *ret);

#endif
