/*
 * test_history.c - the history: numbers, what is lost, what is summed up, and that the ring keeps
 * hours however fast things come; its lines and objects.
 */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "core/overload.h"
#include "daemon/history.h"
#include "daemon/history_text.h"
#include "rig.h"

#define START (7 * CLOCK_SEC)
#define HOUR  (3600 * CLOCK_SEC)

static struct history *history_make(void)
{
	struct history *h = calloc(1, sizeof(*h));

	cr_assert_not_null(h);
	return h;
}

static void add(struct history *h, enum history_kind kind, uint64_t now)
{
	history_add(h, &(struct history_entry){.kind = kind, .at = now});
}

static bool begin_spell(struct history *h, uint64_t now)
{
	return history_begin_spell(
	        h, &(struct history_entry){.kind = HISTORY_FULL, .at = now});
}

static void end_spell(struct history *h, uint64_t lasted, uint64_t shed, uint64_t now)
{
	history_end_spell(h, &(struct history_entry){.kind = HISTORY_NOT_FULL,
	                             .at = now,
	                             .spells = {.n = 1, .lasted = lasted, .shed = shed}});
}

/* The newest. */
static const struct history_entry *newest(const struct history *h)
{
	uint64_t lost;

	cr_assert_gt(h->n, 0);
	return history_next(h, h->n - 1, &lost);
}

Test(history, every_entry_once_and_what_is_lost_counted)
{
	OWN_MEM struct history *h = history_make();
	uint64_t lost, since = 0;

	cr_expect_null(history_next(h, 0, &lost));
	cr_expect_eq(lost, 0);
	for (uint64_t i = 1; i <= 3 * HISTORY_SIZE; i++) {
		add(h, HISTORY_OPEN, START + i);
		if (i > HISTORY_SIZE + 100)
			continue;
		const struct history_entry *e = history_next(h, since, &lost);
		cr_assert_eq(e->number, i);
		cr_assert_eq(lost, 0);
		cr_assert_eq(e->at, START + i);
		since = e->number;
		cr_assert_null(history_next(h, since, &lost));
	}
	const struct history_entry *e = history_next(h, since, &lost);
	cr_expect_eq(lost, 3 * HISTORY_SIZE - since - HISTORY_SIZE);
	cr_expect_eq(e->number, since + lost + 1);
	cr_expect_eq(history_next(h, e->number, &lost)->number, e->number + 1);
	cr_expect_eq(lost, 0);
	cr_expect_null(history_next(h, UINT64_MAX - 1, &lost));
}

Test(history, a_burst_is_told_the_rest_summed_up)
{
	OWN_MEM struct history *h = history_make();

	for (unsigned i = 0; i < 100; i++)
		add(h, i % 2 ? HISTORY_GATE_OPEN : HISTORY_GATE_CLOSED, START + i);
	cr_expect_eq(h->n, HISTORY_BURST);
	/* Another topic has a pace of its own. */
	add(h, HISTORY_DRAIN_ON, START + 100);
	cr_expect_eq(h->n, HISTORY_BURST + 1);
	history_flush(h, START + HISTORY_PACE_NS - 1);
	cr_expect_eq(h->n, HISTORY_BURST + 1);
	history_flush(h, START + HISTORY_PACE_NS);
	cr_expect_eq(h->n, HISTORY_BURST + 2);
	const struct history_entry *e = newest(h);
	cr_expect_eq(e->kind, HISTORY_GATE_OPEN, "the last one");
	cr_expect_eq(e->summed, 100 - HISTORY_BURST);
	cr_expect_eq(e->since, START + HISTORY_BURST);
	cr_expect_eq(e->last, START + 99);
	cr_expect_eq(e->at, START + HISTORY_PACE_NS, "its place is where it was written");
	history_flush(h, START + HOUR);
	cr_expect_eq(h->n, HISTORY_BURST + 2, "nothing twice");
}

Test(history, after_rest_everything_is_told_again)
{
	OWN_MEM struct history *h = history_make();

	for (unsigned i = 0; i < HISTORY_BURST; i++)
		add(h, HISTORY_RELOADED, START);
	for (unsigned i = 1; i <= 20; i++)
		add(h, HISTORY_RELOADED, START + i * HISTORY_PACE_NS);
	cr_expect_eq(h->n, HISTORY_BURST + 20);
	add(h, HISTORY_REJECTED, START + 20 * HISTORY_PACE_NS + 1);
	cr_expect_eq(h->n, HISTORY_BURST + 20);
	/* What is kept back goes before what is new. */
	add(h, HISTORY_RELOADED, START + HOUR);
	cr_expect_eq(h->n, HISTORY_BURST + 20);
	history_flush(h, START + HOUR);
	cr_expect_eq(newest(h)->kind, HISTORY_RELOADED);
	cr_expect_eq(newest(h)->summed, 2);
}

