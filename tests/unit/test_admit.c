/*
 * test_admit.c - the slots: never more than max, in one thread against a model and in
 * four against each other.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "core/admit.h"

static void make(struct admit *a, uint32_t max, uint32_t table_slots, unsigned workers)
{
	cr_assert_eq(admit_init(a, max, 95, table_slots, workers), 0);
	cr_assert_eq(admit_free(a), max);
}

Test(admit, gives_out_max_and_no_more)
{
	struct admit a;
	make(&a, 3, 0, 2);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(admit_can_take(&a, 0));
		cr_assert_eq(admit_take(&a, i % 2), 0);
		cr_assert_eq(admit_free(&a), 2 - i);
	}
	cr_assert_not(admit_can_take(&a, 0));
	cr_assert_eq(admit_take(&a, 0), ADMIT_FULL);
	cr_assert_eq(admit_take(&a, 1), ADMIT_FULL);
	admit_give(&a, 1);
	cr_assert(admit_can_take(&a, 0));
	cr_assert_eq(admit_take(&a, 0), 0);
	cr_assert_eq(a.used, 3);
	admit_destroy(&a);
	cr_assert_null(a.table);
	admit_destroy(&a);
}

Test(admit, a_private_table_has_its_own_end)
{
	struct admit a;
	make(&a, 5, 2, 2);
	cr_assert_eq(admit_take(&a, 0), 0);
	cr_assert_eq(admit_take(&a, 0), 0);
	cr_assert_eq(admit_take(&a, 0), ADMIT_TABLE_FULL);
	cr_assert_not(admit_can_take(&a, 0));
	cr_assert(admit_can_take(&a, 1), "another table has room");
	cr_assert_eq(admit_free(&a), 3);
	admit_give(&a, 0);
	cr_assert_eq(admit_take(&a, 0), 0);
	admit_destroy(&a);
}

Test(admit, a_full_pool_leaves_no_trace_in_the_table)
{
	struct admit a;
	make(&a, 1, 1, 2);
	cr_assert_eq(admit_take(&a, 0), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(admit_take(&a, 1), ADMIT_FULL);
	cr_assert_eq(a.table[1].used, 0);
	admit_give(&a, 0);
	cr_assert_eq(admit_take(&a, 1), 0);
	admit_destroy(&a);
}

Test(admit, who_is_short_takes_nothing)
{
	struct admit a;
	make(&a, 4, 0, 2);
	admit_set_short(&a, 0, true);
	cr_assert(admit_is_short(&a, 0));
	cr_assert_eq(admit_take(&a, 0), ADMIT_SHORT);
	cr_assert_not(admit_can_take(&a, 0));
	cr_assert_eq(admit_take(&a, 1), 0, "the other one is not short");
	cr_assert_eq(a.used, 1);
	admit_set_short(&a, 0, false);
	cr_assert_eq(admit_take(&a, 0), 0);
	admit_destroy(&a);
}

Test(admit, a_lowered_max_lets_the_open_ones_stay_and_nobody_in)
{
	struct admit a;
	make(&a, 10, 0, 1);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(admit_take(&a, 0), 0);
	admit_set_max(&a, 5, 80, 0);
	cr_assert_eq(a.low, 4);
	cr_assert_eq(admit_free(&a), 0, "not less than none");
	cr_assert_eq(admit_take(&a, 0), ADMIT_FULL);
	for (int i = 0; i < 3; i++) {
		admit_give(&a, 0);
		cr_assert_eq(admit_take(&a, 0), ADMIT_FULL, "%u used", (unsigned)a.used);
	}
	admit_give(&a, 0);
	cr_assert_eq(admit_take(&a, 0), 0);
	admit_set_max(&a, 7, 80, 0);
	cr_assert_eq(admit_free(&a), 2);
	admit_destroy(&a);
}

Test(admit, the_watermark_is_exact_for_large_numbers)
{
	struct admit a;
	make(&a, 1000000, 0, 1);
	cr_assert_eq(a.low, 950000);
	admit_set_max(&a, UINT32_MAX / 2, 100, 0);
	cr_assert_eq(a.low, UINT32_MAX / 2);
	admit_set_max(&a, 1, 95, 0);
	cr_assert_eq(a.low, 0);
	admit_destroy(&a);
}

/* The model: numbers in plain variables, one thread. */
#define MODEL_WORKERS 3

