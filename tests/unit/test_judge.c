/*
 * test_judge.c - who is refused and why, in any sequence of newcomers, against a model that keeps
 * every token ever taken; and the slots for everybody and for priority sources against plain numbers.
 */
#include "rig.h"

#include <stdlib.h>

#include "core/judge.h"
#include "net/prefix.h"
#include "serve/echo.h"

#define STEPS   1500
#define NETS    64
#define TICKETS 256

/* A bucket as it is defined: full at first, and each token taken at a time. Of those that were given
 * back later on, it may be that none ever was taken, or that some were spilt: both bounds are right. */
struct model_bucket {
	struct {
		uint64_t at;
		bool back;
	} taken[STEPS];
	unsigned n;
};

struct model_ticket {
	struct ticket ticket;
	unsigned net;
	bool open;
};

struct model {
	struct rig rig;
	unsigned open[NETS], n_open, n_tickets;
	struct model_bucket source[NETS], all;
	struct model_ticket ticket[TICKETS];
	uint64_t began;
	double owed; /* to start_at, since the beginning, less who was shed for it */
	unsigned seen[SHED_COUNT + 1];
};

/* Somebody, and what the model knows of the address without looking at its bits. */
struct somebody {
	struct addr addr;
	unsigned net;
	bool denied, priority;
};

/* Is there a token? `spilt`: what was given back was spilt. */
static bool has_token(const struct model_bucket *b, uint64_t rate, uint64_t burst,
        uint64_t began, uint64_t now, bool spilt)
{
	uint64_t full = burst * CLOCK_SEC, level = full, last = began;
	if (rate == 0)
		return true;
	for (unsigned i = 0; i <= b->n; i++) {
		uint64_t at = i < b->n ? b->taken[i].at : now;
		uint64_t more = level + rate * (at - last);
		if (i < b->n && b->taken[i].back && !spilt)
			continue;
		level = more < full ? more : full;
		last = at;
		if (i < b->n)
			level -= level < CLOCK_SEC ? level : CLOCK_SEC;
	}
	return level >= CLOCK_SEC;
}

static void take_token(struct model_bucket *b, uint64_t now)
{
	b->taken[b->n].at = now;
	b->taken[b->n++].back = false;
}

static void give_back(struct model_bucket *b, uint64_t taken)
{
	unsigned i = b->n;
	while (i > 0 && (b->taken[i - 1].at != taken || b->taken[i - 1].back))
		i--;
	cr_assert_gt(i, 0, "the model has no such token");
	b->taken[i - 1].back = true;
}

static struct somebody anybody(const struct config *c)
{
	struct somebody s = {.addr = {.family = AF_INET}};
	unsigned a = (unsigned)rand() % 4, b = 1 + (unsigned)rand() % 4;
	switch (rand() % 8) {
	case 0: /* 192.0.2.b, in nobody's list */
		memcpy(s.addr.bytes, (uint8_t[]){192, 0, 2, (uint8_t)b}, 4);
		s.net = c->prefix4 == 32 ? b : 0;
		s.denied = c->source_allow != NULL;
		break;
	case 1: /* 2001:db8:0:a::b */
		s.addr.family = AF_INET6;
		memcpy(s.addr.bytes,
		        (uint8_t[]){0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, (uint8_t)a}, 8);
		s.addr.bytes[15] = (uint8_t)b;
		s.net = 8 + a;
		break;
	default: /* 10.0.a.b */
		memcpy(s.addr.bytes, (uint8_t[]){10, 0, (uint8_t)a, (uint8_t)b}, 4);
		s.net = c->prefix4 == 32 ? 16 + a * 8 + b : 16 + a * 8;
		s.denied = a == 3 && b == 2;
		s.priority = a == 1 && b <= 3;
		break;
	}
	return s;
}

/* How much of a newcomer start_at asks for, 0 to 1. */
static double pressure(const struct model *m)
{
	const struct config *c = &m->rig.config;
	uint64_t max = m->rig.budget.max_connections, start = max * c->start_at / 100;
	if (c->start_at >= 100 || m->n_open <= start)
		return 0;
	return m->n_open >= max ? 1 : (double)(m->n_open - start) / (double)(max - start);
}

