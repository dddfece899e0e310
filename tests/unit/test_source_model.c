/*
 * test_source_model.c - the books of the sources in any sequence against a model that has
 * a row for each source and forgets nothing but what the books say they forgot; and
 * threads against each other, also past the bound.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/source.h"

__extension__ typedef __int128 wide;

#define START (5 * CLOCK_SEC)
#define TOKEN ((wide)CLOCK_SEC)

static struct prefix net_of(unsigned i)
{
	struct addr addr = {.family = i % 2 ? AF_INET : AF_INET6};
	uint32_t number = htonl(0x0a000000 + i);

	memcpy(addr.bytes, &number, sizeof(number));
	return prefix_mask(&addr, 32, 64);
}

#define NETS    40
#define TICKETS 24

struct row {
	bool known;
	unsigned open, shed[SHED_COUNT], shed_spell;
	uint64_t seen, shed_at;
	wide lack; /* of tokens, in 1/rate ns, at `at` and under limits number `limits` */
	uint64_t at, limits;
};

struct model {
	struct source_books *books;
	struct row row[NETS];
	uint32_t max_connections, rate[200], burst[200];
	uint64_t limits, since[200]; /* the newest of those three */
	struct source_ticket ticket[TICKETS];
	unsigned net[TICKETS], n_tickets;
	uint64_t now, forgotten, early;
};

/* What the row lacks now, under the limits of now, through all that there were meanwhile. */
static wide row_lack(const struct model *m, const struct row *row)
{
	wide lack = row->lack;
	uint64_t at = row->at;

	for (uint64_t i = row->limits; i < m->limits; i++) {
		/* Less what the burst has shrunk by; nothing after no limit. */
		wide less = (m->burst[i] - (wide)m->burst[i + 1]) * TOKEN;

		lack -= (wide)(m->since[i + 1] - at) * m->rate[i];
		lack = m->rate[i] == 0 || lack < 0 ? 0 : lack;
		lack -= less > lack ? lack : less > 0 ? less : 0;
		at = m->since[i + 1];
	}
	lack -= (wide)(m->now - at) * m->rate[m->limits];
	return lack > 0 && m->rate[m->limits] > 0 ? lack : 0;
}

static int model_outcome(const struct model *m, const struct row *row, bool exempt)
{
	uint32_t rate = m->rate[m->limits];
	wide room = m->burst[m->limits] * TOKEN - row_lack(m, row);

	if (m->max_connections > 0 && row->open >= m->max_connections)
		return SOURCE_LIMIT;
	return rate > 0 && !exempt && room < TOKEN ? SOURCE_RATE : 0;
}

static void row_hear(struct model *m, struct row *row)
{
	row->known = true;
	if (row->seen < m->now)
		row->seen = m->now;
}

static void do_take(struct model *m, unsigned i)
{
	bool exempt = rand() % 5 == 0;
	unsigned k = m->n_tickets;
	struct prefix net = net_of(i);
	struct row *row = &m->row[i];
	int expected = model_outcome(m, row, exempt);
	/* A take that asks the bucket, granted or not, makes it one of the new limits. */
	bool asks = expected != SOURCE_LIMIT && !exempt && m->rate[m->limits] > 0;

	cr_assert_eq(
	        source_take(m->books, &net, exempt, m->now, &m->ticket[k]), expected);
	cr_assert_eq(m->ticket[k].token, asks && expected == 0);
	if (asks) {
		row->lack = row_lack(m, row) + (expected == 0 ? TOKEN : 0);
		row->at = m->now;
		row->limits = m->limits;
	}
	row_hear(m, row);
	if (expected != 0) {
		cr_assert_eq(m->ticket[k].entry, SOURCE_NONE);
		return;
	}
	cr_assert_neq(m->ticket[k].entry, SOURCE_NONE);
	m->net[m->n_tickets++] = i;
	row->open++;
}

/* Gives or, if it was taken just now, undoes: then the token is surely back, but for one
 * that the limits of just now have overtaken. */
static void do_end(struct model *m)
{
	unsigned k = (unsigned)rand() % m->n_tickets;
	struct source_ticket *ticket = &m->ticket[k];
	struct row *row = &m->row[m->net[k]];

	if (ticket->taken == m->now && m->now >= m->since[m->limits] + CLOCK_SEC) {
		source_undo(m->books, ticket, m->now);
		if (ticket->token)
			row->lack = row->lack > TOKEN ? row->lack - TOKEN : 0;
	} else {
		source_give(m->books, ticket->entry, m->now);
	}
	row->open--;
	row_hear(m, row);
	*ticket = m->ticket[--m->n_tickets];
	m->net[k] = m->net[m->n_tickets];
}

