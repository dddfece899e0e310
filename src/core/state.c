/*
 * state.c - the state that holds, and the time spent in each.
 *
 * Invariants, under the lock: in_state is settled up to `since`, and its sum is the time
 * from state_init to `since`. Between two settlements `down`, `draining`, `in_spell` and `no_memory`
 * do not change, but `shedding` may have run out unseen: settle() cuts the span there, so nobody
 * needs a timer. A time older than `since` (a caller that read its clock before another
 * one got the lock) settles nothing and never takes anything back.
 *
 *                 last slot or descriptor gone
 *     open ────────────────────────────────────▶ full
 *      │ ▲ ◀──────────────────────────────────── │ ▲
 *      │ │        low_watermark and a free slot  │ │
 *  shed as short  5 s without one   (5 s not over) │
 *      ▼ │                                       ▼ │
 *     shedding ◀───────────────────────────────────┘
 *
 *     Memory that is short is shedding for as long as it is.
 *     draining covers all of them while it lasts, and down covers draining; what is below goes on.
 */
#include "core/state.h"

#include <string.h>

#include "base/clock.h"
#include "base/own.h"

static const char *const state_names[STATE_COUNT] = {
        [STATE_OPEN] = "open",
        [STATE_SHEDDING] = "shedding",
        [STATE_FULL] = "full",
        [STATE_DRAINING] = "draining",
        [STATE_DOWN] = "down",
};

/* When `shedding` runs out; 0 if nobody was shed as short so far. */
static uint64_t shedding_until(const struct state_machine *m)
{
	if (m->no_memory)
		return UINT64_MAX;
	return m->shed_at ? clock_add(m->shed_at, STATE_SHEDDING_NS) : 0;
}

static enum state state_at(const struct state_machine *m, uint64_t now)
{
	if (m->down)
		return STATE_DOWN;
	if (m->draining)
		return STATE_DRAINING;
	if (atomic_load_explicit(&m->in_spell, memory_order_relaxed))
		return STATE_FULL;
	return now < shedding_until(m) ? STATE_SHEDDING : STATE_OPEN;
}

/* Books the time since the last call; before every change of what state_at looks at. */
static void settle(struct state_machine *m, uint64_t now)
{
	if (now <= m->since)
		return;

	enum state first = state_at(m, m->since);
	uint64_t end = now;

	if (first == STATE_SHEDDING && shedding_until(m) < now)
		end = shedding_until(m);
	m->in_state[first] += end - m->since;
	m->in_state[STATE_OPEN] += now - end;
	m->since = now;
}

void state_init(struct state_machine *m, uint64_t now)
{
	memset(m, 0, sizeof(*m));
	/* With default attributes glibc's cannot fail. */
	(void)pthread_mutex_init(&m->lock, NULL);
	m->since = now;
	atomic_init(&m->in_spell, false);
	atomic_init(&m->spell_shed, 0);
	atomic_init(&m->spell_depth_peak, 0);
}

int state_spell_begin(
        struct state_machine *m, enum state_cause cause, uint64_t depth, uint64_t now)
{
	int began = 0;

	pthread_mutex_lock(&m->lock);
	if (!atomic_load(&m->in_spell)) {
		settle(m, now);
		m->spell = (struct state_spell){
		        .cause = cause, .began = now, .depth_began = depth};
		/* Before in_spell: whoever sees the spell adds to its own figures. */
		atomic_store(&m->spell_shed, 0);
		atomic_store(&m->spell_depth_peak, depth);
		atomic_store(&m->in_spell, true);
		began = 1;
	}
	pthread_mutex_unlock(&m->lock);
	return began;
}

/* The spell with its figures so far, under the lock. */
static struct state_spell spell_figures(struct state_machine *m, uint64_t now)
{
	struct state_spell spell = m->spell;

	spell.lasted = now > spell.began ? now - spell.began : 0;
	spell.shed = atomic_load(&m->spell_shed);
	spell.depth_peak = atomic_load(&m->spell_depth_peak);
	return spell;
}

bool state_read_spell(struct state_machine *m, uint64_t now, struct state_spell *ret)
{
	if (!state_is_spell(m))
		return false;
	pthread_mutex_lock(&m->lock);
	bool on = atomic_load(&m->in_spell);
	if (on)
		*ret = spell_figures(m, now);
	pthread_mutex_unlock(&m->lock);
	return on;
}

int state_spell_end(struct state_machine *m, uint64_t now, struct state_spell *ret)
{
	int ended = 0;

	pthread_mutex_lock(&m->lock);
	if (atomic_load(&m->in_spell)) {
		settle(m, now);
		atomic_store(&m->in_spell, false);
		*ret = spell_figures(m, now);
		ended = 1;
	}
	pthread_mutex_unlock(&m->lock);
	return ended;
}

bool state_note_shed(struct state_machine *m, bool is_short, uint64_t now)
{
	bool in_spell = state_is_spell(m);

	if (in_spell)
		atomic_fetch_add_explicit(&m->spell_shed, 1, memory_order_relaxed);
	if (!is_short)
		return in_spell;
	pthread_mutex_lock(&m->lock);
	settle(m, now);
	/* 0 stands for none. */
	if (now > m->shed_at)
		m->shed_at = now;
	pthread_mutex_unlock(&m->lock);
	return in_spell;
}

void state_note_depth(struct state_machine *m, uint64_t depth)
{
	if (!state_is_spell(m))
		return;

	uint64_t peak = atomic_load_explicit(&m->spell_depth_peak, memory_order_relaxed);

	while (depth > peak)
		if (atomic_compare_exchange_weak_explicit(&m->spell_depth_peak, &peak,
		            depth, memory_order_relaxed, memory_order_relaxed))
			break;
}

void state_set_draining(struct state_machine *m, bool draining, uint64_t now)
{
	pthread_mutex_lock(&m->lock);
	settle(m, now);
	m->draining = draining;
	pthread_mutex_unlock(&m->lock);
}

void state_set_no_memory(struct state_machine *m, bool no_memory, uint64_t now)
{
	pthread_mutex_lock(&m->lock);
	settle(m, now);
	m->no_memory = no_memory;
	pthread_mutex_unlock(&m->lock);
}

void state_set_down(struct state_machine *m, bool down, uint64_t now)
{
	pthread_mutex_lock(&m->lock);
	settle(m, now);
	m->down = down;
	pthread_mutex_unlock(&m->lock);
}

enum state state_read(
        struct state_machine *m, uint64_t now, uint64_t ret_in_state[STATE_COUNT])
{
	pthread_mutex_lock(&m->lock);
	settle(m, now);

	enum state state = state_at(m, now);

	if (ret_in_state)
		memcpy(ret_in_state, m->in_state, sizeof(m->in_state));
	pthread_mutex_unlock(&m->lock);
	return state;
}

const char *state_name(enum state s)
{
	return (size_t)s < ARRAY_SIZE(state_names) ? state_names[s] : "?";
}
