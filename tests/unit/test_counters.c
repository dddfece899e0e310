/*
 * test_counters.c - rows, classes of errno, buckets, and sums read while a worker writes.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/own.h"
#include "core/counters.h"

static struct counts read_block(const struct counters *c)
{
	struct counts now;

	counters_read(c, &now);
	return now;
}

/* The sum of every row but the greatest turn. */
static uint64_t all_rows(const struct counts *c)
{
	uint64_t row[sizeof(*c) / sizeof(uint64_t)], sum = 0;

	memcpy(row, c, sizeof(row));
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		sum += row[i];
	return sum - c->longest_loop_ns;
}

Test(counters, a_block_shares_no_cache_line)
{
	static struct counters two[2];

	cr_assert_eq(sizeof(struct counters) % 64, 0);
	cr_assert_eq((uintptr_t)&two[0] % 64, 0);
	cr_assert_eq((uintptr_t)&two[1] % 64, 0);
}

Test(counters, each_addition_reaches_its_row_and_no_other)
{
	static struct counters c;
	struct counts now;

	for (unsigned i = 0; i < COUNTER_COUNT; i++) {
		counters_add(&c, i, i + 3);
		now = read_block(&c);
		cr_assert_eq(now.counter[i], i + 3);
	}
	for (unsigned i = 0; i < SHED_COUNT; i++) {
		counters_add_shed(&c, i);
		now = read_block(&c);
		cr_assert_eq(now.shed[i], 1);
		cr_assert_eq(counts_total_shed(&now), i + 1);
	}
	for (unsigned i = 0; i < CLOSE_COUNT; i++) {
		counters_add_closed(&c, i);
		counters_add_closed(&c, i);
		now = read_block(&c);
		cr_assert_eq(now.closed[i], 2);
		cr_assert_eq(counts_total_closed(&now), 2 * (i + 1));
	}
	cr_assert_eq(all_rows(&now),
	        COUNTER_COUNT * (COUNTER_COUNT + 5) / 2 + SHED_COUNT + 2 * CLOSE_COUNT);
}

Test(counters, an_errno_counts_in_its_own_row)
{
	static const struct {
		int err;
		enum accept_error row;
		const char *name;
	} known[] = {
	        {EMFILE, ACCEPT_ERROR_EMFILE, "EMFILE"},
	        {ENFILE, ACCEPT_ERROR_ENFILE, "ENFILE"},
	        {ENOBUFS, ACCEPT_ERROR_ENOBUFS, "ENOBUFS"},
	        {ENOMEM, ACCEPT_ERROR_ENOMEM, "ENOMEM"},
	        {ECONNABORTED, ACCEPT_ERROR_ECONNABORTED, "ECONNABORTED"},
	        {EINTR, ACCEPT_ERROR_EINTR, "EINTR"},
	        {EPROTO, ACCEPT_ERROR_EPROTO, "EPROTO"},
	        {EPERM, ACCEPT_ERROR_EPERM, "EPERM"},
	        {EINVAL, ACCEPT_ERROR_OTHER, "OTHER"},
	        {0, ACCEPT_ERROR_OTHER, "OTHER"},
	        {-1, ACCEPT_ERROR_OTHER, "OTHER"},
	        {99999, ACCEPT_ERROR_OTHER, "OTHER"},
	};
	static struct counters c;
	uint64_t expected[ACCEPT_ERROR_COUNT] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		enum accept_error row = counters_add_accept_error(&c, known[i].err);
		struct counts now = read_block(&c);

		expected[known[i].row]++;
		cr_assert_eq(row, known[i].row, "errno %d", known[i].err);
		cr_assert_str_eq(counters_accept_error_name(row), known[i].name);
		cr_assert_eq(memcmp(now.accept_error, expected, sizeof(expected)), 0);
	}
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		cr_assert_gt(
		        expected[i], 0, "row %s untried", counters_accept_error_name(i));
}