static void do_shed(struct model *m, unsigned i)
{
	struct prefix net = net_of(i);
	struct row *row = &m->row[i];
	enum shed_reason reason = (unsigned)rand() % SHED_COUNT;

	source_note_shed(m->books, &net, reason, true, m->now);
	row->shed[reason]++;
	row->shed_spell++;
	row->shed_at = m->now;
	row_hear(m, row);
}

static void do_limits(struct model *m)
{
	uint32_t rate = rand() % 4 ? 1 + (uint32_t)rand() % 30 : 0;
	uint32_t burst = 1 + (uint32_t)rand() % 20;

	m->max_connections = (uint32_t)rand() % 4;
	source_set_limits(m->books, m->max_connections, rate, burst, m->now);
	if (rate == m->rate[m->limits] && (rate == 0 || burst == m->burst[m->limits]))
		return;
	/* All rows as they are when the limits change, under those. */
	m->limits++;
	cr_assert_lt(m->limits, ARRAY_SIZE(m->rate));
	m->rate[m->limits] = rate;
	m->burst[m->limits] = burst;
	m->since[m->limits] = m->now;
}

static void step(struct model *m, bool crowded)
{
	unsigned i = (unsigned)rand() % NETS;

	switch (rand() % 12) {
	case 0:
	case 1:
	case 2:
	case 3:
		if (m->n_tickets < (crowded ? 6 : TICKETS))
			do_take(m, i);
		break;
	case 4:
	case 5:
	case 6:
		if (m->n_tickets > 0)
			do_end(m);
		break;
	case 7:
		do_shed(m, i);
		break;
	case 8:
		if (rand() % 8 == 0)
			do_limits(m);
		break;
	case 9:
		if (rand() % 8 != 0)
			break;
		source_begin_spell(m->books);
		for (unsigned k = 0; k < NETS; k++)
			m->row[k].shed_spell = 0;
		break;
	default:
		m->now += (uint64_t)rand() % (CLOCK_SEC / 8);
		break;
	}
}

static void compare_row(
        const struct model *m, const struct row *row, const struct source_view *view)
{
	uint32_t rate = m->rate[m->limits];
	wide room = m->burst[m->limits] * TOKEN - row_lack(m, row);
	uint32_t tokens = rate == 0  ? UINT32_MAX
	                  : room < 0 ? 0
	                             : (uint32_t)(room / TOKEN);

	cr_assert_eq(view->open, row->open);
	cr_assert_eq(view->tokens, tokens);
	cr_assert_eq(view->outcome, model_outcome(m, row, 0));
	cr_assert_eq(view->seen, row->seen);
	cr_assert_eq(view->shed_at, row->shed_at);
	cr_assert_eq(view->shed_spell, row->shed_spell);
	for (unsigned r = 0; r < SHED_COUNT; r++)
		cr_assert_eq(view->shed[r], row->shed[r]);
}

/* Every source, and what was forgotten: only beyond the capacity, and nothing open. */
static void compare(struct model *m)
{
	struct source_usage usage;
	uint64_t forgotten = m->forgotten, open = 0;

	source_read_usage(m->books, &usage);
	for (unsigned i = 0; i < NETS; i++) {
		struct prefix net = net_of(i);
		struct source_view view;
		struct row *row = &m->row[i];

		if (source_find(m->books, &net, m->now, &view) == 0) {
			cr_assert(row->known);
			compare_row(m, row, &view);
		} else if (row->known) {
			cr_assert_eq(row->open, 0, "never one that is open");
			cr_assert_eq(usage.used, usage.capacity);
			m->forgotten++;
			m->early += row_lack(m, row) > 0;
			*row = (struct row){.known = false, .limits = m->limits};
		} else {
			cr_assert_eq(view.outcome, 0);
		}
		open += row->open > 0;
	}
	cr_assert_leq(m->forgotten, forgotten + 1, "one for each that is new");
	cr_assert_eq(usage.forgotten, m->forgotten);
	cr_assert_eq(usage.early, m->early);
	cr_assert_eq(usage.open, open);
	cr_assert_eq(usage.unbooked, 0);
}