struct model {
	uint32_t max, table_slots, used, of[MODEL_WORKERS];
	bool is_short[MODEL_WORKERS];
};

static int model_take(struct model *m, unsigned worker)
{
	if (m->is_short[worker])
		return ADMIT_SHORT;
	if (m->table_slots > 0 && m->of[worker] >= m->table_slots)
		return ADMIT_TABLE_FULL;
	if (m->used >= m->max)
		return ADMIT_FULL;
	m->used++;
	m->of[worker]++;
	return 0;
}

static void step(struct admit *a, struct model *m)
{
	unsigned worker = (unsigned)rand() % MODEL_WORKERS;
	switch (rand() % 16) {
	case 0:
		m->is_short[worker] = !m->is_short[worker];
		admit_set_short(a, worker, m->is_short[worker]);
		break;
	case 1:
		m->max = 1 + (uint32_t)rand() % 12;
		if (m->table_slots > 0)
			m->table_slots = 1 + (uint32_t)rand() % 6;
		admit_set_max(a, m->max, 95, m->table_slots);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
		if (m->of[worker] > 0) {
			admit_give(a, worker);
			m->of[worker]--;
			m->used--;
		}
		break;
	default: {
		bool could = admit_can_take(a, worker);
		int expected = model_take(m, worker);
		cr_assert_eq(could, expected == 0);
		cr_assert_eq(admit_take(a, worker), expected);
		break;
	}
	}
}

Test(admit, any_sequence_ends_as_the_model_does)
{
	for (unsigned seed = 1; seed <= 60; seed++) {
		struct admit a;
		srand(seed);
		struct model m = {.max = 8, .table_slots = seed % 2 ? 4 : 0};
		make(&a, m.max, m.table_slots, MODEL_WORKERS);
		for (int i = 0; i < 2000; i++) {
			step(&a, &m);
			cr_assert_eq(a.used, m.used, "seed %u step %d", seed, i);
			cr_assert_eq(admit_free(&a), m.used < m.max ? m.max - m.used : 0);
			for (unsigned w = 0; w < MODEL_WORKERS; w++)
				cr_assert_eq(
				        a.table[w].used, m.table_slots > 0 ? m.of[w] : 0);
		}
		admit_destroy(&a);
	}
}

#define RACERS   4
#define RACE_MAX 3

struct race {
	struct admit a;
	_Atomic int inside, most;
	_Atomic unsigned next, taken;
};

static void *take_and_give(void *arg)
{
	struct race *race = arg;
	unsigned id = race->next++;
	for (int i = 0; i < 20000; i++) {
		if (admit_take(&race->a, id) != 0) {
			(void)sched_yield();
			continue;
		}
		int now = ++race->inside, most = race->most;
		while (now > most &&
		        !atomic_compare_exchange_weak(&race->most, &most, now))
			;
		race->taken++;
		if (i % 8 == 0)
			(void)sched_yield();
		race->inside--;
		admit_give(&race->a, id);
	}
	return NULL;
}

Test(admit, four_threads_never_have_more_than_max)
{
	for (uint32_t table_slots = 0; table_slots <= 1; table_slots++) {
		static struct race race;
		pthread_t thread[RACERS];
		race = (struct race){0};
		make(&race.a, RACE_MAX, table_slots, RACERS);
		for (int i = 0; i < RACERS; i++)
			cr_assert_eq(
			        pthread_create(&thread[i], NULL, take_and_give, &race),
			        0);
		for (int i = 0; i < RACERS; i++)
			cr_assert_eq(pthread_join(thread[i], NULL), 0);
		cr_assert_leq(race.most, RACE_MAX, "%d at once", (int)race.most);
		cr_assert_gt(race.taken, 1000);
		cr_assert_eq(race.a.used, 0);
		for (int i = 0; i < RACERS; i++)
			cr_assert_eq(race.a.table[i].used, 0);
		admit_destroy(&race.a);
	}
}
