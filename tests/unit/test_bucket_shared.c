/*
 * test_bucket_shared.c - a token bucket that threads share: no token twice, none lost, the bound in every
 * window whatever their clocks say.
 */
#include <criterion/criterion.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/bucket.h"

__extension__ typedef __int128 wide;

#define START (5 * CLOCK_SEC + 7)

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

#define RACERS 4
#define TRIES  1000000
#define BURST  2250000

struct race {
	struct bucket_shared s;
	_Atomic unsigned granted;
	uint64_t now;    /* 0: the clock's */
	uint64_t *taken; /* or NULL */
	unsigned tries;
	bool returns;
	pthread_barrier_t start;
};

static void *take_many(void *arg)
{
	struct race *race = arg;

	(void)pthread_barrier_wait(&race->start);
	for (unsigned i = 0; i < race->tries; i++) {
		uint64_t now = race->now ? race->now : clock_now();

		if (bucket_shared_take(&race->s, now) != 0)
			continue;
		if (race->returns && i % 4 == 0)
			bucket_shared_return(&race->s, now, now);
		else if (race->taken)
			race->taken[race->granted++] = now;
		else
			race->granted++;
	}
	return NULL;
}

static void run_race(struct race *race)
{
	pthread_t thread[RACERS];

	cr_assert_eq(pthread_barrier_init(&race->start, NULL, RACERS), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, take_many, race), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	(void)pthread_barrier_destroy(&race->start);
}

Test(bucket_shared, four_threads_get_the_burst_and_no_more)
{
	for (int returns = 0; returns <= 1; returns++) {
		static struct race race;

		race = (struct race){
		        .now = START, .tries = TRIES, .returns = returns > 0};
		bucket_shared_init(&race.s);
		cr_assert_eq(bucket_shared_take(&race.s, START), 0, "no limit yet");
		bucket_shared_set(&race.s, 3, BURST, START);
		cr_assert_eq(bucket_shared_tokens(&race.s, START), BURST);
		run_race(&race);
		cr_assert_eq(race.granted, BURST);
		cr_assert_eq(bucket_shared_tokens(&race.s, START), 0);
		cr_assert_eq(bucket_shared_wait(&race.s, START), CLOCK_SEC / 3 + 1);
		bucket_shared_destroy(&race.s);
	}
}

Test(bucket_shared, four_threads_with_their_own_clocks_keep_the_bound)
{
	static struct race race;
	OWN_MEM uint64_t *taken = calloc((size_t)RACERS * TRIES / 4, sizeof(*taken));
	wide least = 0;

	race = (struct race){.taken = taken, .tries = TRIES / 4};
	bucket_shared_init(&race.s);
	bucket_shared_set(&race.s, 700001, 17, START);
	run_race(&race);
	size_t n = race.granted;

	cr_assert_gt(n, 100);
	qsort(taken, n, sizeof(*taken), compare_u64);
	/* All windows at once: k - rate * t may be no more than burst above its least so far. */
	for (size_t k = 0; k < n; k++) {
		wide height =
		        (wide)k * (wide)CLOCK_SEC - (wide)(taken[k] - taken[0]) * 700001;

		if (height < least)
			least = height;
		cr_assert((height - least) + (wide)CLOCK_SEC <= 17 * (wide)CLOCK_SEC,
		        "at take %zu of %zu", k, n);
	}
	bucket_shared_destroy(&race.s);
}

Test(bucket_shared, the_same_limits_again_change_nothing)
{
	struct bucket_shared s;

	bucket_shared_init(&s);
	bucket_shared_set(&s, 5, 5, START);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(bucket_shared_take(&s, START), 0);
	bucket_shared_set(&s, 5, 0, START);
	cr_assert_eq(bucket_shared_take(&s, START), BUCKET_EMPTY);
	bucket_shared_return(&s, START, START);
	cr_assert_eq(bucket_shared_take(&s, START), 0);
	bucket_shared_set(&s, 0, 0, START);
	cr_assert_eq(bucket_shared_take(&s, START), 0);
	cr_assert_eq(bucket_shared_tokens(&s, START), UINT32_MAX);
	bucket_shared_set(&s, 5, 6, START);
	cr_assert_eq(bucket_shared_tokens(&s, START), 6, "there was no limit to lack of");
	for (int i = 0; i < 6; i++)
		cr_assert_eq(bucket_shared_take(&s, START), 0);
	bucket_shared_set(&s, 1, 6, START);
	bucket_shared_set(&s, 100, 7, START);
	cr_assert_eq(bucket_shared_tokens(&s, START), 1, "what the burst has grown by");
	bucket_shared_destroy(&s);
}

struct look {
	struct bucket_shared s;
	bool waits; /* it asks for the time, not for the tokens */
	_Atomic bool over;
};

static void *look_once(void *arg)
{
	struct look *look = arg;

	if (look->waits)
		(void)bucket_shared_wait(&look->s, START);
	else
		(void)bucket_shared_tokens(&look->s, START);
	atomic_store(&look->over, true);
	return NULL;
}

/* What it reads is of one moment, and it gives nobody's lock away. */
Test(bucket_shared, who_only_looks_waits_for_who_is_taking)
{
	for (int waits = 0; waits <= 1; waits++) {
		struct look look = {.waits = waits > 0};
		pthread_t thread;

		bucket_shared_init(&look.s);
		bucket_shared_set(&look.s, 3, 4, START);
		(void)pthread_mutex_lock(&look.s.lock);
		cr_assert_eq(pthread_create(&thread, NULL, look_once, &look), 0);
		uint64_t end = clock_now() + 50 * CLOCK_MSEC;

		while (!atomic_load(&look.over) && clock_now() < end)
			(void)poll(NULL, 0, 1);
		cr_assert_not(atomic_load(&look.over));
		(void)pthread_mutex_unlock(&look.s.lock);
		cr_assert_eq(pthread_join(thread, NULL), 0);
		cr_assert(atomic_load(&look.over));
		bucket_shared_destroy(&look.s);
	}
}
