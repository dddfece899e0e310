/*
 * event.c - the ring between one worker and the main thread.
 *
 * Invariants: head and tail run freely and wrap with uint32_t; head - tail is the number
 * of records waiting, at most EVENT_RING_SIZE. Only the writer moves head and counts what
 * was dropped, only the reader moves tail. A record is written before head passes it
 * (release) and read before tail does.
 */
#include "core/event.h"

_Static_assert((EVENT_RING_SIZE & (EVENT_RING_SIZE - 1)) == 0,
        "places stay in order when the positions wrap");

int event_push(struct event_ring *ring, const struct event *event)
{
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	if (head - tail == EVENT_RING_SIZE) {
		uint64_t dropped =
		        atomic_load_explicit(&ring->dropped, memory_order_relaxed);
		atomic_store_explicit(&ring->dropped, dropped + 1, memory_order_relaxed);
		return 1;
	}
	ring->record[head % EVENT_RING_SIZE] = *event;
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return 0;
}

int event_pop(struct event_ring *ring, struct event *ret)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	if (head == tail)
		return 0;
	*ret = ring->record[tail % EVENT_RING_SIZE];
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	return 1;
}
