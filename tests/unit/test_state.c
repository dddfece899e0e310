/*
 * test_state.c - the table of states with a clock of the test's own: which one holds,
 * exactly how long each has held, and a spell that begins and ends once whoever tries.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/own.h"
#include "core/state.h"

#define S(n) ((uint64_t)(n)*1000000000U)
#define T0   S(1000)

/* The state at now, and the whole seconds in each so far. */
static void assert_times(struct state_machine *m, uint64_t now, enum state state,
        const uint64_t expected[STATE_COUNT])
{
	uint64_t in_state[STATE_COUNT];
	uint64_t sum = 0;

	cr_assert_eq(state_read(m, now, in_state), state, "state %s at %lu s",
	        state_name(state_read(m, now, NULL)), (unsigned long)((now - T0) / S(1)));
	for (unsigned i = 0; i < STATE_COUNT; i++) {
		cr_assert_eq(in_state[i], S(expected[i]), "%lu ns in %s",
		        (unsigned long)in_state[i], state_name(i));
		sum += in_state[i];
	}
	cr_assert_eq(sum, now - T0);
}

static void assert_state(struct state_machine *m, uint64_t now, enum state state,
        uint64_t open, uint64_t shedding, uint64_t full, uint64_t draining)
{
	const uint64_t expected[STATE_COUNT] = {open, shedding, full, draining};
	assert_times(m, now, state, expected);
}

Test(state, starts_open_and_stays_so)
{
	struct state_machine m;

	state_init(&m, T0);
	assert_state(&m, T0, STATE_OPEN, 0, 0, 0, 0);
	assert_state(&m, T0 + S(3600), STATE_OPEN, 3600, 0, 0, 0);
}

Test(state, shedding_expires_by_itself_after_5_s)
{
	struct state_machine m;

	state_init(&m, T0);
	state_note_shed(&m, true, T0 + S(10));
	assert_state(&m, T0 + S(10), STATE_SHEDDING, 10, 0, 0, 0);
	assert_state(&m, T0 + S(12), STATE_SHEDDING, 10, 2, 0, 0);
	cr_assert_eq(state_read(&m, T0 + S(15) - 1, NULL), STATE_SHEDDING);
	assert_state(&m, T0 + S(15), STATE_OPEN, 10, 5, 0, 0);
	/* Nobody asked between: the expiry is found afterwards. */
	state_note_shed(&m, true, T0 + S(20));
	assert_state(&m, T0 + S(100), STATE_OPEN, 90, 10, 0, 0);
}

Test(state, another_shed_prolongs_shedding)
{
	struct state_machine m;

	state_init(&m, T0);
	state_note_shed(&m, true, T0);
	state_note_shed(&m, true, T0 + S(4));
	assert_state(&m, T0 + S(8), STATE_SHEDDING, 0, 8, 0, 0);
	/* Found late, the gap between two of them is open time. */
	state_note_shed(&m, true, T0 + S(20));
	assert_state(&m, T0 + S(21), STATE_SHEDDING, 11, 10, 0, 0);
}

Test(state, a_shed_that_waited_is_no_shedding)
{
	struct state_machine m;

	state_init(&m, T0);
	state_note_shed(&m, false, T0 + S(1));
	assert_state(&m, T0 + S(2), STATE_OPEN, 2, 0, 0, 0);
}

Test(state, shedding_lasts_as_long_as_memory_is_short)
{
	struct state_machine m;

	state_init(&m, T0);
	state_set_no_memory(&m, true, T0 + S(10));
	assert_state(&m, T0 + S(100), STATE_SHEDDING, 10, 90, 0, 0);
	state_note_shed(&m, true, T0 + S(101));
	assert_state(&m, T0 + S(200), STATE_SHEDDING, 10, 190, 0, 0);
	state_set_no_memory(&m, false, T0 + S(200));
	assert_state(&m, T0 + S(210), STATE_OPEN, 20, 190, 0, 0);
	/* 5 s from a shed are over first where memory is. */
	state_set_no_memory(&m, true, T0 + S(300));
	state_note_shed(&m, true, T0 + S(302));
	state_set_no_memory(&m, false, T0 + S(303));
	assert_state(&m, T0 + S(310), STATE_OPEN, 113, 197, 0, 0);
}

