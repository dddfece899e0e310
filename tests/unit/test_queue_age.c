/*
 * test_queue_age.c - how long clients have been in the queue at least: beside a model that knows when
 * each has really come.
 */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "base/clock.h"
#include "core/queue_age.h"

#define MS(n) ((uint64_t)(n)*CLOCK_MSEC)

static struct queue_age q;

static void count(uint64_t number, uint64_t at, uint64_t spacing)
{
	queue_age_note(&q,
	        &(struct queue_look){.epoch = queue_age_epoch(&q),
	                .number = number,
	                .most = number,
	                .at = at},
	        spacing);
}

Test(queue_age, the_oldest_count_that_has_a_client_says_since_when)
{
	queue_age_init(&q);
	cr_assert_not(queue_age_is_known(&q));
	cr_assert_eq(queue_age_since(&q, 1), CLOCK_INFINITY);
	count(3, MS(10), 1);
	count(5, MS(20), 1);
	/* Nobody has come since. */
	count(5, MS(30), 1);
	count(6, MS(40), 1);
	cr_assert(queue_age_is_known(&q));
	cr_assert_eq(queue_age_since(&q, 1), MS(10));
	cr_assert_eq(queue_age_since(&q, 3), MS(10));
	cr_assert_eq(queue_age_since(&q, 4), MS(20));
	cr_assert_eq(queue_age_since(&q, 5), MS(20));
	cr_assert_eq(queue_age_since(&q, 6), MS(40));
	/* Who asks late for an earlier one gets less, never more. */
	cr_assert_eq(queue_age_since(&q, 2), MS(40));
	cr_assert_eq(queue_age_since(&q, 7), CLOCK_INFINITY);
	cr_assert_not(queue_age_is_known(&q));
	queue_age_destroy(&q);
}

Test(queue_age, what_was_emptied_says_nothing)
{
	queue_age_init(&q);
	count(3, MS(10), 1);
	count(4, MS(20), 1);
	queue_age_empty(&q, MS(15));
	cr_assert_eq(queue_age_since(&q, 1), MS(20), "the later count stays");
	queue_age_empty(&q, MS(20));
	cr_assert_not(queue_age_is_known(&q));

	struct queue_look look = {
	        .epoch = queue_age_epoch(&q), .number = 9, .most = 9, .at = MS(30)};
	queue_age_note(&q, &look, 1);
	queue_age_forget(&q);
	cr_assert_eq(queue_age_since(&q, 9), CLOCK_INFINITY);
	/* It was read before, and comes after. */
	look.number = 10;
	queue_age_note(&q, &look, 1);
	cr_assert_eq(queue_age_since(&q, 9), CLOCK_INFINITY);
	count(10, MS(50), 1);
	cr_assert_eq(queue_age_since(&q, 9), MS(50));
	queue_age_destroy(&q);
}

/* Somebody else accepts from the same listener. */
Test(queue_age, counts_that_turn_out_too_high_are_forgotten)
{
	queue_age_init(&q);
	count(100, MS(10), 1);
	queue_age_note(&q,
	        &(struct queue_look){.epoch = queue_age_epoch(&q),
	                .number = 89,
	                .most = 99,
	                .at = MS(20)},
	        1);
	cr_assert_eq(queue_age_since(&q, 89), MS(20));
	cr_assert_eq(queue_age_since(&q, 90), CLOCK_INFINITY);
	queue_age_destroy(&q);
}

/* Clients come in bursts and are counted now and then; one is accepted now and then, after up to 5 s. */
Test(queue_age, is_never_too_long_and_too_short_by_the_spacing_only)
{
	enum {
		CLIENTS = 20000
	};
	uint64_t *came = calloc(CLIENTS, sizeof(*came)),
	         *counted = calloc(CLIENTS, sizeof(*counted));
	uint64_t now = 1, in = 0, out = 0, known = 0, spacing = MS(4);
	unsigned seed = 5;
	cr_assert(came && counted);
	queue_age_init(&q);
	while (out < CLIENTS) {
		now += (uint64_t)rand_r(&seed) % MS(2);
		unsigned burst =
		        rand_r(&seed) % 8 == 0 ? (unsigned)rand_r(&seed) % 30 : 0;
		for (; burst > 0 && in < CLIENTS; burst--)
			came[in++] = now;
		if (in > known && rand_r(&seed) % 2) {
			now += (uint64_t)rand_r(&seed) % 1000;
			count(in, now, spacing);
			while (known < in)
				counted[known++] = now;
		}
		if (out < in &&
		        (in - out > 1000 || in == CLIENTS || rand_r(&seed) % 4 == 0)) {
			uint64_t since = queue_age_since(&q, ++out);
			if (out > known) {
				cr_assert_eq(since, CLOCK_INFINITY);
				continue;
			}
			cr_assert_geq(since, came[out - 1], "older than it is");
			cr_assert_leq(
			        since, counted[out - 1] + spacing, "younger than known");
		}
	}
	free(came);
	free(counted);
	queue_age_destroy(&q);
}

/* Far more counts than there is room for: what is old is forgotten, what is not is still right. */
Test(queue_age, the_ring_forgets_the_oldest)
{
	queue_age_init(&q);
	for (uint64_t i = 1; i <= 3 * QUEUE_AGE_COUNTS; i++)
		count(i, MS(i), 1);
	cr_assert_eq(queue_age_since(&q, 1), MS(2 * QUEUE_AGE_COUNTS + 1));
	cr_assert_eq(queue_age_since(&q, 3 * QUEUE_AGE_COUNTS - 5),
	        MS(3 * QUEUE_AGE_COUNTS - 5));
	queue_age_destroy(&q);
}
