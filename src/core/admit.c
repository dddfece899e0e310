/*
 * admit.c - the slots. Invariant: used never exceeds max by a take (a reload may lower
 * max below what is open), and a private table's used never exceeds table_slots.
 */
#include "core/admit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int admit_init(struct admit *a, uint32_t max, unsigned low_percent, uint32_t table_slots,
        unsigned workers)
{
	size_t size = sizeof(struct admit_table) * workers;
	a->table = aligned_alloc(_Alignof(struct admit_table), size);
	if (!a->table)
		return -ENOMEM;
	memset(a->table, 0, size);
	a->n_tables = workers;
	atomic_init(&a->used, 0);
	admit_set_max(a, max, low_percent, table_slots);
	return 0;
}

void admit_destroy(struct admit *a)
{
	free(a->table);
	a->table = NULL;
}

void admit_set_max(
        struct admit *a, uint32_t max, unsigned low_percent, uint32_t table_slots)
{
	atomic_store(&a->table_slots, table_slots);
	atomic_store(&a->low, (uint32_t)((uint64_t)max * low_percent / 100));
	atomic_store(&a->max, max);
}

/* Adds one to *used unless it is at max already. */
static bool take_one(_Atomic uint32_t *used, uint32_t max)
{
	uint32_t n = atomic_load(used);
	while (n < max) {
		if (atomic_compare_exchange_weak(used, &n, n + 1))
			return true;
	}
	return false;
}

int admit_take(struct admit *a, unsigned worker)
{
	struct admit_table *table = &a->table[worker];
	if (atomic_load_explicit(&table->is_short, memory_order_relaxed))
		return ADMIT_SHORT;
	uint32_t slots = atomic_load_explicit(&a->table_slots, memory_order_relaxed);
	if (slots > 0 && !take_one(&table->used, slots))
		return ADMIT_TABLE_FULL;
	if (!take_one(&a->used, atomic_load_explicit(&a->max, memory_order_relaxed))) {
		if (slots > 0)
			atomic_fetch_sub(&table->used, 1);
		return ADMIT_FULL;
	}
	return 0;
}

void admit_take_over(struct admit *a, unsigned worker)
{
	if (atomic_load_explicit(&a->table_slots, memory_order_relaxed) > 0)
		atomic_fetch_add(&a->table[worker].used, 1);
	atomic_fetch_add(&a->used, 1);
}

void admit_set_priority(struct admit *a, uint32_t max)
{
	atomic_store(&a->priority_max, max);
}

int admit_take_priority(struct admit *a)
{
	return take_one(&a->priority_used, atomic_load(&a->priority_max)) ? 0
	                                                                  : ADMIT_FULL;
}

void admit_give_priority(struct admit *a)
{
	atomic_fetch_sub(&a->priority_used, 1);
}

void admit_give(struct admit *a, unsigned worker)
{
	if (atomic_load_explicit(&a->table_slots, memory_order_relaxed) > 0)
		atomic_fetch_sub(&a->table[worker].used, 1);
	atomic_fetch_sub(&a->used, 1);
}

bool admit_can_take(const struct admit *a, unsigned worker)
{
	const struct admit_table *table = &a->table[worker];
	return !atomic_load(&table->is_short) &&
	       (a->table_slots == 0 || atomic_load(&table->used) < a->table_slots) &&
	       admit_free(a) > 0;
}

uint32_t admit_free(const struct admit *a)
{
	uint32_t used = atomic_load(&a->used), max = atomic_load(&a->max);
	return used < max ? max - used : 0;
}

void admit_set_short(struct admit *a, unsigned worker, bool is_short)
{
	atomic_store(&a->table[worker].is_short, is_short);
}
