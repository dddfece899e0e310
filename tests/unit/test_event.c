/*
 * test_event.c - the ring: order, a full one, positions that wrap, and two threads at
 * once.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <sched.h>

#include "core/event.h"

static struct event numbered(int n)
{
	return (struct event){
	        .kind = EVENT_NOT_FULL,
	        .worker = (unsigned)n,
	        .err = n,
	        .spell = {.cause = STATE_CAUSE_FDS,
	                .shed = (uint64_t)n,
	                .depth_peak = (uint64_t)n + 1},
	};
}

static void assert_numbered(const struct event *e, int n)
{
	cr_assert_eq(e->kind, EVENT_NOT_FULL);
	cr_assert_eq(e->err, n);
	cr_assert_eq(e->worker, (unsigned)n);
	cr_assert_eq(e->spell.cause, STATE_CAUSE_FDS);
	cr_assert_eq(e->spell.shed, (uint64_t)n);
	cr_assert_eq(e->spell.depth_peak, (uint64_t)n + 1);
}

static void fill_and_empty(struct event_ring *ring)
{
	uint64_t dropped = ring->dropped;
	struct event e = {0};

	cr_assert_eq(event_pop(ring, &e), 0);
	for (int i = 0; i < (int)EVENT_RING_SIZE; i++) {
		e = numbered(i);
		cr_assert_eq(event_push(ring, &e), 0, "record %d", i);
	}
	for (int i = 0; i < 3; i++) {
		e = numbered(1000 + i);
		cr_assert_eq(event_push(ring, &e), 1);
		cr_assert_eq(ring->dropped, dropped + (uint64_t)i + 1);
	}
	for (int i = 0; i < (int)EVENT_RING_SIZE; i++) {
		cr_assert_eq(event_pop(ring, &e), 1);
		assert_numbered(&e, i);
	}
	cr_assert_eq(event_pop(ring, &e), 0);
}

Test(event, a_full_ring_drops_the_newest_and_counts_it)
{
	static struct event_ring ring;

	fill_and_empty(&ring);
	fill_and_empty(&ring);
}

Test(event, order_survives_the_wrap_of_the_positions)
{
	static struct event_ring ring;

	ring.head = ring.tail = UINT32_MAX - EVENT_RING_SIZE / 2 + 5;
	fill_and_empty(&ring);
}

Test(event, a_place_is_free_again_once_read)
{
	static struct event_ring ring;
	struct event e;

	for (int i = 0; i < 1000; i++) {
		e = numbered(i);
		cr_assert_eq(event_push(&ring, &e), 0);
		if (i % 2) {
			cr_assert_eq(event_pop(&ring, &e), 1);
			assert_numbered(&e, i - 1);
			cr_assert_eq(event_pop(&ring, &e), 1);
			assert_numbered(&e, i);
		}
	}
	cr_assert_eq(ring.dropped, 0);
}

#define PUSHES 200000

static struct event_ring shared;
static _Atomic int written; /* how many, once that is known */
static _Atomic int seen;    /* by the reader */

/* At least PUSHES, and until the reader has seen more than one ring's worth: it may get no
 * CPU for a while. */
static void *write_all(void *arg)
{
	int pushed = 0, i;

	for (i = 0; i < PUSHES || seen <= (int)EVENT_RING_SIZE; i++) {
		struct event e = numbered(i);

		pushed += event_push(&shared, &e) == 0;
		/* On one CPU the reader would see nothing but full rings. */
		if (i % 100 == 0)
			sched_yield();
	}
	written = i;
	*(int *)arg = pushed;
	return NULL;
}

Test(event, one_writer_and_one_reader_lose_nothing_uncounted)
{
	pthread_t writer;
	struct event e;
	int pushed = 0, popped = 0, last = -1, over;

	cr_assert_eq(pthread_create(&writer, NULL, write_all, &pushed), 0);
	do {
		over = written;
		while (event_pop(&shared, &e)) {
			cr_assert_gt(e.err, last);
			assert_numbered(&e, e.err);
			last = e.err;
			seen = ++popped;
		}
	} while (!over);
	cr_assert_eq(pthread_join(writer, NULL), 0);
	cr_assert_eq(popped, pushed);
	cr_assert_eq((uint64_t)popped + shared.dropped, (uint64_t)written);
	cr_assert_gt(popped, (int)EVENT_RING_SIZE);
}
