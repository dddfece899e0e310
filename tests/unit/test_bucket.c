/*
 * test_bucket.c - token buckets: the bound in every window, nothing refused below it, no
 * drift, against a model that counts tokens in exact fractions.
 */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/bucket.h"

__extension__ typedef __int128 wide;

#define START (5 * CLOCK_SEC + 7)

static struct bucket_rate rate_make(uint32_t rate, uint32_t burst)
{
	struct bucket_rate made = {.generation = 0};

	bucket_rate_change(&made, rate, burst, 0);
	return made;
}

/* As many as come at once. */
static unsigned take_all(struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	unsigned n = 0;

	while (bucket_take(b, rate, now) == 0)
		n++;
	return n;
}

Test(bucket, a_burst_and_then_one_each_time)
{
	struct bucket b = {.full_at = 0};
	struct bucket_rate rate = rate_make(4, 10);

	cr_assert(bucket_is_full(&b, &rate, START));
	cr_assert_eq(bucket_tokens(&b, &rate, START), 10);
	cr_assert_eq(take_all(&b, &rate, START), 10);
	cr_assert_eq(bucket_tokens(&b, &rate, START), 0);
	cr_assert_eq(bucket_wait(&b, &rate, START), CLOCK_SEC / 4);
	cr_assert_eq(bucket_take(&b, &rate, START + CLOCK_SEC / 4 - 1), BUCKET_EMPTY);
	cr_assert_eq(bucket_wait(&b, &rate, START + CLOCK_SEC / 4 - 1), 1);
	cr_assert_eq(take_all(&b, &rate, START + CLOCK_SEC / 4), 1);
	cr_assert_eq(take_all(&b, &rate, START + CLOCK_SEC), 3);
	cr_assert_not(bucket_is_full(&b, &rate, START + 3 * CLOCK_SEC));
	cr_assert_not(bucket_is_full(&b, &rate, START + 7 * CLOCK_SEC / 2 - 1));
	cr_assert(bucket_is_full(&b, &rate, START + 7 * CLOCK_SEC / 2));
	cr_assert_eq(take_all(&b, &rate, START + 1000 * CLOCK_SEC), 10, "never more");
}

Test(bucket, burst_0_is_a_second_and_rate_0_no_limit)
{
	struct bucket b = {.full_at = 0}, free = {.full_at = 0};
	struct bucket_rate rate = rate_make(7, 0), none = rate_make(0, 5);

	cr_assert_eq(rate.burst, 7);
	cr_assert_eq(take_all(&b, &rate, START), 7);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(bucket_take(&free, &none, START), 0);
	bucket_return(&free, &none, START, START);
	cr_assert_eq(bucket_tokens(&free, &none, START), UINT32_MAX);
	cr_assert_eq(bucket_wait(&free, &none, START), 0);
	cr_assert(bucket_is_full(&free, &none, START));
	cr_assert_eq(free.full_at, 0);
}

Test(bucket, no_drift)
{
	static const struct {
		uint32_t rate;
		uint64_t seconds, per; /* `per` parts of a second */
	} rows[] = {{3, 3600, 1}, {7, 3600, 1}, {1, 36000, 1}, {999, 60, 1},
	        {999999937, 1, 10000}, {BUCKET_RATE_MAX, 1, 10000},
	        {333333333, 1, 10000}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bucket b = {.full_at = 0};
		/* Two, so that a ns that comes after the token's exact time spills nothing. */
		struct bucket_rate rate = rate_make(rows[i].rate, 2);
		uint64_t now = START, n = 0;
		uint64_t end = START + rows[i].seconds * CLOCK_SEC / rows[i].per;

		cr_assert_eq(take_all(&b, &rate, now), 2);
		/* As soon as there is a token it is taken, at the first ns that has it. */
		while ((now += bucket_wait(&b, &rate, now)) <= end) {
			wide exact = (++n * (wide)CLOCK_SEC + rate.rate - 1) / rate.rate;

			cr_assert_eq(now, START + (uint64_t)exact, "%u/s: token %llu",
			        rate.rate, (unsigned long long)n);
			cr_assert_eq(bucket_take(&b, &rate, now), 0);
		}
		cr_assert_eq(n, (wide)rate.rate * rows[i].seconds / rows[i].per);
	}
}

