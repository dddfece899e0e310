/*
 * test_source.c - the books of the sources: the hash's own vectors, each limit, the table
 * at its bound, any sequence against a model, and threads.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/siphash.h"
#include "core/bucket.h"
#include "core/source.h"

#define START (5 * CLOCK_SEC)

Test(source, the_hash_is_siphash_2_4)
{
	/* From the paper's reference code: key 00 01 … 0f, data 00 01 …, by its length. */
	static const struct {
		size_t len;
		uint64_t hash;
	} rows[] = {{0, UINT64_C(0x726fdb47dd0e0e31)}, {1, UINT64_C(0x74f839c593dc67fd)},
	        {7, UINT64_C(0xab0200f58b01d137)}, {8, UINT64_C(0x93f5f5799a932462)},
	        {15, UINT64_C(0xa129ca6149be45e5)}, {16, UINT64_C(0x3f2acc7f57c29bdb)},
	        {18, UINT64_C(0x4bc1b3f0968dd39c)}, {63, UINT64_C(0x958a324ceb064572)}};
	const uint64_t key[2] = {
	        UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
	uint8_t data[64];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cr_assert_eq(siphash(key, data, rows[i].len), rows[i].hash,
		        "%zu bytes: %llx", rows[i].len,
		        (unsigned long long)siphash(key, data, rows[i].len));
}

static struct prefix net_of(unsigned i)
{
	struct addr addr = {.family = AF_INET};
	uint32_t number = htonl(0x0a000000 + i);

	memcpy(addr.bytes, &number, sizeof(number));
	return prefix_mask(&addr, 32, 64);
}

static struct source_books *make(uint32_t slots, uint32_t spare)
{
	struct source_books *books = NULL;

	cr_assert_eq(source_books_create(slots, spare, &books), 0);
	return books;
}

static int take(struct source_books *books, unsigned i, uint64_t now, uint32_t *ret)
{
	struct source_ticket ticket;
	struct prefix net = net_of(i);
	int r = source_take(books, &net, false, now, &ticket);

	cr_assert_eq(ticket.taken, now);
	cr_assert_eq(r == 0, ticket.entry != SOURCE_NONE);
	*ret = ticket.entry;
	return r;
}

static int find(
        struct source_books *books, unsigned i, uint64_t now, struct source_view *ret)
{
	struct prefix net = net_of(i);

	return source_find(books, &net, now, ret);
}

Test(source, max_connections_counts_what_is_open)
{
	struct source_books *books = make(100, 10);
	struct source_view view;
	uint32_t entry[8];

	source_set_limits(books, 3, 0, 0, START);
	cr_assert_eq(find(books, 1, START, &view), 1, "nothing is known of it");
	cr_assert_eq(view.tokens, UINT32_MAX, "without a rate");
	for (int i = 0; i < 3; i++)
		cr_assert_eq(take(books, 1, START, &entry[i]), 0);
	cr_assert_eq(take(books, 1, START, &entry[3]), SOURCE_LIMIT);
	cr_assert_eq(take(books, 2, START, &entry[4]), 0, "another source");
	cr_assert_eq(find(books, 1, START, &view), 0);
	cr_assert_eq(view.open, 3);
	cr_assert_eq(view.outcome, SOURCE_LIMIT);
	cr_assert_eq(view.tokens, UINT32_MAX);
	source_give(books, entry[1], START + 9);
	cr_assert_eq(take(books, 1, START + 5, &entry[1]), 0);
	cr_assert_eq(find(books, 1, START + 10, &view), 0);
	cr_assert_eq(view.seen, START + 9, "never back");
	/* Lowered: those that are open stay. Without: nobody is refused. */
	source_set_limits(books, 1, 0, 0, START);
	source_give(books, entry[0], START);
	source_give(books, entry[1], START);
	cr_assert_eq(take(books, 1, START, &entry[0]), SOURCE_LIMIT);
	source_give(books, entry[2], START);
	cr_assert_eq(take(books, 1, START, &entry[0]), 0);
	source_set_limits(books, 0, 0, 0, START);
	for (int i = 1; i < 4; i++)
		cr_assert_eq(take(books, 1, START, &entry[i]), 0);
	cr_assert_null(source_books_destroy(books));
	cr_assert_null(source_books_destroy(NULL));
}

