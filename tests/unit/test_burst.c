/*
 * test_burst.c - how many came in a second, and how long nobody looked.
 */
#include <criterion/criterion.h>

#include <pthread.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/burst.h"

#define START (1000 * CLOCK_SEC)

Test(burst, the_peak_is_the_most_of_one_second)
{
	struct burst b = {0};
	burst_note_arrivals(&b, 3, START);
	burst_note_arrivals(&b, 4, START + CLOCK_SEC - 1);
	cr_assert_eq(b.arrivals_peak, 7);
	burst_note_arrivals(&b, 6, START + CLOCK_SEC);
	cr_assert_eq(b.arrivals_peak, 7, "another second");
	/* From a worker that is late: it belongs to what is counted now. */
	burst_note_arrivals(&b, 2, START);
	cr_assert_eq(b.arrivals_peak, 8);
	burst_note_arrivals(&b, UINT64_C(1) << 40, START + 5 * CLOCK_SEC);
	cr_assert_eq(b.arrivals_peak, UINT32_MAX);
	burst_note_arrivals(&b, 1, START + 6 * CLOCK_SEC);
	cr_assert_eq(b.window & UINT32_MAX, 1);
}

static void *arrive(void *arg)
{
	for (int i = 0; i < 20000; i++)
		burst_note_arrivals(arg, 2, START);
	return NULL;
}

Test(burst, no_arrival_is_lost_between_threads)
{
	struct burst b = {0};
	pthread_t thread[3];
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, arrive, &b), 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	cr_assert_eq(b.arrivals_peak, 120000);
}

Test(burst, a_pause_is_what_the_client_has_waited_of_it)
{
	struct burst b = {0};
	cr_assert_eq(burst_look(&b, START), 0, "nobody looked before");
	cr_assert_eq(burst_look(&b, START + CLOCK_MSEC - 1), 0, "ages are in ms");
	uint64_t gap = burst_look(&b, START + CLOCK_MSEC - 1 + CLOCK_SEC);
	cr_assert_eq(gap, CLOCK_SEC);
	burst_note_pause(&b, gap, 3 * CLOCK_MSEC);
	cr_assert_eq(b.pause, 3 * CLOCK_MSEC, "it came at the end of an idle second");
	cr_assert_eq(
	        burst_look(&b, START + CLOCK_SEC + 4 * CLOCK_MSEC - 1), 0, "no record");
	gap = burst_look(&b, START + 2 * CLOCK_SEC);
	burst_note_pause(&b, gap, 5 * CLOCK_SEC);
	cr_assert_eq(b.pause, gap, "it waits longer than nobody looked");
	burst_note_pause(&b, CLOCK_MSEC, CLOCK_MSEC);
	cr_assert_eq(b.pause, gap);
	cr_assert_eq(burst_look(&b, START), 0, "a clock that is behind");
}