Test(state, full_lasts_as_long_as_the_spell)
{
	struct state_machine m;
	struct state_spell spell;

	state_init(&m, T0);
	cr_assert_eq(state_spell_end(&m, T0, &spell), 0);
	cr_assert_not(state_is_spell(&m));
	cr_assert_eq(state_spell_begin(&m, STATE_CAUSE_SLOTS, 7, T0 + S(5)), 1);
	cr_assert_eq(state_spell_begin(&m, STATE_CAUSE_FDS, 9, T0 + S(6)), 0);
	cr_assert(state_is_spell(&m));
	assert_state(&m, T0 + S(65), STATE_FULL, 5, 0, 60, 0);
	cr_assert_eq(state_spell_end(&m, T0 + S(70), &spell), 1);
	cr_assert_eq(state_spell_end(&m, T0 + S(71), &spell), 0);
	cr_assert_not(state_is_spell(&m));
	cr_assert_eq(spell.cause, STATE_CAUSE_SLOTS);
	cr_assert_eq(spell.began, T0 + S(5));
	cr_assert_eq(spell.lasted, S(65));
	cr_assert_eq(spell.depth_began, 7);
	assert_state(&m, T0 + S(80), STATE_OPEN, 15, 0, 65, 0);
}

Test(state, full_outranks_shedding_and_uncovers_it)
{
	struct state_machine m;
	struct state_spell spell;

	state_init(&m, T0);
	state_note_shed(&m, true, T0);
	state_spell_begin(&m, STATE_CAUSE_FDS, 0, T0 + S(1));
	assert_state(&m, T0 + S(2), STATE_FULL, 0, 1, 1, 0);
	state_note_shed(&m, true, T0 + S(3));
	assert_state(&m, T0 + S(4), STATE_FULL, 0, 1, 3, 0);
	cr_assert_eq(state_spell_end(&m, T0 + S(6), &spell), 1);
	cr_assert_eq(spell.cause, STATE_CAUSE_FDS);
	assert_state(&m, T0 + S(6), STATE_SHEDDING, 0, 1, 5, 0);
	/* 5 s after the shed at 3 s. */
	assert_state(&m, T0 + S(10), STATE_OPEN, 2, 3, 5, 0);
}

Test(state, draining_outranks_all_and_uncovers_them)
{
	struct state_machine m;
	struct state_spell spell;

	state_init(&m, T0);
	state_note_shed(&m, true, T0 + S(1));
	state_set_draining(&m, true, T0 + S(2));
	state_set_draining(&m, true, T0 + S(3));
	state_spell_begin(&m, STATE_CAUSE_SLOTS, 0, T0 + S(4));
	assert_state(&m, T0 + S(5), STATE_DRAINING, 1, 1, 0, 3);
	state_set_draining(&m, false, T0 + S(10));
	assert_state(&m, T0 + S(12), STATE_FULL, 1, 1, 2, 8);
	state_set_draining(&m, true, T0 + S(12));
	/* The spell ends while draining covers it. */
	cr_assert_eq(state_spell_end(&m, T0 + S(14), &spell), 1);
	cr_assert_eq(spell.lasted, S(10));
	state_set_draining(&m, false, T0 + S(15));
	assert_state(&m, T0 + S(16), STATE_OPEN, 2, 1, 2, 11);
}

Test(state, a_spell_tells_who_was_shed_and_how_deep_the_queue_was)
{
	struct state_machine m;
	struct state_spell spell;

	state_init(&m, T0);
	state_note_shed(&m, false, T0);
	state_note_depth(&m, 4000);
	state_spell_begin(&m, STATE_CAUSE_SLOTS, 20, T0);
	state_note_depth(&m, 10);
	state_note_depth(&m, 300);
	state_note_depth(&m, 200);
	state_note_shed(&m, false, T0);
	state_note_shed(&m, true, T0);
	cr_assert_eq(state_spell_end(&m, T0, &spell), 1);
	cr_assert_eq(spell.shed, 2);
	cr_assert_eq(spell.depth_began, 20);
	cr_assert_eq(spell.depth_peak, 300);
	cr_assert_eq(spell.lasted, 0);
	/* The next one starts anew. */
	state_spell_begin(&m, STATE_CAUSE_SLOTS, 3, T0 + S(1));
	cr_assert_eq(state_spell_end(&m, T0 + S(2), &spell), 1);
	cr_assert_eq(spell.shed, 0);
	cr_assert_eq(spell.depth_peak, 3);
}