Test(history, lost_reports_add_up)
{
	OWN_MEM struct history *h = history_make();
	uint64_t told = 0, lost;

	for (unsigned i = 0; i < 50; i++)
		history_add(
		        h, &(struct history_entry){
		                   .kind = HISTORY_REPORTS_LOST, .at = START, .lost = i});
	history_flush(h, START + HOUR);
	for (uint64_t n = 0; history_next(h, n, &lost); n++)
		told += history_next(h, n, &lost)->lost;
	cr_expect_eq(told, 49 * 50 / 2);
}

Test(history, spells_that_flap_are_one_entry)
{
	OWN_MEM struct history *h = history_make();
	const struct history_net net = {.shed = 77};
	unsigned told = 0;

	for (unsigned i = 0; i < 100; i++) {
		told += begin_spell(h, START + 2 * i);
		cr_expect_eq(history_tells_end(h), i < HISTORY_BURST);
		end_spell(h, CLOCK_MSEC, 3, START + 2 * i + 1);
	}
	cr_expect_eq(told, HISTORY_BURST);
	cr_expect_eq(h->n, 2 * HISTORY_BURST);
	cr_expect(history_sums_spells(h));
	history_flush(h, START + HOUR);
	cr_expect_eq(h->n, 2 * HISTORY_BURST, "not without its networks");
	cr_expect_not(history_spells_are_due(h, START + HISTORY_PACE_NS - 1));
	cr_expect(history_spells_are_due(h, START + HISTORY_PACE_NS));
	history_set_nets(h, &net, 1);
	history_write_spells(h, START + HISTORY_PACE_NS);
	cr_expect_not(history_sums_spells(h));
	const struct history_entry *e = newest(h);
	cr_expect_eq(e->kind, HISTORY_SPELLS);
	cr_expect_eq(e->summed, 100 - HISTORY_BURST);
	cr_expect_eq(e->spells.n, 100 - HISTORY_BURST);
	cr_expect_eq(e->spells.shed, 3 * (100 - HISTORY_BURST));
	cr_expect_eq(e->spells.lasted, (100 - HISTORY_BURST) * CLOCK_MSEC);
	cr_expect_eq(e->spells.net[0].shed, 77);
	cr_expect_not(e->spells.goes_on);
}

Test(history, a_spell_that_outlives_the_sum_has_an_end_of_its_own)
{
	OWN_MEM struct history *h = history_make();

	for (unsigned i = 0; i < HISTORY_BURST + 3; i++) {
		if (i > 0)
			end_spell(h, 1, 1, START);
		(void)begin_spell(h, START);
	}
	history_write_spells(h, START + HOUR);
	cr_expect(newest(h)->spells.goes_on);
	cr_expect_eq(newest(h)->spells.n, 2);
	cr_expect_eq(newest(h)->summed, 3);
	cr_expect(history_tells_end(h));
	end_spell(h, 2 * HOUR, 9, START + 2 * HOUR);
	cr_expect_eq(newest(h)->kind, HISTORY_NOT_FULL);
	cr_expect_eq(newest(h)->spells.lasted, 2 * HOUR);
	/* An end without a beginning, whose report was lost, is no entry. */
	uint64_t n = h->n;
	end_spell(h, 1, 1, START + 3 * HOUR);
	cr_expect_eq(h->n, n);
}

/* What the header promises: a thousand a second, of one topic or of all, and still hours. */
static uint64_t kept_ns(const enum history_kind *kinds, size_t n_kinds)
{
	OWN_MEM struct history *h = history_make();
	uint64_t now = START, lost;

	for (unsigned i = 0; i < 36000; i++, now += CLOCK_SEC) {
		for (unsigned k = 0; k < 3 * n_kinds; k++) {
			enum history_kind kind = kinds[k % n_kinds];
			if (kind == HISTORY_FULL) {
				(void)begin_spell(h, now);
				end_spell(h, 1, 1, now);
			} else {
				add(h, kind, now);
			}
		}
		history_flush(h, now);
		if (history_spells_are_due(h, now))
			history_write_spells(h, now);
	}
	cr_assert_gt(h->n, HISTORY_SIZE);
	return now - history_next(h, 0, &lost)->at;
}