Test(bucket, the_greatest_numbers)
{
	struct bucket b = {.full_at = 0}, c = {.full_at = 0};
	struct bucket_rate slow = rate_make(1, BUCKET_RATE_MAX);
	struct bucket_rate fast = rate_make(BUCKET_RATE_MAX, BUCKET_RATE_MAX);
	/* A machine that has been up for a hundred years. */
	uint64_t now = UINT64_C(100) * 365 * 86400 * CLOCK_SEC;

	cr_assert_eq(bucket_tokens(&b, &slow, now), BUCKET_RATE_MAX);
	/* All but the last three of a thousand million taken: 31 years' worth. */
	cr_assert_eq(bucket_take(&b, &slow, now), 0);
	b.full_at = now + (BUCKET_RATE_MAX - 3) * CLOCK_SEC;
	cr_assert_eq(take_all(&b, &slow, now), 3);
	cr_assert_eq(bucket_wait(&b, &slow, now), CLOCK_SEC);
	cr_assert_eq(take_all(&b, &slow, now + CLOCK_SEC), 1);
	cr_assert_eq(bucket_tokens(&c, &fast, now), BUCKET_RATE_MAX);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(bucket_take(&c, &fast, now), 0);
	cr_assert_eq(bucket_tokens(&c, &fast, now + 1), BUCKET_RATE_MAX - 999);
	/* A clock that has gone far back: refused, with no overflow. */
	cr_assert_eq(bucket_take(&b, &slow, 0), BUCKET_EMPTY);
	cr_assert_gt(bucket_wait(&b, &slow, 0), now);
	cr_assert_eq(bucket_take(&c, &fast, 0), BUCKET_EMPTY);
	cr_assert_gt(bucket_wait(&c, &fast, 0), CLOCK_SEC);
}

/* The model: tokens, filled with time, each of 1e9 units. */
struct model {
	wide units, rate, burst;
	uint64_t at;
};

static bool model_take(struct model *m, uint64_t now)
{
	m->units += (wide)(now - m->at) * m->rate;
	if (m->units > m->burst * (wide)CLOCK_SEC)
		m->units = m->burst * (wide)CLOCK_SEC;
	m->at = now;
	if (m->units < (wide)CLOCK_SEC)
		return false;
	m->units -= (wide)CLOCK_SEC;
	return true;
}

static uint64_t random_bits(void)
{
	return (uint64_t)rand() << 31 | (uint64_t)rand();
}