/* What the model says, by either bound; SHED_PRESSURE stands for whatever start_at makes of it. */
static enum shed_reason expect(const struct model *m, const struct somebody *s,
        bool source_spilt, bool all_spilt)
{
	const struct config *c = &m->rig.config;
	if (s->denied)
		return SHED_DENIED;
	if (c->source_max_connections > 0 && m->open[s->net] >= c->source_max_connections)
		return SHED_SOURCE_LIMIT;
	if (!s->priority && !has_token(&m->source[s->net], c->source_rate,
	                            c->source_burst, m->began, m->rig.now, source_spilt))
		return SHED_SOURCE_RATE;
	if (s->priority)
		return SHED_COUNT;
	if (!has_token(&m->all, c->rate, c->burst, m->began, m->rig.now, all_spilt))
		return SHED_RATE;
	return pressure(m) > 0 ? SHED_PRESSURE : SHED_COUNT;
}

/* Is it one of those that the bounds allow? */
static bool is_right(
        const struct model *m, const struct somebody *s, enum shed_reason seen)
{
	for (unsigned i = 0; i < 4; i++) {
		enum shed_reason wanted = expect(m, s, i & 1, i & 2);
		if (seen == wanted || (seen == SHED_COUNT && wanted == SHED_PRESSURE))
			return true;
	}
	return false;
}

/* Its tokens and its place in the books, in the model. */
static void book(struct model *m, const struct somebody *s, const struct ticket *ticket)
{
	const struct config *c = &m->rig.config;
	struct model_ticket *t = &m->ticket[m->n_tickets++];
	*t = (struct model_ticket){
	        .ticket = *ticket, .net = s->net, .open = rand() % 4 > 0};
	m->open[s->net]++;
	if (!s->priority && c->source_rate > 0)
		take_token(&m->source[s->net], m->rig.now);
	if (!s->priority && c->rate > 0)
		take_token(&m->all, m->rig.now);
	m->n_open += t->open;
}

static const char *name_of(enum shed_reason reason)
{
	return reason < SHED_COUNT ? counters_shed_name(reason) : "good";
}

static void newcomer(struct model *m)
{
	struct worker *w = rig_worker(&m->rig, 0);
	struct somebody s = anybody(&m->rig.config);
	enum shed_reason seen = SHED_COUNT;
	struct ticket ticket;
	int r = judge_newcomer(w, &s.addr, &ticket, &seen);
	cr_assert(r == 0 || r == 1);
	if (r == 0)
		seen = SHED_COUNT;
	m->seen[seen]++;
	cr_assert(is_right(m, &s, seen),
	        "said %s; right is %s, or, tokens given back, %s", name_of(seen),
	        name_of(expect(m, &s, true, true)), name_of(expect(m, &s, false, false)));
	if (!s.priority && (seen == SHED_PRESSURE || seen == SHED_COUNT)) {
		m->owed += pressure(m) - (seen == SHED_PRESSURE);
		cr_assert(m->owed > -1e-6 && m->owed < 1 + 1e-6, "%g newcomers are owed",
		        m->owed);
	}
	if (r == 0) {
		cr_assert_eq(ticket.priority, s.priority);
		book(m, &s, &ticket);
	}
}

/* One that was judged good has ended: it was open, or it was never served. */
static void end_one(struct model *m, unsigned i)
{
	struct worker *w = rig_worker(&m->rig, 0);
	struct model_ticket *t = &m->ticket[i];
	const struct config *c = &m->rig.config;
	m->open[t->net]--;
	if (t->open) {
		m->n_open--;
		source_give(m->rig.port->sources, t->ticket.source.entry, m->rig.now);
	} else {
		judge_undo(w, &t->ticket);
		if (!t->ticket.priority && c->source_rate > 0)
			give_back(&m->source[t->net], t->ticket.source.taken);
		if (!t->ticket.priority && c->rate > 0)
			give_back(&m->all, t->ticket.taken);
	}
	*t = m->ticket[--m->n_tickets];
}