Test(history, the_ring_keeps_hours)
{
	static const enum history_kind all[] = {HISTORY_FULL, HISTORY_GATE_CLOSED,
	        HISTORY_DRAIN_ON, HISTORY_REJECTED, HISTORY_STALLED, HISTORY_ACCEPT_ERROR,
	        HISTORY_DOWN, HISTORY_REPORTS_LOST};

	_Static_assert(ARRAY_SIZE(all) == HISTORY_TOPIC_COUNT, "one of each topic");
	cr_expect_gt(kept_ns(all, 1), 4 * HOUR);
	cr_expect_gt(kept_ns(all, ARRAY_SIZE(all)), HOUR);
}

Test(history, time_never_goes_back)
{
	OWN_MEM struct history *h = history_make();

	add(h, HISTORY_OPEN, START + 10);
	add(h, HISTORY_STORED, START + 5);
	cr_expect_eq(newest(h)->at, START + 10);
	add(h, HISTORY_STOPPING, START + 11);
	cr_expect_eq(newest(h)->at, START + 11);
}

/* The line or the object of an entry. */
static void expect_text(const struct history_entry *e, bool json, const char *wanted)
{
	char text[2048] = "";
	OWN_FILE FILE *out = fmemopen(text, sizeof(text), "w");
	const struct history_render r = {
	        .out = out, .json = json, .wall = {.ahead = 1000 * (int64_t)CLOCK_SEC}};

	cr_assert_not_null(out);
	history_render(&r, e);
	own_fclose_p(&out);
	cr_expect_str_eq(text, wanted);
}

Test(history, lines_and_objects)
{
	struct history_entry e = {.kind = HISTORY_NOT_FULL,
	        .number = 5,
	        .at = 86400 * CLOCK_SEC + 12 * CLOCK_MSEC,
	        .spells = {.n = 1,
	                .lasted = 1234567890,
	                .shed = 7,
	                .depth_peak = 3,
	                .n_nets = 2}};

	e.spells.net[0] = (struct history_net){
	        {.family = AF_INET, .bits = 24, .bytes = {203, 0, 113}}, 5};
	e.spells.net[1] = (struct history_net){
	        {.family = AF_INET6, .bits = 32, .bytes = {0x20, 1, 0xd, 0xb8}}, 2};
	expect_text(&e, false,
	        "1970-01-02T00:16:40.012Z not_full     after 1.235 s: 7 shed; queue peak "
	        "3; "
	        "most of them from 203.0.113.0/24 (5), 2001:db8::/32 (2)\n");
	expect_text(&e, true,
	        "{\"number\":5,\"time\":\"1970-01-02T00:16:40.012Z\",\"event\":\"not_"
	        "full\","
	        "\"cause\":\"slots\",\"lasted_seconds\":1.235,\"shed\":7,\"queue_peak\":"
	        "3,"
	        "\"goes_on\":false,\"networks\":[{\"network\":\"203.0.113.0/"
	        "24\",\"shed\":5},"
	        "{\"network\":\"2001:db8::/32\",\"shed\":2}]}\n");
	e = (struct history_entry){.kind = HISTORY_REJECTED,
	        .summed = 3,
	        .alike = 1,
	        .since = 0,
	        .last = CLOCK_SEC,
	        .text = "a \"b\\\x1b\n"};
	expect_text(&e, true,
	        "{\"number\":null,\"time\":\"1970-01-01T00:16:40.000Z\",\"event\":"
	        "\"rejected\","
	        "\"mistake\":\"a \\\"b\\\\\\u001b\\u000a\",\"summed\":3,"
	        "\"alike\":1,"
	        "\"since\":\"1970-01-01T00:16:40.000Z\",\"last\":\"1970-01-01T00:16:41."
	        "000Z\"}\n");
	e.text[1] = '\0';
	expect_text(&e, false,
	        "1970-01-01T00:16:40.000Z rejected     the old configuration stays: a "
	        "(the "
	        "last of 1 like it, and of 2 reloaded), between "
	        "1970-01-01T00:16:40.000Z and 1970-01-01T00:16:41.000Z (so far)\n");
	e = (struct history_entry){
	        .kind = HISTORY_GATE_OPEN, .number = 1, .summed = 2, .alike = 2};
	expect_text(&e, false,
	        "1970-01-01T00:16:40.000Z gate_open    SYNs are answered again (the last "
	        "of 2 "
	        "like it), between 1970-01-01T00:16:40.000Z and "
	        "1970-01-01T00:16:40.000Z\n");
}