Test(state, a_clock_read_too_early_takes_nothing_back)
{
	struct state_machine m;
	struct state_spell spell;

	state_init(&m, T0);
	assert_state(&m, T0 + S(10), STATE_OPEN, 10, 0, 0, 0);
	state_spell_begin(&m, STATE_CAUSE_SLOTS, 0, T0 + S(9));
	cr_assert_eq(state_spell_end(&m, T0 + S(8), &spell), 1);
	cr_assert_eq(spell.lasted, 0);
	state_note_shed(&m, true, T0 + S(9));
	state_note_shed(&m, true, T0 + S(7));
	assert_state(&m, T0 + S(20), STATE_OPEN, 16, 4, 0, 0);
}

/* The same rules once more, one second after the other. */
struct model {
	bool draining, spell, down, no_memory;
	int64_t shed_at;
	uint64_t in_state[STATE_COUNT];
};

static enum state model_state(const struct model *model, int64_t second)
{
	if (model->down)
		return STATE_DOWN;
	if (model->draining)
		return STATE_DRAINING;
	if (model->spell)
		return STATE_FULL;
	return model->no_memory || second < model->shed_at + 5 ? STATE_SHEDDING
	                                                       : STATE_OPEN;
}

Test(state, agrees_with_a_model_that_counts_seconds)
{
	struct model model = {.shed_at = -100};
	struct state_machine m;
	struct state_spell spell;
	unsigned seed = 20240501;

	state_init(&m, T0);
	for (int64_t second = 0; second < 20000; second++) {
		uint64_t now = T0 + S(second);

		switch (rand_r(&seed) % 24) {
		case 0:
			state_note_shed(&m, true, now);
			model.shed_at = second;
			break;
		case 1:
			state_spell_begin(&m, STATE_CAUSE_SLOTS, 0, now);
			model.spell = true;
			break;
		case 2:
		case 3:
			state_spell_end(&m, now, &spell);
			model.spell = false;
			break;
		case 4:
			state_set_draining(&m, !model.draining, now);
			model.draining = !model.draining;
			break;
		case 6:
		case 7:
			model.down = !model.down && rand_r(&seed) % 4 == 0;
			state_set_down(&m, model.down, now);
			break;
		case 8:
			model.no_memory = !model.no_memory && rand_r(&seed) % 4 == 0;
			state_set_no_memory(&m, model.no_memory, now);
			break;
		case 5:
			assert_times(
			        &m, now, model_state(&model, second), model.in_state);
			break;
		default:
			break;
		}
		model.in_state[model_state(&model, second)]++;
	}
	for (unsigned i = 0; i < STATE_COUNT; i++)
		cr_assert_gt(model.in_state[i], 100, "%s untried", state_name(i));
}

#define THREADS 4
#define ROUNDS  500

static struct state_machine contested;
static pthread_barrier_t barrier;
static _Atomic unsigned began[ROUNDS], ended[ROUNDS];
static _Atomic uint64_t told, wrong_peaks;

static void *contest(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct state_spell spell;

		pthread_barrier_wait(&barrier);
		began[i] += state_spell_begin(
		                    &contested, STATE_CAUSE_SLOTS, 0, T0 + S(i)) == 1;
		pthread_barrier_wait(&barrier);
		state_note_shed(&contested, i % 2, T0 + S(i));
		state_note_depth(&contested, i);
		pthread_barrier_wait(&barrier);
		if (state_spell_end(&contested, T0 + S(i + 1), &spell)) {
			ended[i]++;
			told += spell.shed;
			wrong_peaks += spell.depth_peak != i;
		}
	}
	return NULL;
}

Test(state, one_thread_of_many_begins_a_spell_and_one_ends_it)
{
	pthread_t threads[THREADS];

	state_init(&contested, T0);
	cr_assert_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (size_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, contest, NULL), 0);
	for (size_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_join(threads[i], NULL), 0);
	for (size_t i = 0; i < ROUNDS; i++) {
		cr_assert_eq(began[i], 1, "round %zu", i);
		cr_assert_eq(ended[i], 1, "round %zu", i);
	}
	cr_assert_eq(told, THREADS * ROUNDS);
	cr_assert_eq(wrong_peaks, 0);
	assert_state(&contested, T0 + S(ROUNDS), STATE_SHEDDING, 0, 0, ROUNDS, 0);
}

Test(state, words)
{
	cr_assert_str_eq(state_name(STATE_OPEN), "open");
	cr_assert_str_eq(state_name(STATE_SHEDDING), "shedding");
	cr_assert_str_eq(state_name(STATE_FULL), "full");
	cr_assert_str_eq(state_name(STATE_DRAINING), "draining");
	cr_assert_str_eq(state_name(STATE_DOWN), "down");
	cr_assert_str_eq(state_name(STATE_COUNT), "?");
}
