/*
 * state.h - open, shedding, full, draining, down: which one holds, since when, and for how
 * long each has held in all.
 *
 * The first that holds, in this order:
 *
 *   down       nobody can connect, and not for want of room: the kernel does not listen for
 *              portd, or accept4 fails for everybody
 *   draining   the operator said so, or portd is stopping
 *   full       a spell without slots or without descriptors, from the moment that the last one
 *              went (or a client found none) until open connections are down to low_watermark
 *              and a slot is free again
 *   shedding   somebody was shed in the last 5 s because there was not enough for it, and it was
 *              not to wait: the reasons that sheds.def calls SHORT. Who was refused on purpose
 *              says nothing about the room for others. Or memory is short, so that whoever comes
 *              will be shed: nobody need come for it to hold
 *   open       else
 *
 * Any thread may call these; a short mutex guards the transitions, which are rare. Time
 * comes in as an argument (ns, monotonic), so that tests own the clock.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum state {
	STATE_OPEN,
	STATE_SHEDDING,
	STATE_FULL,
	STATE_DRAINING,
	STATE_DOWN,
	STATE_COUNT
};

#define STATE_SHEDDING_NS (UINT64_C(5) * 1000000000)

/* What began a spell. */
enum state_cause {
	STATE_CAUSE_SLOTS,
	STATE_CAUSE_FDS
};

/* One spell of being full, as told to the operator when it ends. */
struct state_spell {
	enum state_cause cause;
	uint64_t began;       /* ns */
	uint64_t lasted;      /* ns; set when it has ended */
	uint64_t shed;        /* clients shed meanwhile, any reason but aborted */
	uint64_t depth_began; /* of the backlog queue */
	uint64_t depth_peak;
};

struct state_machine {
	pthread_mutex_t lock;
	uint64_t since; /* up to when in_state is settled */
	uint64_t in_state[STATE_COUNT];
	uint64_t shed_at; /* the last shed for a reason that is SHORT; 0: none */
	bool draining, down, no_memory;
	struct state_spell spell; /* while in_spell */
	_Atomic bool in_spell;    /* read without the lock on the hot path */
	_Atomic uint64_t spell_shed;
	_Atomic uint64_t spell_depth_peak;
};

/* Starts in `open` at now. */
void state_init(struct state_machine *m, uint64_t now);

/* A spell begins, unless one is on. Returns 1 if this call began it, else 0. */
int state_spell_begin(
        struct state_machine *m, enum state_cause cause, uint64_t depth, uint64_t now);
/* The spell ends, if one is on. Returns 1 and fills *ret if this call ended it, else 0.
 */
int state_spell_end(struct state_machine *m, uint64_t now, struct state_spell *ret);

/* The spell that is on. Returns true and fills *ret (lasted: so far) if one is. */
bool state_read_spell(struct state_machine *m, uint64_t now, struct state_spell *ret);

static inline bool state_is_spell(const struct state_machine *m)
{
	return atomic_load_explicit(&m->in_spell, memory_order_seq_cst);
}

/* Somebody was shed. is_short: for a reason that is SHORT. Returns whether it counts to a spell that
 * is on. */
bool state_note_shed(struct state_machine *m, bool is_short, uint64_t now);
/* The queue was seen this deep. */
void state_note_depth(struct state_machine *m, uint64_t depth);
void state_set_draining(struct state_machine *m, bool draining, uint64_t now);
void state_set_down(struct state_machine *m, bool down, uint64_t now);
/* Memory is short, and newcomers are shed for it, or it is so no longer. */
void state_set_no_memory(struct state_machine *m, bool no_memory, uint64_t now);

/* The state that holds now; ret_in_state, if not NULL, gets the time in each so far, in
 * ns. */
enum state state_read(
        struct state_machine *m, uint64_t now, uint64_t ret_in_state[STATE_COUNT]);

/* "open", "shedding", "full", "draining", "down". */
const char *state_name(enum state s);

#endif