Test(counters, a_bound_belongs_to_the_bucket_it_closes)
{
	static const uint64_t bounds[] = COUNTERS_WAIT_BOUNDS_MS;
	static struct counters c;
	uint64_t sum = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(bounds); i++) {
		uint64_t at = bounds[i] * 1000000;

		counters_add_wait(&c, at);
		struct counts now = read_block(&c);
		cr_assert_eq(now.wait[i], i ? 2 : 1, "%lu ms", (unsigned long)bounds[i]);
		counters_add_wait(&c, at + 1);
		now = read_block(&c);
		cr_assert_eq(now.wait[i + 1], 1, "past %lu ms", (unsigned long)bounds[i]);
		sum += 2 * at + 1;
		cr_assert_eq(now.wait_sum_ns, sum);
	}
	counters_add_wait(&c, UINT64_MAX);
	cr_assert_eq(read_block(&c).wait[COUNTERS_WAIT_BUCKETS - 1], 2);
}

Test(counters, the_longest_turn_stays)
{
	static struct counters a, b;
	struct counts sum = {0}, more;

	counters_add_turn(&a, 5);
	counters_add_turn(&a, 9);
	counters_add_turn(&a, 7);
	counters_add_turn(&b, 8);
	cr_assert_eq(read_block(&a).longest_loop_ns, 9);
	more = read_block(&a);
	counts_sum(&sum, &more);
	more = read_block(&b);
	counts_sum(&sum, &more);
	cr_assert_eq(sum.loops, 4);
	cr_assert_eq(sum.longest_loop_ns, 9);
}

#define WRITERS   4
#define ADDITIONS 100000

static struct counters blocks[WRITERS];

static void *write_block(void *arg)
{
	struct counters *c = arg;

	for (unsigned i = 0; i < ADDITIONS; i++) {
		counters_add(c, COUNTER_ACCEPTED, 1);
		counters_add(c, COUNTER_BYTES_IN, 3);
		counters_add_shed(c, SHED_FULL);
		counters_add_closed(c, CLOSE_CLIENT);
		counters_add_wait(c, 1);
		counters_add_accept_error(c, EMFILE);
		counters_add_turn(c, i);
	}
	return NULL;
}

Test(counters, a_sum_read_meanwhile_only_grows_and_ends_exact)
{
	pthread_t threads[WRITERS];
	struct counts sum;
	uint64_t before = 0;

	for (size_t i = 0; i < WRITERS; i++)
		cr_assert_eq(
		        pthread_create(&threads[i], NULL, write_block, &blocks[i]), 0);
	do {
		sum = (struct counts){0};
		for (size_t i = 0; i < WRITERS; i++) {
			struct counts one = read_block(&blocks[i]);
			counts_sum(&sum, &one);
		}
		cr_assert_geq(all_rows(&sum), before);
		before = all_rows(&sum);
	} while (sum.loops < WRITERS * ADDITIONS);
	/* Rows that were read before the turns may have grown since. */
	sum = (struct counts){0};
	for (size_t i = 0; i < WRITERS; i++) {
		cr_assert_eq(pthread_join(threads[i], NULL), 0);
		struct counts one = read_block(&blocks[i]);
		counts_sum(&sum, &one);
	}

	const uint64_t n = WRITERS * ADDITIONS;

	cr_assert_eq(sum.counter[COUNTER_ACCEPTED], n);
	cr_assert_eq(sum.counter[COUNTER_BYTES_IN], 3 * n);
	cr_assert_eq(sum.shed[SHED_FULL], n);
	cr_assert_eq(sum.closed[CLOSE_CLIENT], n);
	cr_assert_eq(sum.wait[0], n);
	cr_assert_eq(sum.wait_sum_ns, n);
	cr_assert_eq(sum.accept_error[ACCEPT_ERROR_EMFILE], n);
	cr_assert_eq(sum.longest_loop_ns, ADDITIONS - 1);
	/* Eight rows of n, one of 3 n less one of n. */
	cr_assert_eq(all_rows(&sum), 10 * n);
}

Test(counters, words_are_those_of_the_tables)
{
	cr_assert_str_eq(counters_shed_name(SHED_FULL), "full");
	cr_assert_str_eq(counters_shed_name(SHED_ABORTED), "aborted");
	cr_assert_str_eq(counters_close_name(CLOSE_FIRST_BYTE), "first_byte");
	cr_assert_str_eq(counters_close_name(CLOSE_COUNT), "?");
	cr_assert_str_eq(counters_shed_name(SHED_COUNT), "?");
	cr_assert_str_eq(counters_accept_error_name(ACCEPT_ERROR_COUNT), "?");
}