Test(source, each_source_has_a_bucket)
{
	struct source_books *books = make(100, 10);
	struct prefix net = net_of(1);
	struct source_ticket ticket;
	struct source_view view;
	uint32_t entry;

	source_set_limits(books, 0, 2, 3, START);
	cr_assert_eq(find(books, 1, START, &view), 1);
	cr_assert_eq(view.tokens, 3);
	cr_assert_eq(view.outcome, 0);
	cr_assert(prefix_equal(&view.net, &net));
	for (int i = 0; i < 3; i++)
		cr_assert_eq(take(books, 1, START, &entry), 0);
	cr_assert_eq(take(books, 1, START, &entry), SOURCE_RATE);
	cr_assert_eq(take(books, 2, START, &entry), 0);
	cr_assert_eq(find(books, 1, START, &view), 0);
	cr_assert_eq(view.outcome, SOURCE_RATE);
	cr_assert_eq(view.wait_ns, CLOCK_SEC / 2);
	cr_assert_eq(view.open, 3, "what was refused is not booked");
	/* Exempt: neither needs a token nor takes one. */
	cr_assert_eq(source_take(books, &net, true, START, &ticket), 0);
	cr_assert_not(ticket.token);
	source_undo(books, &ticket, START);
	cr_assert_eq(take(books, 1, START, &entry), SOURCE_RATE, "no token came of it");
	/* Undone: the token is back, and the connection is no more. */
	cr_assert_eq(source_take(books, &net, false, START + CLOCK_SEC / 2, &ticket), 0);
	cr_assert(ticket.token);
	source_undo(books, &ticket, START + CLOCK_SEC / 2);
	cr_assert_eq(find(books, 1, START + CLOCK_SEC / 2, &view), 0);
	cr_assert_eq(view.open, 3);
	cr_assert_eq(view.tokens, 1);
	/* The same limits again change nothing, others keep the tokens, and what the burst grew by,
	 * also where there were two changes and no client between. */
	source_set_limits(books, 0, 2, 3, START);
	cr_assert_eq(take(books, 1, START, &entry), SOURCE_RATE);
	source_set_limits(books, 0, 1, 3, START);
	source_set_limits(books, 0, 4, 4, START);
	cr_assert_eq(take(books, 1, START, &entry), 0);
	cr_assert_eq(take(books, 1, START, &entry), SOURCE_RATE);
	cr_assert_eq(take(books, 1, START + CLOCK_SEC / 4, &entry), 0);
	source_set_limits(books, 0, 0, 0, START);
	cr_assert_eq(take(books, 1, START, &entry), 0);
	source_books_destroy(books);
}

Test(source, the_limit_comes_before_the_rate_and_costs_no_token)
{
	struct source_books *books = make(100, 10);
	struct source_view view;
	uint32_t entry[2];

	source_set_limits(books, 1, 1, 2, START);
	cr_assert_eq(take(books, 1, START, &entry[0]), 0);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(take(books, 1, START, &entry[1]), SOURCE_LIMIT);
	source_give(books, entry[0], START);
	cr_assert_eq(find(books, 1, START, &view), 0);
	cr_assert_eq(view.tokens, 1);
	cr_assert_eq(take(books, 1, START, &entry[0]), 0);
	source_give(books, entry[0], START);
	cr_assert_eq(take(books, 1, START, &entry[0]), SOURCE_RATE);
	source_books_destroy(books);
}

Test(source, the_length_of_a_network_is_part_of_its_name)
{
	struct source_books *books = make(100, 10);
	struct addr addr = {.family = AF_INET, .bytes = {203, 0, 113, 0}};
	struct prefix wide = prefix_mask(&addr, 24, 64),
	              narrow = prefix_mask(&addr, 32, 64);
	struct source_ticket ticket;

	source_set_limits(books, 1, 0, 0, START);
	cr_assert_eq(source_take(books, &wide, false, START, &ticket), 0);
	cr_assert_eq(source_take(books, &narrow, false, START, &ticket), 0, "a new mask");
	cr_assert_eq(source_take(books, &narrow, false, START, &ticket), SOURCE_LIMIT);
	cr_assert_eq(source_take(books, &wide, false, START, &ticket), SOURCE_LIMIT);
	source_books_destroy(books);
}

