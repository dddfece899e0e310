/*
 * burst.c - see burst.h. A line of memory that all workers share, written once a turn and not once a
 * connection.
 *
 * The time between two looks counts only as far as the head of the queue has waited: an idle port is
 * not looked at for hours. Asking for that age is a system call, so only a new record asks.
 */
#include "core/burst.h"

#include "base/clock.h"

/* The kernel tells ages in ms: of less there is nothing to be known. */
#define BURST_LEAST CLOCK_MSEC
#define WINDOW_BITS 32U
#define WINDOW_MAX  UINT32_MAX

void burst_note_arrivals(struct burst *b, uint64_t n, uint64_t now)
{
	uint64_t second = now / CLOCK_SEC;
	uint64_t old = atomic_load_explicit(&b->window, memory_order_relaxed), sum;
	do {
		/* A worker that is late adds to the second that is on: it is the same burst. */
		if (second < old >> WINDOW_BITS)
			second = old >> WINDOW_BITS;
		sum = n + (second == old >> WINDOW_BITS ? old & WINDOW_MAX : 0);
		if (sum > WINDOW_MAX)
			sum = WINDOW_MAX;
	} while (!atomic_compare_exchange_weak(
	        &b->window, &old, second << WINDOW_BITS | sum));

	uint32_t peak = atomic_load_explicit(&b->arrivals_peak, memory_order_relaxed);
	while (sum > peak &&
	        !atomic_compare_exchange_weak(&b->arrivals_peak, &peak, (uint32_t)sum))
		;
}

uint64_t burst_look(struct burst *b, uint64_t now)
{
	uint64_t looked = atomic_load_explicit(&b->looked, memory_order_relaxed);
	atomic_store_explicit(&b->looked, now, memory_order_relaxed);
	if (looked == 0 || now < looked + BURST_LEAST ||
	        now - looked <= atomic_load_explicit(&b->pause, memory_order_relaxed))
		return 0;
	return now - looked;
}

void burst_note_pause(struct burst *b, uint64_t gap, uint64_t age)
{
	uint64_t pause = gap < age ? gap : age;
	uint64_t longest = atomic_load_explicit(&b->pause, memory_order_relaxed);
	while (pause > longest &&
	        !atomic_compare_exchange_weak(&b->pause, &longest, pause))
		;
}