/* Of any size: as many small ones as large ones. */
static uint64_t random_up_to(uint64_t greatest)
{
	uint64_t v = random_bits() >> (rand() % 62);

	return greatest == UINT64_MAX ? v : v % (greatest + 1);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Every window that begins with one take and ends with another. */
static void assert_windows(uint64_t *at, size_t n, const struct bucket_rate *rate)
{
	qsort(at, n, sizeof(*at), compare_u64);
	for (size_t i = 0; i < n; i++)
		for (size_t k = i; k < n; k++) {
			wide above = (wide)(k - i + 1) - rate->burst;

			cr_assert(above * (wide)CLOCK_SEC <=
			                  (wide)(at[k] - at[i]) * rate->rate,
			        "%zu in %llu ns at %u/s, burst %u", k - i + 1,
			        (unsigned long long)(at[k] - at[i]), rate->rate,
			        rate->burst);
		}
}

static struct bucket_rate random_rate(void)
{
	return rate_make((uint32_t)random_up_to(BUCKET_RATE_MAX - 1) + 1,
	        rand() % 2 ? 1 + (uint32_t)rand() % 9
	                   : (uint32_t)random_up_to(BUCKET_RATE_MAX));
}

/* A step that is often near the time of a token. */
static uint64_t random_step(const struct bucket_rate *rate)
{
	uint64_t token = CLOCK_SEC / rate->rate;

	switch (rand() % 6) {
	case 0:
		return 0;
	case 1:
		return token;
	case 2:
		return token + 1;
	case 3:
		return token - (token > 0);
	case 4:
		return random_up_to(2 * token);
	default:
		return random_up_to(20 * token);
	}
}

Test(bucket, any_sequence_is_decided_as_the_model_does)
{
	for (unsigned seed = 1; seed <= 400; seed++) {
		struct bucket b = {.full_at = 0};
		uint64_t taken[96], now = random_up_to(1000 * CLOCK_SEC);
		size_t n = 0;

		srand(seed);
		struct bucket_rate rate = random_rate();
		struct model m = {.rate = rate.rate,
		        .burst = rate.burst,
		        .units = (wide)rate.burst * (wide)CLOCK_SEC,
		        .at = now};

		for (int i = 0; i < 300 && n < ARRAY_SIZE(taken); i++) {
			now += random_step(&rate);
			uint64_t wait = bucket_wait(&b, &rate, now);
			uint32_t tokens = bucket_tokens(&b, &rate, now);
			bool expected = model_take(&m, now);

			cr_assert_eq(tokens > 0, expected);
			cr_assert_eq(wait == 0, expected);
			if (expected)
				cr_assert_eq(tokens, m.units / (wide)CLOCK_SEC + 1);
			else
				cr_assert_eq(wait,
				        (CLOCK_SEC - (uint64_t)m.units + rate.rate - 1) /
				                rate.rate);
			cr_assert_eq(bucket_take(&b, &rate, now),
			        expected ? 0 : BUCKET_EMPTY, "seed %u, %u/s burst %u",
			        seed, rate.rate, rate.burst);
			cr_assert_eq(bucket_is_full(&b, &rate, now),
			        m.units == m.burst * (wide)CLOCK_SEC);
			if (expected)
				taken[n++] = now;
		}
		assert_windows(taken, n, &rate);
	}
}

/* Threads that disagree about the time, and takes that are given back, at once or later.
 * */
Test(bucket, the_bound_holds_with_any_clocks_and_any_returns)
{
	unsigned given_back = 0, skewed = 0;

	for (unsigned seed = 1; seed <= 400; seed++) {
		struct bucket b = {.full_at = 0};
		uint64_t taken[96], now = START + 1000 * CLOCK_SEC;
		size_t n = 0;

		srand(seed);
		struct bucket_rate rate = random_rate();

		for (int i = 0; i < 400 && n < ARRAY_SIZE(taken); i++) {
			uint64_t back = rand() % 3 ? 0 : random_step(&rate);

			now += random_step(&rate);
			if (n > 0 && rand() % 4 == 0) {
				size_t k = (size_t)rand() % n;

				bucket_return(&b, &rate, taken[k], now);
				taken[k] = taken[--n];
				given_back++;
			} else if (bucket_take(&b, &rate, now - back) == 0) {
				taken[n++] = now - back;
				skewed += back > 0;
			}
			cr_assert_lt(b.part, rate.rate);
		}
		assert_windows(taken, n, &rate);
	}
	cr_assert_gt(given_back, 1000);
	cr_assert_gt(skewed, 1000);
}

Test(bucket, what_is_given_back_can_be_taken_again)
{
	for (uint32_t per_second = 1; per_second < 50; per_second++) {
		struct bucket b = {.full_at = 0};
		struct bucket_rate rate = rate_make(per_second, 5);

		cr_assert_eq(take_all(&b, &rate, START), 5);
		struct bucket before = b;
		uint64_t taken = START;

		for (int i = 0; i < 100; i++) {
			uint64_t now = START + (uint64_t)i * 10;

			bucket_return(&b, &rate, taken, now);
			cr_assert_eq(bucket_tokens(&b, &rate, now), 1);
			cr_assert_eq(bucket_take(&b, &rate, now), 0);
			taken = now;
			cr_assert_eq(bucket_take(&b, &rate, now), BUCKET_EMPTY);
		}
		cr_assert_eq(b.full_at, before.full_at);
		cr_assert_eq(b.part, before.part);
	}
}

Test(bucket, a_token_that_would_have_been_spilt_is_not_given_back)
{
	struct bucket b = {.full_at = 0};
	struct bucket_rate rate = rate_make(10, 1);

	/* Without the first take, the second would have found the same full bucket. */
	cr_assert_eq(bucket_take(&b, &rate, START), 0);
	cr_assert_eq(bucket_take(&b, &rate, START + CLOCK_SEC / 10), 0);
	bucket_return(&b, &rate, START, START + CLOCK_SEC / 10);
	cr_assert_eq(bucket_take(&b, &rate, START + CLOCK_SEC / 10), BUCKET_EMPTY);
	/* The second itself goes back whole. */
	bucket_return(&b, &rate, START + CLOCK_SEC / 10, START + CLOCK_SEC / 10);
	cr_assert_eq(take_all(&b, &rate, START + CLOCK_SEC / 10), 1);
}

Test(bucket, what_was_spilt_meanwhile_is_time_and_not_a_token)
{
	struct bucket b = {.full_at = 0};
	struct bucket_rate rate = rate_make(1, 3);

	/* Threads' clocks differ: without the first take, the second had found it full. */
	cr_assert_eq(bucket_take(&b, &rate, START), 0);
	cr_assert_eq(bucket_take(&b, &rate, START + 5 * CLOCK_MSEC), 0);
	bucket_return(&b, &rate, START, START);
	cr_assert_eq(b.full_at, START + 5 * CLOCK_MSEC + CLOCK_SEC);
	cr_assert_eq(take_all(&b, &rate, START + 5 * CLOCK_MSEC), 2);
}

Test(bucket, a_new_rate_keeps_the_tokens_within_its_own_burst)
{
	struct bucket b = {.full_at = 0};
	struct bucket_rate rate = rate_make(1, 3600);

	/* All are gone, and stay so; the next comes by the new rate. */
	cr_assert_eq(take_all(&b, &rate, START), 3600);
	bucket_rate_change(&rate, 1000, 100, START);
	cr_assert_eq(bucket_tokens(&b, &rate, START), 0);
	cr_assert_eq(bucket_wait(&b, &rate, START), CLOCK_MSEC);
	cr_assert_eq(bucket_tokens(&b, &rate, START + 50 * CLOCK_MSEC), 50,
	        "counted from the change, whenever the bucket hears of it");
	cr_assert_eq(bucket_take(&b, &rate, START), BUCKET_EMPTY);
	cr_assert_eq(take_all(&b, &rate, START + 100 * CLOCK_MSEC), 100);
	/* 5 of 10 are left, and 15 of 20. A third of one at the old rate is one at the new. */
	b = (struct bucket){.full_at = 0};
	rate = rate_make(3, 10);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(bucket_take(&b, &rate, START), 0);
	bucket_rate_change(&rate, 7, 20, START + 1);
	cr_assert_eq(bucket_tokens(&b, &rate, START + 1), 15);
	cr_assert_eq(take_all(&b, &rate, START + 1), 15);
	/* All 20 lack, less 3 in a ns: at 7 a second that is so many ns, rounded up. */
	cr_assert_eq(bucket_wait(&b, &rate, START + 1), (CLOCK_SEC - 3 + 6) / 7);
	/* 51 of 101 are left, and all of 10. */
	b = (struct bucket){.full_at = 0};
	rate = rate_make(1000, 101);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(bucket_take(&b, &rate, START), 0);
	bucket_rate_change(&rate, 10, 10, START);
	cr_assert(bucket_is_full(&b, &rate, START));
	/* One from before is not given back after. */
	bucket_return(&b, &rate, START, START + CLOCK_SEC / 10);
	cr_assert_eq(take_all(&b, &rate, START), 10);
	bucket_return(&b, &rate, START, START + CLOCK_SEC / 10);
	cr_assert_eq(take_all(&b, &rate, START), 0);
	/* None, and one again. */
	bucket_rate_change(&rate, 0, 0, START);
	cr_assert_eq(bucket_take(&b, &rate, START), 0);
	bucket_adapt(&b, &rate);
	bucket_rate_change(&rate, 20, 0, START);
	cr_assert_eq(take_all(&b, &rate, START), 20);
	cr_assert_eq(take_all(&b, &rate, START + CLOCK_SEC), 20);
}

/* The clock of the last taker was a second ahead: more lacks than the burst was. */
Test(bucket, no_limit_any_more_is_none_whatever_lacks)
{
	struct bucket b = {.full_at = 0};
	struct bucket_rate rate = rate_make(3, 2);

	cr_assert_eq(take_all(&b, &rate, START + CLOCK_SEC), 2);
	bucket_rate_change(&rate, 0, 0, START);
	cr_assert(bucket_is_full(&b, &rate, START));
	bucket_adapt(&b, &rate);
	cr_assert_leq(b.full_at, START);
	bucket_rate_change(&rate, 7, 2, START);
	cr_assert_eq(take_all(&b, &rate, START), 2);
	/* One that slept while there was no limit: a part of a ns is not owed for ever. */
	b = (struct bucket){.full_at = 0};
	rate = rate_make(3, 2);
	cr_assert_eq(bucket_take(&b, &rate, START), 0);
	cr_assert_gt(b.part, 0);
	bucket_rate_change(&rate, 0, 0, START + 10 * CLOCK_SEC);
	bucket_rate_change(&rate, 7, 2, START);
	cr_assert_eq(bucket_tokens(&b, &rate, START), 2);
}

/* Two rates with the same takes behind them, one left for the other. */
Test(bucket, whom_the_old_rate_and_the_new_allow_is_not_refused)
{
	for (unsigned seed = 1; seed <= 300; seed++) {
		struct bucket b = {.full_at = 0}, old = b, own = b;
		uint64_t now = START;

		srand(seed);
		struct bucket_rate rate = random_rate(), to = random_rate(), was = rate;

		for (int i = 0; i < 60; i++, now += random_step(&rate)) {
			if (bucket_take(&b, &rate, now) != 0)
				continue;
			(void)bucket_take(&old, &was, now);
			(void)bucket_take(&own, &to, now);
		}
		bucket_rate_change(&rate, to.rate, to.burst, now);
		uint32_t least = bucket_tokens(&old, &was, now);

		if (bucket_tokens(&own, &to, now) < least)
			least = bucket_tokens(&own, &to, now);
		cr_assert_geq(bucket_tokens(&b, &rate, now), least, "seed %u", seed);
	}
}

Test(bucket, whatever_the_rates_were_the_new_one_holds_and_does_not_lock_out)
{
	for (unsigned seed = 1; seed <= 300; seed++) {
		struct bucket b = {.full_at = 0};
		uint64_t now = START, taken[64];
		struct bucket_rate rate = {.generation = 0};

		srand(seed);
		for (int change = 0; change < 10; change++) {
			struct bucket_rate to = random_rate();
			size_t n = 0;

			bucket_adapt(&b, &rate);
			bucket_rate_change(&rate, to.rate, to.burst, now);
			if (rand() % 2)
				cr_assert_leq(bucket_wait(&b, &rate, now),
				        CLOCK_SEC / rate.rate + 2);
			for (int i = 0; i < 60; i++, now += random_step(&rate))
				if (bucket_take(&b, &rate, now) == 0)
					taken[n++] = now;
			assert_windows(taken, n, &rate);
		}
		now += 2 * CLOCK_SEC;
		cr_assert_eq(bucket_take(&b, &rate, now), 0, "locked out: seed %u", seed);
	}
}
