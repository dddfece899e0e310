/*
 * shared.h - what the parent and its worker processes share: one order for all, and one
 * block for each worker, which only that worker writes while it has an order to carry out.
 *
 * An order is a word and its figures, valid once its serial number has gone up. A worker
 * says in `done` which order it has carried out. Counters may be read at any time; the
 * histograms, and the rest, only once the worker has said that it is done.
 */
#ifndef LOAD_SHARED_H
#define LOAD_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "load/hist.h"

enum outcome {
#define X(name, word, turned_away, text) OUTCOME_##name,
#include "load/outcomes.def"
#undef X
	OUTCOME_COUNT
};

enum order_word {
	ORDER_REST,
	/* Start connections from `start` on, until `until` or until their number is complete.
	 * Done when each of them has its outcome; hold: and has settled. */
	ORDER_RUN,
	/* Start no more. What has no outcome yet is given up, as `undecided`. */
	ORDER_CUT,
	/* Let the parts of --sample of processes number `start` to `until` - 1 say something. Done when
	 * all of them have answered; the others are at once. */
	ORDER_SAMPLE,
	/* Close everything and exit. */
	ORDER_QUIT
};

struct order {
	_Atomic uint32_t serial;
	_Atomic uint32_t word;
	_Atomic uint64_t start; /* ns of clock_now */
	_Atomic uint64_t until; /* or CLOCK_INFINITY */
	_Atomic uint64_t
	        rate; /* a second, of all workers together; 0: as fast as possible */
};

/* Why a connection could not start when it was due, and what kept it. */
enum late {
	LATE_OPEN,   /* as many were open as --connections allows */
	LATE_WINDOW, /* too many connects were under way */
	LATE_SELF,   /* portload did not get there in time */
	LATE_COUNT
};

/* Errors of this machine, the first few kinds. */
#define SHARED_ERRORS 4
struct error_count {
	int error; /* 0: a free row */
	uint64_t count;
};

/* What is measured between two orders to run. */
struct figures {
	_Atomic uint64_t attempted;
	_Atomic uint64_t outcome[OUTCOME_COUNT];
	_Atomic uint64_t undecided;
	_Atomic uint64_t lost[OUTCOME_COUNT]; /* of those that stood: how they ended */
	_Atomic uint64_t open;                /* now: connecting, waiting or held */
	_Atomic uint64_t open_peak;
	_Atomic uint64_t standing; /* hold: now */
	_Atomic uint64_t sampled;  /* that echoed */
	_Atomic uint64_t unsampled;
	uint64_t late[LATE_COUNT];
	uint64_t lag_max;            /* ns behind the schedule */
	uint64_t last_start;         /* ns of clock_now */
	uint64_t wall, cpu, waiting; /* ns: of the order; on a CPU, and waiting for one */
	struct error_count errors[SHARED_ERRORS];
	struct hist connect, first_byte, shed, sample;
};

struct shared {
	_Atomic uint32_t done; /* the serial number of the order that is carried out */
	struct figures figures;
};

static inline uint64_t figure_get(const _Atomic uint64_t *figure)
{
	return atomic_load_explicit(figure, memory_order_relaxed);
}

/* By the block's writer only: no read-modify-write is needed. */
static inline void figure_add(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(figure, figure_get(figure) + n, memory_order_relaxed);
}

static inline void figure_set(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(figure, n, memory_order_relaxed);
}

#endif