static void step(struct model *m)
{
	static const uint64_t spans[] = {
	        0, 0, 0, 1, CLOCK_MSEC, 30 * CLOCK_MSEC, 333333333, CLOCK_SEC / 3};
	m->rig.now += spans[(unsigned)rand() % ARRAY_SIZE(spans)];
	rig_worker(&m->rig, 0)->now = m->rig.now;
	if (m->n_tickets == TICKETS || (m->n_tickets > 0 && rand() % 3 == 0))
		end_one(m, (unsigned)rand() % m->n_tickets);
	else
		newcomer(m);
	/* What the workers count, port_ordinary adds up. */
	atomic_store(&rig_worker(&m->rig, 0)->conns.open, m->n_open);
}

static struct prefix_set *set_of(const char *text)
{
	struct prefix_set *set = NULL;
	cr_assert_eq(prefix_set_parse(text, &set, NULL, NULL), 0);
	return set;
}

RIG_FN void play(unsigned seed)
{
	struct model *m = calloc(1, sizeof(*m));
	cr_assert_not_null(m);
	srand(seed);
	rig_init(&m->rig, 1, 20);
	struct config *c = &m->rig.config;
	c->prefix4 = rand() % 2 ? 24 : 32;
	c->source_max_connections = (uint64_t)(rand() % 3) * 2;
	c->source_rate = (uint64_t)(rand() % 3) * 3;
	c->source_burst = 1 + (uint64_t)(rand() % 5);
	c->rate = (uint64_t)(rand() % 3) * 7;
	c->burst = 1 + (uint64_t)(rand() % 9);
	c->start_at = (uint64_t)(rand() % 5) * 25;
	c->source_deny = set_of("10.0.3.2");
	c->source_priority = set_of("10.0.1.0/30");
	if (rand() % 2)
		c->source_allow = set_of("10.0.0.0/8 2001:db8::/32");
	rig_open(&m->rig, &echo_service);
	/* The first second after a change of the rates gives no tokens back. */
	m->began = m->rig.now += 2 * CLOCK_SEC;

	for (unsigned i = 0; i < STEPS; i++)
		step(m);
	while (m->n_tickets > 0)
		end_one(m, m->n_tickets - 1);
	struct source_usage usage;
	source_read_usage(m->rig.port->sources, &usage);
	cr_assert_eq(usage.open, 0, "%u sources have something open", usage.open);
	cr_assert_gt(m->seen[SHED_COUNT], 0, "nobody was ever let in");
	cr_assert_gt(m->seen[SHED_DENIED], 0);

	atomic_store(&rig_worker(&m->rig, 0)->conns.open, 0);
	rig_close(&m->rig);
	c->source_deny = prefix_set_free(c->source_deny);
	c->source_allow = prefix_set_free(c->source_allow);
	c->source_priority = prefix_set_free(c->source_priority);
	free(m);
}

Test(judge, any_sequence_of_newcomers)
{
	for (unsigned seed = 1; seed <= 200; seed++)
		play(seed);
}

static unsigned let_in(struct rig *rig, unsigned times, struct ticket *ret)
{
	const struct addr addr = {.family = AF_INET, .bytes = {10, 0, 0, 1}};
	enum shed_reason reason;
	unsigned n = 0;
	rig_worker(rig, 0)->now = rig->now;
	for (unsigned i = 0; i < times; i++)
		n += judge_newcomer(rig_worker(rig, 0), &addr, &ret[n], &reason) == 0;
	return n;
}

/* Two had tokens and were not served. In the second between, a token came that is spilt once both are
 * given back: not three may come at once where the burst is two. */