Test(history, a_text_that_does_not_fit_says_so)
{
	struct history_entry e = {.kind = HISTORY_REJECTED};
	char text[2 * HISTORY_TEXT_MAX] = "";

	for (size_t i = 0; i < HISTORY_TEXT_MAX - 1; i++)
		text[i] = 'a';
	history_set_text(&e, text);
	cr_expect_str_eq(e.text, text, "it fits exactly");
	text[HISTORY_TEXT_MAX - 1] = 'b';
	history_set_text(&e, text);
	cr_expect_eq(strlen(e.text), HISTORY_TEXT_MAX - 1);
	cr_expect_str_eq(e.text + HISTORY_TEXT_MAX - 5, "a...");
	/* Two bytes of a character, of which one would fit. */
	text[HISTORY_TEXT_MAX - 5] = '\xc3';
	text[HISTORY_TEXT_MAX - 4] = '\xa4';
	history_set_text(&e, text);
	cr_expect_str_eq(e.text + HISTORY_TEXT_MAX - 6, "a...");
}

Test(history, what_is_like_it_is_of_its_kind)
{
	OWN_MEM struct history *h = history_make();

	for (unsigned i = 0; i < 3 * HISTORY_BURST; i++)
		add(h, i % 3 ? HISTORY_GATE_CLOSED : HISTORY_GATE_OPEN, START);
	history_flush(h, START + HOUR);
	cr_expect_eq(newest(h)->kind, HISTORY_GATE_CLOSED);
	cr_expect_eq(newest(h)->summed, 2 * HISTORY_BURST);
	/* Of 8 to 23: without 9, 12, 15, 18, 21. */
	cr_expect_eq(newest(h)->alike, 2 * HISTORY_BURST - 5);
}

Test(history, every_kind_has_a_line)
{
	for (enum history_kind kind = 0; kind < HISTORY_KIND_COUNT; kind++) {
		char text[1024] = "";
		struct history_entry e = {.kind = kind, .number = 1};
		if (kind == HISTORY_OPEN)
			e.port.from = "own";
		for (int json = 0; json < 2; json++) {
			OWN_FILE FILE *out = fmemopen(text, sizeof(text), "w");
			const struct history_render r = {.out = out, .json = json};
			cr_assert_not_null(out);
			history_render(&r, &e);
			own_fclose_p(&out);
			cr_expect_not_null(strstr(text, history_kind_name(kind)));
			cr_expect_eq(strchr(text, '\n'), text + strlen(text) - 1);
		}
	}
}

Test(history, what_is_forgotten_leaves_a_line)
{
	char text[512] = "";
	OWN_FILE FILE *out = fmemopen(text, sizeof(text), "w");
	struct history_render r = {.out = out};

	cr_assert_not_null(out);
	history_render_lost(&r, 17, 99);
	r.json = true;
	history_render_lost(&r, 17, 99);
	own_fclose_p(&out);
	cr_expect_str_eq(text,
	        "(17 entries that stood here are forgotten)\n"
	        "{\"number\":99,\"event\":\"forgotten\",\"entries\":17}\n");
}

/* One worker ends a spell, another begins the next: main hears of both at once. */
Test(history, spells_keep_their_order_among_workers)
{
	static const struct service service = {.name = "none", .fds_per_connection = 1};
	enum event_kind last = EVENT_KIND_COUNT;
	struct event event;
	uint64_t dropped;
	struct rig rig;

	rig_init(&rig, 3, 4);
	rig_open(&rig, &service);
	for (unsigned i = 0; i < 30; i++) {
		port_begin_spell(rig_worker(&rig, i % 3), STATE_CAUSE_SLOTS);
		port_check_spell(rig_worker(&rig, (i + 1) % 3));
		if (i % 4 != 3)
			continue;
		for (unsigned k = 0; k < 8; k++) {
			cr_assert_eq(port_next_event(rig.port, &event, &dropped), 1);
			cr_assert_neq(event.kind, last);
			last = event.kind;
		}
		cr_assert_eq(last, EVENT_NOT_FULL);
	}
	cr_expect_eq(dropped, 0);
	rig_close(&rig);
}

Test(history, a_clock_that_nobody_has_set)
{
	const struct wall wall = {.ahead = -5 * (int64_t)CLOCK_SEC};
	char text[WALL_TEXT_MAX];

	cr_expect_str_eq(wall_format(&wall, CLOCK_SEC, text), "1970-01-01T00:00:00.000Z");
	cr_expect_str_eq(
	        wall_format(&wall, 6 * CLOCK_SEC, text), "1970-01-01T00:00:01.000Z");
}