static void compare_top(const struct model *m)
{
	struct source_view top[5];
	size_t n = source_top_shed(m->books, m->now, 5, top), shed = 0;

	for (unsigned i = 0; i < NETS; i++) {
		struct prefix net = net_of(i);
		bool in = false;

		shed += m->row[i].shed_spell > 0;
		for (size_t k = 0; k < n; k++)
			in |= prefix_equal(&top[k].net, &net) &&
			      top[k].shed_spell == m->row[i].shed_spell;
		cr_assert(in || (n == 5 ? m->row[i].shed_spell <= top[4].shed_spell
		                        : m->row[i].shed_spell == 0));
	}
	cr_assert_eq(n, shed < 5 ? shed : 5);
	for (size_t k = 1; k < n; k++)
		cr_assert_leq(top[k].shed_spell, top[k - 1].shed_spell);
}

static uint64_t run_model(unsigned seed, uint32_t slots, uint32_t spare)
{
	static struct model m;

	srand(seed);
	m = (struct model){.now = START};
	cr_assert_eq(source_books_create(slots, spare, &m.books), 0);
	for (int i = 0; i < 1500; i++) {
		step(&m, slots + spare < NETS);
		compare(&m);
		if (i % 16 == 0)
			compare_top(&m);
	}
	while (m.n_tickets > 0)
		do_end(&m);
	compare(&m);
	m.books = source_books_destroy(m.books);
	return m.forgotten + m.early;
}

Test(source_model, any_sequence_within_the_capacity)
{
	for (unsigned seed = 1; seed <= 60; seed++)
		cr_assert_eq(run_model(seed, TICKETS, NETS - TICKETS), 0);
}

Test(source_model, any_sequence_past_the_capacity)
{
	uint64_t forgotten = 0;

	for (unsigned seed = 1; seed <= 60; seed++)
		forgotten += run_model(seed, 6, 1 + seed % 20);
	cr_assert_gt(forgotten, 1000);
}

#define RACERS 4
#define TURNS  20000
#define CROWD  64

struct race {
	struct source_books *books;
	pthread_barrier_t start;
	_Atomic unsigned inside[CROWD], spent[CROWD], most;
	_Atomic bool over;
	_Atomic unsigned seeds, arrived;
	uint32_t limit; /* connections of a source */
	bool herd;      /* all threads bring the same source, then all the next one */
};

static void race_end(struct race *race, unsigned *random,
        const struct source_ticket *ticket, unsigned i)
{
	race->inside[i]--;
	if (rand_r(random) % 2) {
		source_undo(race->books, ticket, START);
		race->spent[i] -= ticket->token;
	} else {
		source_give(race->books, ticket->entry, START);
	}
}

/* Holds up to four at a time, each from any of the sources. */
static void *race_main(void *arg)
{
	struct race *race = arg;
	unsigned random = ++race->seeds, net[4] = {0};
	struct source_ticket ticket[4] = {{.entry = SOURCE_NONE}};

	(void)pthread_barrier_wait(&race->start);
	for (unsigned turn = 0; turn < (race->herd ? TURNS / 8 : TURNS); turn++) {
		unsigned k = turn % 4, i = (unsigned)rand_r(&random) % CROWD;

		if (race->herd) {
			/* Side by side, so that they meet in the middle of it. */
			race->arrived++;
			while (race->arrived < RACERS * (turn + 1))
				(void)sched_yield();
			i = turn % CROWD;
		}
		struct prefix name = net_of(i);

		if (ticket[k].entry != SOURCE_NONE)
			race_end(race, &random, &ticket[k], net[k]);
		if (source_take(race->books, &name, false, START, &ticket[k]) == 0) {
			unsigned now = ++race->inside[i], most = race->most;

			race->spent[i] += ticket[k].token;
			while (now > most &&
			        !atomic_compare_exchange_weak(&race->most, &most, now))
				;
		}
		net[k] = i;
		if (turn % 8 == 0)
			source_note_shed(race->books, &name, SHED_FULL, true, START);
	}
	for (unsigned k = 0; k < 4; k++)
		if (ticket[k].entry != SOURCE_NONE)
			race_end(race, &random, &ticket[k], net[k]);
	return NULL;
}