static void note(struct source_books *books, unsigned i, enum shed_reason reason,
        unsigned times, uint64_t now)
{
	struct prefix net = net_of(i);

	while (times-- > 0)
		source_note_shed(books, &net, reason, true, now);
}

Test(source, what_was_shed_and_who_most)
{
	struct source_books *books = make(100, 100);
	struct source_view view, top[4];

	cr_assert_eq(source_top_shed(books, START, 4, top), 0);
	for (unsigned i = 1; i <= 50; i++)
		note(books, i, SHED_FULL, i % 7, START + i);
	note(books, 20, SHED_BACKLOG, 100, START + 60);
	note(books, 30, SHED_BACKLOG, 50, START + 61);
	cr_assert_eq(source_top_shed(books, START, 4, top), 4);
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned nets[] = {20, 30, 6, 13},
		                      counts[] = {106, 52, 6, 6};
		struct prefix net = net_of(nets[i]);

		cr_assert_eq(top[i].shed_spell, counts[i]);
		if (i < 2)
			cr_assert(prefix_equal(&top[i].net, &net));
	}
	cr_assert_eq(find(books, 20, START, &view), 0);
	cr_assert_eq(view.shed[SHED_FULL], 6);
	cr_assert_eq(view.shed[SHED_BACKLOG], 100);
	cr_assert_eq(view.shed[SHED_FDS], 0);
	cr_assert_eq(view.shed_last, SHED_BACKLOG);
	cr_assert_eq(view.shed_at, START + 60);
	cr_assert_eq(view.seen, START + 60);
	cr_assert_eq(find(books, 7, START, &view), 1, "never heard of");
	/* A new spell: counted anew, the rest remembered. */
	source_begin_spell(books);
	cr_assert_eq(source_top_shed(books, START, 4, top), 0);
	note(books, 5, SHED_FULL, 2, START + 70);
	cr_assert_eq(source_top_shed(books, START, 4, top), 1);
	cr_assert_eq(top[0].shed_spell, 2);
	cr_assert_eq(top[0].shed[SHED_FULL], 7);
	cr_assert_eq(source_top_shed(books, START, 0, top), 0);
	source_books_destroy(books);
}

static struct source_usage usage_of(struct source_books *books)
{
	struct source_usage usage;

	source_read_usage(books, &usage);
	return usage;
}

Test(source, a_million_addresses_leave_the_memory_and_the_open_ones_as_they_are)
{
	struct source_books *books = make(500, 1000);
	size_t bytes = usage_of(books).bytes;
	uint32_t entry[500], none;
	struct source_view view;

	source_set_limits(books, 1, 1, 1, START);
	for (unsigned i = 0; i < 500; i++)
		cr_assert_eq(take(books, i, START, &entry[i]), 0);
	for (unsigned i = 0; i < 1000000; i++)
		note(books, 1000 + i, SHED_FULL, 1, START + CLOCK_SEC);
	struct source_usage usage = usage_of(books);

	cr_assert_eq(usage.bytes, bytes);
	cr_assert_eq(usage.capacity, 1500);
	cr_assert_eq(usage.used, 1500);
	cr_assert_eq(usage.open, 500);
	cr_assert_eq(usage.forgotten, 999000);
	cr_assert_eq(usage.early, 0);
	cr_assert_eq(usage.unbooked, 0);
	for (unsigned i = 0; i < 500; i++) {
		cr_assert_eq(take(books, i, START + CLOCK_SEC, &none), SOURCE_LIMIT);
		cr_assert_eq(find(books, i, START, &view), 0);
		cr_assert_eq(view.open, 1);
		source_give(books, entry[i], START + CLOCK_SEC);
	}
	cr_assert_eq(usage_of(books).open, 0);
	cr_assert_eq(find(books, 1000999, START, &view), 0, "the latest is known");
	cr_assert_eq(find(books, 1000, START, &view), 1, "the oldest is not");
	source_books_destroy(books);
}

