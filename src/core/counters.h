/*
 * counters.h - COUNT: one block of counters a worker, one writer each.
 *
 * Only the owning worker writes its block (relaxed load and store, no read-modify-write, no shared
 * cache line); anybody may sum the blocks. The books balance:
 *
 *   accepted = held + connections + sum of shed + sum of closed
 *
 * where connections and held are kept apart from the counters (worker.c) and the sums come from
 * here, so that the equation can be false and a test can see it.
 */
#ifndef CORE_COUNTERS_H
#define CORE_COUNTERS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum counter {
#define X(name, json, prom, help) COUNTER_##name,
#include "core/counters.def"
#undef X
	COUNTER_COUNT
};

enum accept_error {
#define X(name, class) ACCEPT_ERROR_##name,
#include "core/accept_errors.def"
#undef X
	ACCEPT_ERROR_COUNT
};

enum shed_reason {
#define X(name, word, kind, help) SHED_##name,
#include "core/sheds.def"
#undef X
	SHED_COUNT
};

/* What a reason has to do with the state: sheds.def. */
enum shed_kind {
	SHED_KIND_CHOSEN,
	SHED_KIND_SHORT,
	SHED_KIND_WAITED
};

enum close_reason {
#define X(name, word, help) CLOSE_##name,
#include "core/closes.def"
#undef X
	CLOSE_COUNT
};

/* Upper bounds of the queue-wait histogram, in ms; one more bucket is for the rest. */
#define COUNTERS_WAIT_BOUNDS_MS \
	{ \
		1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000 \
	}
#define COUNTERS_WAIT_BUCKETS 13

/* What one block says, or the sum of all: plain numbers. */
struct counts {
	uint64_t counter[COUNTER_COUNT];
	uint64_t accept_error[ACCEPT_ERROR_COUNT];
	uint64_t shed[SHED_COUNT];
	uint64_t would_shed[SHED_COUNT]; /* [shed] dry_run: no term of the books */
	uint64_t closed[CLOSE_COUNT];
	uint64_t wait[COUNTERS_WAIT_BUCKETS]; /* not cumulative */
	uint64_t wait_sum_ns;
	uint64_t loops; /* turns of the epoll loop */
	uint64_t
	        longest_loop_ns; /* the longest turn; the sum of blocks takes the greatest */
};

/* A block: the same rows, each atomic. */
struct counters {
	_Alignas(64) _Atomic uint64_t row[sizeof(struct counts) / sizeof(uint64_t)];
	/* Calls of accept4 that have returned; COUNTER_ACCEPT_CALLS has each before it begins. */
	_Atomic uint64_t calls_over;
};

#define COUNTERS_ROW(field) (offsetof(struct counts, field) / sizeof(uint64_t))

/* Adds n to a row. Owner only. */
static inline void counters_add_row(struct counters *c, size_t row, uint64_t n)
{
	uint64_t v = atomic_load_explicit(&c->row[row], memory_order_relaxed);
	atomic_store_explicit(&c->row[row], v + n, memory_order_relaxed);
}

static inline void counters_add(struct counters *c, enum counter which, uint64_t n)
{
	counters_add_row(c, COUNTERS_ROW(counter) + (size_t)which, n);
}
/* What the row says now. Any thread. */
static inline uint64_t counters_get(const struct counters *c, enum counter which)
{
	return atomic_load_explicit(
	        &c->row[COUNTERS_ROW(counter) + (size_t)which], memory_order_relaxed);
}
/* The call of accept4 that was counted last has returned. Owner only. */
static inline void counters_end_call(struct counters *c)
{
	atomic_store_explicit(&c->calls_over, counters_get(c, COUNTER_ACCEPT_CALLS),
	        memory_order_release);
}
static inline uint64_t counters_calls_over(const struct counters *c)
{
	return atomic_load_explicit(&c->calls_over, memory_order_acquire);
}
static inline void counters_add_shed(struct counters *c, enum shed_reason reason)
{
	counters_add_row(c, COUNTERS_ROW(shed) + (size_t)reason, 1);
}
/* [shed] dry_run: it was not shed, but would have been. */
void counters_add_would_shed(struct counters *c, enum shed_reason reason);
static inline void counters_add_closed(struct counters *c, enum close_reason reason)
{
	counters_add_row(c, COUNTERS_ROW(closed) + (size_t)reason, 1);
}
/* One turn of the loop that took ns. */
void counters_add_turn(struct counters *c, uint64_t ns);
/* One failed accept4; err is a positive errno. Returns its row. */
enum accept_error counters_add_accept_error(struct counters *c, int err);
/* One observation of the time in the backlog queue. */
void counters_add_wait(struct counters *c, uint64_t ns);

/* What the block says now. Any thread. */
void counters_read(const struct counters *c, struct counts *ret);
/* Adds `more` to sum, row by row. */
void counts_sum(struct counts *sum, const struct counts *more);
/* The value of one accept-error, shed, close row: for tests and text. */
uint64_t counts_total_shed(const struct counts *c);
uint64_t counts_total_closed(const struct counts *c);

/* The words of the tables: "EMFILE", "full", "client". */
const char *counters_accept_error_name(enum accept_error e);
const char *counters_shed_name(enum shed_reason r);
enum shed_kind counters_shed_kind(enum shed_reason r);
const char *counters_close_name(enum close_reason r);

#endif
