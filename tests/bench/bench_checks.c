/*
 * bench_checks.c - what the checks of a newcomer cost: ns of CPU time per operation,
 * which other programs on the machine disturb little, from one thread and from two that
 * do nothing else (two workers that meet at every operation are worse than any number of
 * workers that also accept).
 *
 * usage: bench_checks [MILLISECONDS PER LINE]
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/bucket.h"
#include "core/source.h"
#include "net/prefix.h"

#define CHUNK 256U

/* A check, and what it works on. */
struct check {
	const char *name;
	/* Does CHUNK of them. */
	void (*run)(struct check *check, uint64_t *random, uint64_t now);
	uint64_t size; /* prefixes in the list, sources in the books */
	struct prefix_set *set;
	struct source_books *books;
	struct bucket_shared bucket;
	_Atomic uint64_t done, spent, sink;
	uint64_t until;
};

/* xorshift64: quick, and nothing that a cache could foresee. */
static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

static struct addr address4(uint64_t bits)
{
	struct addr addr = {.family = AF_INET};
	uint32_t number = htonl((uint32_t)bits);

	memcpy(addr.bytes, &number, sizeof(number));
	return addr;
}

static struct addr address6(uint64_t bits)
{
	struct addr addr = {.family = AF_INET6, .bytes = {0x20, 0x01, 0x0d, 0xb8}};

	memcpy(addr.bytes + 4, &bits, 4);
	return addr;
}

static void run_nothing(struct check *check, uint64_t *random, uint64_t now)
{
	uint64_t sum = now;

	for (unsigned i = 0; i < CHUNK; i++)
		sum += address4(next(random)).bytes[3];
	atomic_fetch_add_explicit(&check->sink, sum, memory_order_relaxed);
}

static void run_bucket(struct check *check, uint64_t *random, uint64_t now)
{
	(void)random;
	for (unsigned i = 0; i < CHUNK; i++)
		(void)bucket_shared_take(&check->bucket, now + i);
}

static void run_match4(struct check *check, uint64_t *random, uint64_t now)
{
	uint64_t hits = now & 1;

	for (unsigned i = 0; i < CHUNK; i++) {
		struct addr addr = address4(next(random));

		hits += prefix_set_match(check->set, &addr);
	}
	atomic_fetch_add_explicit(&check->sink, hits, memory_order_relaxed);
}

static void run_match6(struct check *check, uint64_t *random, uint64_t now)
{
	uint64_t hits = now & 1;

	for (unsigned i = 0; i < CHUNK; i++) {
		struct addr addr = address6(next(random));

		hits += prefix_set_match(check->set, &addr);
	}
	atomic_fetch_add_explicit(&check->sink, hits, memory_order_relaxed);
}

/* One connection: booked, and given back. */
static void run_source(struct check *check, uint64_t *random, uint64_t now)
{
	for (unsigned i = 0; i < CHUNK; i++) {
		struct addr addr = address4(next(random) % check->size);
		struct prefix net = prefix_mask(&addr, 32, 64);
		struct source_ticket ticket;

		(void)source_take(check->books, &net, false, now, &ticket);
		source_give(check->books, ticket.entry, now);
	}
}

/* One that is turned away: noted. */
static void run_shed(struct check *check, uint64_t *random, uint64_t now)
{
	for (unsigned i = 0; i < CHUNK; i++) {
		struct addr addr = address4(next(random) % check->size);
		struct prefix net = prefix_mask(&addr, 32, 64);

		source_note_shed(check->books, &net, SHED_FULL, true, now);
	}
}

/* A flood of addresses that were never seen: every one makes the books forget another. */
static void run_flood(struct check *check, uint64_t *random, uint64_t now)
{
	for (unsigned i = 0; i < CHUNK; i++) {
		struct addr addr = address6(next(random));
		struct prefix net = prefix_mask(&addr, 32, 64);

		source_note_shed(check->books, &net, SHED_FULL, true, now);
	}
}

/* Of this thread, ns. */
static uint64_t cpu_time(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_SEC + (uint64_t)ts.tv_nsec;
}

static void *thread_main(void *arg)
{
	struct check *check = arg;
	uint64_t random = (uint64_t)(uintptr_t)&random | 1, done = 0, now;

	uint64_t begin = cpu_time();

	while ((now = clock_now()) < check->until) {
		check->run(check, &random, now);
		done += CHUNK;
	}
	atomic_fetch_add(&check->spent, cpu_time() - begin);
	atomic_fetch_add(&check->done, done);
	return NULL;
}