Test(source, who_lacks_tokens_is_forgotten_last)
{
	struct source_books *books = make(0, 1000);
	uint32_t entry;

	/* A hundred heavy ones, each of which lacks an hour's worth; then the light ones. */
	source_set_limits(books, 0, 1, 3600, START);
	for (unsigned i = 0; i < 100; i++)
		for (int k = 0; k < 3600; k++) {
			cr_assert_eq(take(books, i, START, &entry), 0);
			source_give(books, entry, START);
		}
	for (unsigned i = 0; i < 20000; i++)
		note(books, 1000 + i, SHED_FULL, 1, START + 1);
	cr_assert_eq(usage_of(books).early, 0);
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(
		        take(books, i, START + 2, &entry), SOURCE_RATE, "source %u", i);
	/* When all lack, the oldest goes. */
	for (unsigned i = 0; i < 3000; i++) {
		cr_assert_eq(take(books, 50000 + i, START + 3 + i, &entry), 0);
		source_give(books, entry, START + 3 + i);
	}
	cr_assert_gt(usage_of(books).early, 1500);
	cr_assert_eq(usage_of(books).unbooked, 0);
	source_books_destroy(books);
}

Test(source, when_all_lack_tokens_the_oldest_goes)
{
	struct source_books *books = make(0, 6400);
	unsigned old = 0;
	uint32_t entry;

	source_set_limits(books, 0, 1, 3600, START);
	for (unsigned i = 0; i < 6400 + 32; i++) {
		cr_assert_eq(take(books, i, START + i, &entry), 0);
		source_give(books, entry, START + i);
	}
	cr_assert_eq(usage_of(books).early, 32);
	/* A stripe has a hundred or so, its oldest among the first 64 or so. */
	for (unsigned i = 0; i < 200; i++) {
		struct source_view view;

		old += find(books, i, START, &view) != 0;
	}
	cr_assert_gt(old, 16);
	source_books_destroy(books);
}

Test(source, who_keeps_coming_is_remembered)
{
	struct source_books *books = make(0, 1000);
	struct source_view view;

	for (unsigned i = 0; i < 20000; i++) {
		note(books, 1000 + i, SHED_FULL, 1, START + i);
		if (i % 50 == 0)
			note(books, 7, SHED_FULL, 1, START + i);
	}
	cr_assert_eq(find(books, 7, START, &view), 0);
	cr_assert_eq(view.shed[SHED_FULL], 400);
	cr_assert_eq(usage_of(books).forgotten, 19001);
	source_books_destroy(books);
}

Test(source, more_open_than_there_is_room_for_is_let_in_and_said)
{
	struct source_books *books = make(70, 0);
	struct prefix net = net_of(1000);
	struct source_ticket ticket;
	uint32_t entry[70];

	for (unsigned i = 0; i < 70; i++)
		cr_assert_eq(take(books, i, START, &entry[i]), 0);
	cr_assert_eq(source_take(books, &net, false, START, &ticket), 0);
	cr_assert_eq(ticket.entry, SOURCE_NONE);
	note(books, 1001, SHED_FULL, 1, START);
	cr_assert_eq(usage_of(books).unbooked, 2);
	cr_assert_eq(usage_of(books).open, 70);
	source_undo(books, &ticket, START);
	source_give(books, ticket.entry, START);
	source_give(books, entry[33], START);
	cr_assert_eq(source_take(books, &net, false, START, &ticket), 0);
	cr_assert_neq(ticket.entry, SOURCE_NONE, "whichever stripe has the place");
	cr_assert_eq(usage_of(books).open, 70);
	source_books_destroy(books);
}

Test(source, a_table_that_is_too_large_is_refused)
{
	struct source_books *books = NULL;

	cr_assert_eq(source_books_create(UINT32_MAX, SOURCE_SPARE, &books), -ENOMEM);
	cr_assert_null(books);
}
