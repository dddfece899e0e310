/*
 * counters.c - COUNT: the rows of one worker's block, and their sum.
 *
 * Invariants: only the owner writes a block, so an addition is a load and a store and
 * never a locked instruction; each row is one atomic, so a reader sees every number
 * whole, though not all rows of one instant. struct counts has no field but uint64_t, so
 * that a row's number is its offset.
 */
#include "core/counters.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"

#define ROWS (sizeof(struct counts) / sizeof(uint64_t))

_Static_assert(sizeof(struct counts) == ROWS * sizeof(uint64_t), "a row is a uint64_t");

static const uint64_t wait_bounds_ms[] = COUNTERS_WAIT_BOUNDS_MS;

_Static_assert(ARRAY_SIZE(wait_bounds_ms) == COUNTERS_WAIT_BUCKETS - 1,
        "one more bucket than bounds");

static const char *const accept_error_names[] = {
#define X(name, class) #name,
#include "core/accept_errors.def"
#undef X
};

static const char *const shed_names[] = {
#define X(name, word, kind, help) word,
#include "core/sheds.def"
#undef X
};

static const enum shed_kind shed_kinds[] = {
#define X(name, word, kind, help) SHED_KIND_##kind,
#include "core/sheds.def"
#undef X
};

static const char *const close_names[] = {
#define X(name, word, help) word,
#include "core/closes.def"
#undef X
};

static enum accept_error accept_error_row(int err)
{
	/* The last row of the table is no errno; as a label it needs a value that none
	 * has. */
	enum {
		OTHER = -1
	};

	switch (err) {
#define X(name, class) \
	case name: \
		return ACCEPT_ERROR_##name;
#include "core/accept_errors.def"
#undef X
	}
	return ACCEPT_ERROR_OTHER;
}

void counters_add_would_shed(struct counters *c, enum shed_reason reason)
{
	counters_add_row(c, COUNTERS_ROW(would_shed) + (size_t)reason, 1);
}

void counters_add_turn(struct counters *c, uint64_t ns)
{
	_Atomic uint64_t *longest = &c->row[COUNTERS_ROW(longest_loop_ns)];

	counters_add_row(c, COUNTERS_ROW(loops), 1);
	if (ns > atomic_load_explicit(longest, memory_order_relaxed))
		atomic_store_explicit(longest, ns, memory_order_relaxed);
}

enum accept_error counters_add_accept_error(struct counters *c, int err)
{
	enum accept_error row = accept_error_row(err);

	counters_add_row(c, COUNTERS_ROW(accept_error) + (size_t)row, 1);
	return row;
}

void counters_add_wait(struct counters *c, uint64_t ns)
{
	size_t i = 0;

	/* A bound belongs to its bucket: `le` means less or equal. */
	while (i < ARRAY_SIZE(wait_bounds_ms) && ns > wait_bounds_ms[i] * CLOCK_MSEC)
		i++;
	counters_add_row(c, COUNTERS_ROW(wait) + i, 1);
	counters_add_row(c, COUNTERS_ROW(wait_sum_ns), ns);
}

void counters_read(const struct counters *c, struct counts *ret)
{
	uint64_t row[ROWS];

	for (size_t i = 0; i < ROWS; i++)
		row[i] = atomic_load_explicit(&c->row[i], memory_order_relaxed);
	memcpy(ret, row, sizeof(row));
}

void counts_sum(struct counts *sum, const struct counts *more)
{
	uint64_t longest = sum->longest_loop_ns > more->longest_loop_ns
	                           ? sum->longest_loop_ns
	                           : more->longest_loop_ns;
	uint64_t a[ROWS], b[ROWS];

	memcpy(a, sum, sizeof(a));
	memcpy(b, more, sizeof(b));
	for (size_t i = 0; i < ROWS; i++)
		a[i] += b[i];
	memcpy(sum, a, sizeof(a));
	sum->longest_loop_ns = longest;
}

uint64_t counts_total_shed(const struct counts *c)
{
	uint64_t total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(c->shed); i++)
		total += c->shed[i];
	return total;
}

uint64_t counts_total_closed(const struct counts *c)
{
	uint64_t total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(c->closed); i++)
		total += c->closed[i];
	return total;
}

const char *counters_accept_error_name(enum accept_error e)
{
	return (size_t)e < ARRAY_SIZE(accept_error_names) ? accept_error_names[e] : "?";
}

const char *counters_shed_name(enum shed_reason r)
{
	return (size_t)r < ARRAY_SIZE(shed_names) ? shed_names[r] : "?";
}

enum shed_kind counters_shed_kind(enum shed_reason r)
{
	return shed_kinds[r];
}

const char *counters_close_name(enum close_reason r)
{
	return (size_t)r < ARRAY_SIZE(close_names) ? close_names[r] : "?";
}