static void give_two_back(bool of_source)
{
	struct rig rig;
	struct ticket ticket[8];
	rig_init(&rig, 1, 20);
	*(of_source ? &rig.config.source_rate : &rig.config.rate) = 1;
	*(of_source ? &rig.config.source_burst : &rig.config.burst) = 2;
	rig_open(&rig, &echo_service);
	rig.now += 2 * CLOCK_SEC;
	cr_assert_eq(let_in(&rig, 3, ticket), 2, "the burst");
	rig.now += CLOCK_SEC;
	cr_assert_eq(let_in(&rig, 2, &ticket[2]), 1, "the rate");
	judge_undo(rig_worker(&rig, 0), &ticket[0]);
	judge_undo(rig_worker(&rig, 0), &ticket[1]);
	cr_assert_leq(let_in(&rig, 3, &ticket[3]), 1, "more than the burst at once");
	rig_close(&rig);
}

Test(judge, tokens_given_back_do_not_exceed_the_burst)
{
	give_two_back(false);
	give_two_back(true);
}

/* With one slot there is no share between none and all: start_at lets one in. */
Test(judge, pressure_never_shuts_the_port)
{
	for (uint64_t max = 1; max <= 5; max++) {
		for (uint64_t start = 0; start <= 100; start++) {
			struct rig rig;
			struct ticket ticket;
			enum shed_reason reason;
			struct addr addr = {.family = AF_INET, .bytes = {10, 0, 0, 1}};
			rig_init(&rig, 1, max);
			rig.config.start_at = start;
			rig_open(&rig, &echo_service);
			for (unsigned i = 0; i < 5; i++)
				cr_assert_eq(judge_newcomer(rig_worker(&rig, 0), &addr,
				                     &ticket, &reason),
				        0, "start_at %u%% of %u, none open",
				        (unsigned)start, (unsigned)max);
			rig_close(&rig);
		}
	}
}

#define WORKERS 3

/* Plain numbers for what struct admit says. */
struct slots {
	unsigned used, max, priority_used, priority_max, table_slots, table[WORKERS];
};

static void assert_slots(const struct admit *a, const struct slots *s)
{
	cr_assert_eq(a->used, s->used);
	cr_assert_eq(a->priority_used, s->priority_used);
	cr_assert_eq(admit_free(a), s->used < s->max ? s->max - s->used : 0);
	for (unsigned i = 0; i < WORKERS; i++)
		cr_assert_eq(admit_can_take(a, i),
		        s->used < s->max &&
		                (s->table_slots == 0 || s->table[i] < s->table_slots));
}

static void take(struct admit *a, struct slots *s, unsigned id)
{
	int wanted = s->table_slots > 0 && s->table[id] >= s->table_slots
	                     ? ADMIT_TABLE_FULL
	             : s->used >= s->max ? ADMIT_FULL
	                                 : 0;
	cr_assert_eq(admit_take(a, id), wanted);
	s->used += wanted == 0;
	s->table[id] += wanted == 0;
}

static void admit_step(struct admit *a, struct slots *s)
{
	unsigned id = (unsigned)rand() % WORKERS;
	switch (rand() % 10) {
	case 0:
		s->max = (unsigned)rand() % 12;
		admit_set_max(a, s->max, 95, s->table_slots);
		break;
	case 1:
		s->priority_max = (unsigned)rand() % 4;
		admit_set_priority(a, s->priority_max);
		break;
	case 2:
	case 3: {
		int wanted = s->priority_used < s->priority_max ? 0 : ADMIT_FULL;
		cr_assert_eq(admit_take_priority(a), wanted);
		s->priority_used += wanted == 0;
		break;
	}
	case 4:
		if (s->priority_used > 0) {
			admit_give_priority(a);
			s->priority_used--;
		}
		break;
	case 5:
	case 6:
		if (s->table[id] > 0) {
			admit_give(a, id);
			s->table[id]--;
			s->used--;
		}
		break;
	default:
		take(a, s, id);
		break;
	}
	assert_slots(a, s);
}

Test(judge, any_sequence_of_slots)
{
	srand(4);
	for (unsigned table_slots = 0; table_slots <= 4; table_slots += 2) {
		struct slots s = {.max = 6, .table_slots = table_slots};
		struct admit a = {0};
		cr_assert_eq(admit_init(&a, s.max, 95, table_slots, WORKERS), 0);
		for (unsigned i = 0; i < 20000; i++)
			admit_step(&a, &s);
		admit_destroy(&a);
	}
}
