/*
 * test_load_hist.c - portload's histogram: what it says is never below what was measured, and at
 * most 1/64 above; merged ones say the same as one that has it all.
 */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "base/own.h"
#include "load/hist.h"

static struct hist *hist_new(void)
{
	struct hist *made = calloc(1, sizeof(*made));

	cr_assert_not_null(made);
	return made;
}

/* The n-th of the same row of numbers, of all sizes from 0 to 2^40. */
static uint64_t number(uint64_t n)
{
	uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x >> (24 + x % 40);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

Test(load_hist, empty_is_zero)
{
	OWN_MEM struct hist *h = hist_new();

	cr_assert_eq(hist_quantile(h, 500), 0);
	cr_assert_eq(hist_quantile(h, 1000), 0);
	cr_assert_eq(hist_mean(h), 0);
}

Test(load_hist, one_value_of_each_size)
{
	for (unsigned bit = 0; bit < HIST_MAX_BITS; bit++)
		for (int64_t around = -1; around <= 1; around++) {
			OWN_MEM struct hist *h = hist_new();
			uint64_t value = (UINT64_C(1) << bit) + (uint64_t)around;

			hist_add(h, value);
			/* A higher one, so that max does not hide the bucket's end. */
			hist_add(h, UINT64_C(1) << HIST_MAX_BITS);
			uint64_t seen = hist_quantile(h, 500);
			cr_assert_geq(seen, value, "2^%u", bit);
			cr_assert_leq(seen, value + value / 64, "2^%u: %lu", bit, seen);
		}
}

Test(load_hist, a_percentile_is_the_value_of_that_rank)
{
	enum {
		N = 20000
	};
	static const unsigned shares[] = {0, 1, 250, 500, 900, 990, 999, 1000};
	OWN_MEM struct hist *h = hist_new();
	OWN_MEM uint64_t *sorted = calloc(N, sizeof(*sorted));
	uint64_t sum = 0;

	cr_assert_not_null(sorted);
	for (unsigned i = 0; i < N; i++) {
		sorted[i] = number(i);
		sum += sorted[i];
		hist_add(h, sorted[i]);
	}
	qsort(sorted, N, sizeof(*sorted), compare);
	for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
		unsigned rank = shares[i] * N / 1000;
		uint64_t value = sorted[rank ? rank - 1 : 0],
		         seen = hist_quantile(h, shares[i]);
		cr_assert_geq(seen, value, "%u of 1000", shares[i]);
		cr_assert_leq(seen, value + value / 64, "%u of 1000", shares[i]);
	}
	cr_assert_eq(h->count, N);
	cr_assert_eq(h->max, sorted[N - 1]);
	cr_assert_eq(hist_quantile(h, 1000), h->max);
	cr_assert_eq(hist_mean(h), sum / N);
}

Test(load_hist, few_values_have_their_own_percentiles)
{
	OWN_MEM struct hist *h = hist_new();

	for (uint64_t i = 1; i <= 10; i++)
		hist_add(h, i);
	cr_assert_eq(hist_quantile(h, 500), 5);
	cr_assert_eq(hist_quantile(h, 501), 6, "rounded up");
	cr_assert_eq(hist_quantile(h, 900), 9);
	cr_assert_eq(hist_quantile(h, 990), 10);
}

Test(load_hist, what_is_too_long_is_kept_exact_in_max)
{
	OWN_MEM struct hist *h = hist_new();

	hist_add(h, 5);
	hist_add(h, UINT64_C(1) << 50);
	hist_add(h, UINT64_MAX / 2);
	cr_assert_eq(h->max, UINT64_MAX / 2);
	cr_assert_eq(hist_quantile(h, 300), 5);
	cr_assert_eq(hist_quantile(h, 999), UINT64_MAX / 2);
}

Test(load_hist, merged_is_as_if_one_had_seen_all)
{
	OWN_MEM struct hist *all = hist_new(), *merged = hist_new();
	struct hist *part[3] = {hist_new(), hist_new(), hist_new()};
	for (unsigned i = 0; i < 3000; i++) {
		hist_add(all, number(i));
		hist_add(part[i % 3], number(i));
	}
	for (int i = 0; i < 3; i++) {
		hist_merge(merged, part[i]);
		free(part[i]);
	}
	cr_assert_arr_eq(merged, all, sizeof(*all));
}