/* What the main thread does meanwhile. */
static void *look_main(void *arg)
{
	struct race *race = arg;
	struct source_view view[8];
	struct source_usage usage;

	for (unsigned i = 0; !race->over; i++) {
		struct prefix name = net_of(i % CROWD);

		(void)source_top_shed(race->books, START, 8, view);
		(void)source_find(race->books, &name, START, view);
		source_read_usage(race->books, &usage);
		if (i % 64 == 0)
			source_begin_spell(race->books);
		/* The same limits again. */
		source_set_limits(race->books, race->limit, 1, 1000000, START);
	}
	return NULL;
}

/* None of the entries was lost on the way: all can be open at once. */
static void take_all_entries(struct source_books *books, uint32_t capacity)
{
	OWN_MEM struct source_ticket *ticket = calloc(capacity, sizeof(*ticket));
	struct source_usage usage;

	for (unsigned i = 0; i < capacity; i++) {
		struct prefix name = net_of(CROWD + i);

		cr_assert_eq(source_take(books, &name, false, START, &ticket[i]), 0);
		cr_assert_neq(ticket[i].entry, SOURCE_NONE, "%u of %u", i, capacity);
	}
	source_read_usage(books, &usage);
	cr_assert_eq(usage.open, capacity);
	for (unsigned i = 0; i < capacity; i++)
		source_give(books, ticket[i].entry, START);
}

/* Returns what was spent in all. */
static uint64_t run_race(struct race *race, uint32_t spare, uint32_t limit, bool herd)
{
	pthread_t thread[RACERS + 1];
	struct source_usage usage;
	uint64_t spent = 0;

	*race = (struct race){.limit = limit, .herd = herd};
	cr_assert_eq(source_books_create(RACERS * 4, spare, &race->books), 0);
	source_set_limits(race->books, limit, 1, 1000000, 0);
	cr_assert_eq(pthread_barrier_init(&race->start, NULL, RACERS), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, race_main, race), 0);
	cr_assert_eq(pthread_create(&thread[RACERS], NULL, look_main, race), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	race->over = true;
	cr_assert_eq(pthread_join(thread[RACERS], NULL), 0);
	(void)pthread_barrier_destroy(&race->start);
	cr_assert_eq(race->most, limit, "%u at once", race->most);
	source_read_usage(race->books, &usage);
	cr_assert_eq(usage.open, 0);
	cr_assert_eq(usage.unbooked, 0);
	for (unsigned i = 0; i < CROWD; i++) {
		cr_assert_eq(race->inside[i], 0);
		spent += race->spent[i];
	}
	return spent;
}

Test(source_model, threads_leave_the_books_balanced)
{
	static struct race race;
	uint64_t spent = run_race(&race, CROWD, 3, false), lacking = 0, shed = 0;

	for (unsigned i = 0; i < CROWD; i++) {
		struct source_view view;
		struct prefix name = net_of(i);

		cr_assert_eq(source_find(race.books, &name, START, &view), 0);
		cr_assert_eq(view.open, 0);
		shed += view.shed[SHED_FULL];
		lacking += 1000000 - view.tokens;
		cr_assert_eq(1000000 - view.tokens, race.spent[i]);
	}
	cr_assert_eq(lacking, spent);
	cr_assert_gt(spent, 0);
	cr_assert_eq(shed, RACERS * TURNS / 8);
	source_books_destroy(race.books);
}

Test(source_model, threads_past_the_capacity_keep_every_limit)
{
	static struct race race;
	struct source_usage usage;

	/* A place for all that can be open, and a few over for threads on their way. */
	(void)run_race(&race, RACERS * 4, 3, false);
	source_read_usage(race.books, &usage);
	cr_assert_gt(usage.forgotten, 1000);
	for (unsigned i = 0; i < CROWD; i++) {
		struct source_view view;
		struct prefix name = net_of(i);

		(void)source_find(race.books, &name, START, &view);
		cr_assert_eq(view.open, 0);
	}
	take_all_entries(race.books, usage.capacity);
	source_books_destroy(race.books);
}

Test(source_model, threads_that_bring_the_same_source_make_one_of_it)
{
	static struct race race;
	struct source_usage usage;

	(void)run_race(&race, RACERS * 4, 1, true);
	source_read_usage(race.books, &usage);
	cr_assert_gt(usage.forgotten, 1000);
	take_all_entries(race.books, usage.capacity);
	source_books_destroy(race.books);
}