/* ns per operation, from so many threads. */
static double measure(struct check *check, unsigned threads, uint64_t ns)
{
	pthread_t thread[2];

	atomic_store(&check->done, 0);
	atomic_store(&check->spent, 0);
	check->until = clock_now() + ns;
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, thread_main, check) != 0)
			exit(71);
	for (unsigned i = 0; i < threads; i++)
		(void)pthread_join(thread[i], NULL);
	return check->done > 0 ? (double)check->spent / (double)check->done : 0;
}

static void report(struct check *check, uint64_t ns)
{
	double one = measure(check, 1, ns), two = measure(check, 2, ns);

	printf("%-34s %9llu %10.1f %10.1f\n", check->name,
	        (unsigned long long)check->size, one, two);
	(void)fflush(stdout);
}

/* A list of n networks of which none can be joined, over all of the addresses' range. */
static struct prefix_set *list_make(uint64_t n, bool six)
{
	size_t size = n * 32 + 1;
	char *text = malloc(size), *p = text;
	struct prefix_set *set = NULL;

	if (!text)
		exit(71);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = (i << 32) / n & 0xfffffe00;
		struct addr addr = six ? address6(htonl((uint32_t)at)) : address4(at);
		struct prefix net = prefix_mask(&addr, 24, 56);
		char buf[PREFIX_TEXT_MAX];

		p += snprintf(
		        p, size - (size_t)(p - text), "%s ", prefix_format(&net, buf));
	}
	if (prefix_set_parse(text, &set, NULL, NULL) != 0)
		exit(1);
	free(text);
	return set;
}

static void report_lists(uint64_t ns)
{
	static const uint64_t sizes[] = {10, 1000, 100000};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		bool six = i >= ARRAY_SIZE(sizes);
		struct check check = {
		        .name = six ? "match in a list, IPv6" : "match in a list, IPv4",
		        .run = six ? run_match6 : run_match4,
		        .size = sizes[i % ARRAY_SIZE(sizes)]};

		check.set = list_make(check.size, six);
		report(&check, ns);
		check.set = prefix_set_free(check.set);
	}
}

static void books_make(struct check *check, uint32_t slots)
{
	if (source_books_create(slots, SOURCE_SPARE, &check->books) < 0)
		exit(71);
	source_set_limits(check->books, 100, 1000000, 0, clock_now());
}

static void report_books(uint64_t ns)
{
	static const uint32_t sizes[] = {10, 10000, 1000000};
	struct check check = {.name = "a source's limits, take and give"};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct check shed = {.name = "a source's shed, noted", .run = run_shed};

		check.size = shed.size = sizes[i];
		check.run = run_source;
		books_make(&check, sizes[i]);
		shed.books = check.books;
		/* All of them are known before anything is measured. */
		for (uint32_t k = 0; k < sizes[i]; k++) {
			struct addr addr = address4(k);
			struct prefix net = prefix_mask(&addr, 32, 64);

			source_note_shed(check.books, &net, SHED_FULL, true, clock_now());
		}
		report(&check, ns);
		report(&shed, ns);
		if (i == ARRAY_SIZE(sizes) - 1) {
			struct source_view top[8];
			uint64_t begin = cpu_time();
			size_t n = source_top_shed(check.books, clock_now(), 8, top);

			printf("%-34s %9u %10.1f\n", "the 8 shed most, per source",
			        sizes[i],
			        (double)(cpu_time() - begin) / (double)sizes[i]);
			if (n != 8)
				exit(1);
		}
		check.books = source_books_destroy(check.books);
	}
	struct check flood = {.name = "a shed of a new source, all full",
	        .run = run_flood,
	        .size = SOURCE_SPARE + 20000};

	books_make(&flood, 20000);
	report(&flood, ns);
	flood.books = source_books_destroy(flood.books);
}

int main(int argc, char **argv)
{
	uint64_t ns = (argc > 1 ? strtoul(argv[1], NULL, 10) : 200) * CLOCK_MSEC;
	static struct check bucket = {
	        .name = "bucket, refused", .run = run_bucket, .size = 1};
	static struct check nothing = {
	        .name = "nothing (the loop itself)", .run = run_nothing};

	printf("%-34s %9s %10s %10s\n", "ns of CPU time per operation", "size",
	        "1 thread", "2 threads");
	report(&nothing, ns);
	bucket_shared_init(&bucket.bucket);
	bucket_shared_set(&bucket.bucket, 1, 1, clock_now());
	report(&bucket, ns);
	bucket.name = "bucket, granted";
	bucket_shared_set(&bucket.bucket, BUCKET_RATE_MAX, BUCKET_RATE_MAX, clock_now());
	report(&bucket, ns);
	bucket_shared_destroy(&bucket.bucket);
	report_lists(ns);
	report_books(ns);
	return 0;
}
