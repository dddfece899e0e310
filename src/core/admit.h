/*
 * admit.h - ADMIT: the slots. A slot is the right to one open connection, taken before
 * accept and given back at close; one pool for all workers.
 *
 * With private tables a slot is also a place in the table of the worker that takes it. A
 * worker that is short of descriptors (accept4 said so) can take none until it finds one
 * free again.
 *
 * Order, so that nobody waits for a slot that is free (all sequentially consistent): who
 * gives back a slot looks for a holder afterwards; who becomes the holder looks for a
 * slot afterwards.
 *
 * Any thread may call these.
 */
#ifndef CORE_ADMIT_H
#define CORE_ADMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct admit_table {
	_Alignas(64) _Atomic uint32_t used; /* private tables only */
	_Atomic bool is_short;
};

struct admit {
	_Alignas(64) _Atomic uint32_t
	        used; /* slots taken, those of accepts under way included */
	_Alignas(64) _Atomic uint32_t max;
	_Atomic uint32_t
	        low; /* open connections at which a spell of being full may end */
	_Atomic uint32_t table_slots; /* of one private table; 0: tables are shared */
	_Atomic uint32_t priority_used,
	        priority_max; /* slots beyond max, for priority sources */
	unsigned n_tables;
	struct admit_table *table; /* one a worker */
};

/* Outcomes of admit_take beside 0. */
enum admit_refusal {
	ADMIT_FULL = 1,   /* the pool is empty */
	ADMIT_TABLE_FULL, /* this worker's table has no place; another's may */
	ADMIT_SHORT       /* this worker is short of descriptors */
};

/* max slots, over at low_percent of them. table_slots 0: shared. Returns 0 or -ENOMEM. */
int admit_init(struct admit *a, uint32_t max, unsigned low_percent, uint32_t table_slots,
        unsigned workers);
void admit_destroy(struct admit *a);

/* New values after a reload; connections above max stay. */
void admit_set_max(
        struct admit *a, uint32_t max, unsigned low_percent, uint32_t table_slots);

/* Takes a slot for the worker. Returns 0 or an enum admit_refusal. */
int admit_take(struct admit *a, unsigned worker);
void admit_give(struct admit *a, unsigned worker);
/* Takes one beyond all bounds, to be given back like any other. */
void admit_take_over(struct admit *a, unsigned worker);

/* The further slots, for priority sources. Their places in private tables are kept besides
 * table_slots. A lower number takes nothing back. */
void admit_set_priority(struct admit *a, uint32_t max);
/* Takes one of them. Returns 0 or ADMIT_FULL. */
int admit_take_priority(struct admit *a);
void admit_give_priority(struct admit *a);

/* Would admit_take succeed now? It may fail all the same a moment later. */
bool admit_can_take(const struct admit *a, unsigned worker);
/* The number of free slots, 0 when more are in use than max. */
uint32_t admit_free(const struct admit *a);

void admit_set_short(struct admit *a, unsigned worker, bool is_short);
static inline bool admit_is_short(const struct admit *a, unsigned worker)
{
	return atomic_load(&a->table[worker].is_short);
}

#endif
